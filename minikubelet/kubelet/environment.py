"""Environment variables of a container: values, references, ``$(VAR)`` expansion."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from minikubelet.kubelet.demands import amounts
from minikubelet.kubelet.env_files import read_variable
from minikubelet.kubelet.expansion import expand
from minikubelet.kubelet.lookups import Lookups, SecretContent
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import EnvVarSource, FileKeySelector
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.objects.volumes import ResourceFieldSelector
from minikubelet.kubelet.quoting import quote
from minikubelet.kubelet.resources import node_cpus, node_memory

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]\Z")


class ContainerConfigError(Exception):
    """A container can't be configured as its pod asks: CreateContainerConfigError."""


@dataclass(frozen=True)
class PodAddresses:
    """Addresses known when a container is made; primary first."""

    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()


@dataclass(frozen=True)
class Known:
    """What variables may refer to beside the pod's spec."""

    lookups: Lookups
    addresses: PodAddresses = field(default_factory=PodAddresses)
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """Of the node: millicores of cpu, else bytes."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Host path by volume name."""


async def make_environment(pod: Pod, container: Container, known: Known) -> dict[str, str]:
    """All variables, in order; later ones see earlier ones. Raises ContainerConfigError.

    Bytes of a Secret that are no UTF-8 are surrogates, as os.fsdecode makes them.
    """
    variables = await _from_sources(pod, container, known.lookups)
    for variable in container.env:
        if variable.value_from is None:
            variables[variable.name] = expand(variable.value, variables)
            continue
        value = await _resolve(pod, container, variable.value_from, known)
        if value is not None:
            variables[variable.name] = value
    return variables


async def _from_sources(pod: Pod, container: Container, lookups: Lookups) -> dict[str, str]:
    variables: dict[str, str] = {}
    namespace = pod.metadata.namespace
    for source in container.env_from:
        data: Mapping[str, str] = {}
        if (named := source.config_map_ref) is not None:
            config_map = await lookups.config_map(namespace, named.name)
            if config_map is None and not named.optional:
                raise ContainerConfigError(f'configmap "{named.name}" not found')
            data = config_map.data if config_map is not None else {}
        elif (hidden := source.secret_ref) is not None:
            secret = await lookups.secret(namespace, hidden.name)
            if secret is None and not hidden.optional:
                raise ContainerConfigError(f'secret "{hidden.name}" not found')
            data = _texts(secret)
        variables |= {source.prefix + key: value for key, value in data.items()}
    return variables


async def _resolve(pod: Pod, container: Container, source: EnvVarSource, known: Known) -> str | None:
    namespace = pod.metadata.namespace
    if source.field_ref is not None:
        return pod_field(pod, source.field_ref.field_path, known.addresses)
    if source.resource_field_ref is not None:
        return resource_field(pod, container, source.resource_field_ref, known.allocatable)
    if (ref := source.config_map_key_ref) is not None:
        config_map = await known.lookups.config_map(namespace, ref.name)
        texts = None if config_map is None else config_map.data
        return _pick(("ConfigMap", namespace, ref.name), ref.key, bool(ref.optional), texts)
    if (hidden := source.secret_key_ref) is not None:
        secret = await known.lookups.secret(namespace, hidden.name)
        texts = None if secret is None else _texts(secret)
        return _pick(("Secret", namespace, hidden.name), hidden.key, bool(hidden.optional), texts)
    if source.file_key_ref is not None:
        return _from_file(source.file_key_ref, known.volumes)
    raise ContainerConfigError("env: valueFrom names no source")


def _texts(secret: SecretContent | None) -> Mapping[str, str]:
    if secret is None:
        return {}
    return {key: value.decode("utf-8", "surrogateescape") for key, value in secret.data.items()}


def _pick(
    which: tuple[str, str, str], key: str, optional: bool, data: Mapping[str, str] | None
) -> str | None:
    if data is not None and key in data:
        return data[key]
    if optional:
        return None
    kind, namespace, name = which
    if data is None:
        raise ContainerConfigError(f'{kind.lower()} "{name}" not found')
    raise ContainerConfigError(f"couldn't find key {key} in {kind} {namespace}/{name}")


def _from_file(ref: FileKeySelector, volumes: Mapping[str, str]) -> str | None:
    """KEP-3721: a variable from a file that an earlier container has written to an emptyDir."""
    if ref.volume_name not in volumes:
        raise ContainerConfigError(f'cannot find the volume "{ref.volume_name}" referenced by FileKeyRef')
    try:
        value = read_variable(volumes[ref.volume_name], ref.path, ref.key)
    except FileNotFoundError:
        if ref.optional:
            return None
        raise ContainerConfigError("couldn't parse env file") from None
    except (OSError, ValueError):
        # What is wrong with it may tell of its content.
        raise ContainerConfigError("couldn't parse env file") from None
    if not value and not ref.optional:
        path = f"{ref.volume_name}/{ref.path}"
        raise ContainerConfigError(f'environment variable key "{ref.key}" not found in file "{path}"')
    return value or None


_FIELDS: dict[str, Callable[[Pod, PodAddresses], str]] = {
    "metadata.name": lambda pod, _: pod.metadata.name,
    "metadata.namespace": lambda pod, _: pod.metadata.namespace,
    "metadata.uid": lambda pod, _: pod.metadata.uid,
    "metadata.labels": lambda pod, _: format_map(pod.metadata.labels),
    "metadata.annotations": lambda pod, _: format_map(pod.metadata.annotations),
    "spec.nodeName": lambda pod, _: pod.spec.node_name,
    "spec.serviceAccountName": lambda pod, _: pod.spec.service_account_name,
    "status.hostIP": lambda _, known: known.host_ips[0] if known.host_ips else "",
    "status.hostIPs": lambda _, known: ",".join(known.host_ips),
    "status.podIP": lambda _, known: known.pod_ips[0] if known.pod_ips else "",
    "status.podIPs": lambda _, known: ",".join(known.pod_ips),
}


def is_pod_field(path: str) -> bool:
    """Whether ``path`` is one that :func:`pod_field` knows."""
    return path in _FIELDS or _SUBSCRIPT.match(path) is not None


def pod_field(pod: Pod, path: str, addresses: PodAddresses) -> str:
    """The value of a downward API field. Raises ContainerConfigError for an unknown path."""
    if match := _SUBSCRIPT.match(path):
        mapping = pod.metadata.labels if match[1] == "labels" else pod.metadata.annotations
        return mapping.get(match[2], "")
    if path not in _FIELDS:
        raise ContainerConfigError(f"unsupported fieldPath: {path}")
    return _FIELDS[path](pod, addresses)


def format_map(values: Mapping[str, str]) -> str:
    """``key="value"`` lines sorted by key, with Go's quoting of the value."""
    return "\n".join(f"{key}={quote(values[key])}" for key in sorted(values))


def resource_field(
    pod: Pod, container: Container, selector: ResourceFieldSelector, allocatable: Mapping[str, int]
) -> str:
    """A container's request or limit divided by the divisor, rounded up; an absent limit is the node's.

    Raises ContainerConfigError.
    """
    target: Container | None = container
    if selector.container_name:
        everyone = [*pod.spec.containers, *pod.spec.init_containers]
        target = next((each for each in everyone if each.name == selector.container_name), None)
    if target is None:
        raise ContainerConfigError(f"container {selector.container_name} not found")
    group, _, name = selector.resource.partition(".")
    known = name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-")
    if group not in ("limits", "requests") or not known:
        raise ContainerConfigError(f"unsupported container resource : {selector.resource}")
    given = target.resources.limits if group == "limits" else target.resources.requests
    value = parse(given.get(name, 0))
    if not value and group == "limits":
        value = _whole_limit(pod, name, allocatable)
    divisor = parse(selector.divisor) if selector.divisor is not None else Fraction(0)
    return str(math.ceil(value / (divisor or 1)))


def _whole_limit(pod: Pod, name: str, allocatable: Mapping[str, int]) -> Fraction:
    """The limit of a container without one: the pod's as a whole, or what the node gives to pods."""
    whole = amounts(pod.spec.resources.limits).get(name) if pod.spec.resources is not None else None
    if whole is None:
        fallback = {"cpu": node_cpus() * 1000, "memory": node_memory()}
        whole = 0 if name.startswith("hugepages-") else allocatable.get(name, fallback.get(name, 0))
    return Fraction(whole, 1000) if name == "cpu" else Fraction(whole)

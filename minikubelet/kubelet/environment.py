"""Environment variables of a container: values, references, ``$(VAR)`` expansion."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from minikubelet.kubelet.lookups import Lookups
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import EnvVarSource
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.objects.volumes import ResourceFieldSelector
from minikubelet.kubelet.resources import node_cpus, node_memory

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]\Z")


class ContainerConfigError(Exception):
    """A container can't be configured as its pod asks: CreateContainerConfigError."""


@dataclass(frozen=True)
class PodAddresses:
    """Addresses known when a container is made; primary first."""

    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by known variables; ``$$`` is a literal ``$``, unknown names stay."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)


async def make_environment(
    pod: Pod, container: Container, addresses: PodAddresses, lookups: Lookups
) -> dict[str, str]:
    """All variables, in order; later ones see earlier ones. Raises ContainerConfigError."""
    variables = await _from_sources(pod, container, lookups)
    for variable in container.env:
        if variable.value_from is None:
            variables[variable.name] = expand(variable.value, variables)
            continue
        value = await _resolve(pod, container, variable.value_from, addresses, lookups)
        if value is not None:
            variables[variable.name] = value
    return variables


async def _from_sources(pod: Pod, container: Container, lookups: Lookups) -> dict[str, str]:
    variables: dict[str, str] = {}
    for source in container.env_from:
        for kind, named, find in (
            ("configmap", source.config_map_ref, lookups.config_map),
            ("secret", source.secret_ref, lookups.secret),
        ):
            if named is None:
                continue
            data = await find(pod.metadata.namespace, named.name)
            if data is None:
                if named.optional:
                    continue
                raise ContainerConfigError(f'{kind} "{named.name}" not found')
            variables |= {source.prefix + key: value.decode() for key, value in data.items()}
    return variables


async def _resolve(
    pod: Pod, container: Container, source: EnvVarSource, addresses: PodAddresses, lookups: Lookups
) -> str | None:
    namespace = pod.metadata.namespace
    if source.field_ref is not None:
        return pod_field(pod, source.field_ref.field_path, addresses)
    if source.resource_field_ref is not None:
        return resource_field(pod, container, source.resource_field_ref)
    if source.config_map_key_ref is not None:
        ref = source.config_map_key_ref
        data = await lookups.config_map(namespace, ref.name)
        return _pick("configmap", namespace, ref.name, ref.key, bool(ref.optional), data)
    if source.secret_key_ref is not None:
        secret = source.secret_key_ref
        data = await lookups.secret(namespace, secret.name)
        return _pick("secret", namespace, secret.name, secret.key, bool(secret.optional), data)
    raise ContainerConfigError("env: valueFrom.fileKeyRef is not supported yet")


def _pick(
    kind: str, namespace: str, name: str, key: str, optional: bool, data: dict[str, bytes] | None
) -> str | None:
    if data is not None and key in data:
        return data[key].decode()
    if optional:
        return None
    if data is None:
        raise ContainerConfigError(f'{kind} "{name}" not found')
    title = "ConfigMap" if kind == "configmap" else "Secret"
    raise ContainerConfigError(f"couldn't find key {key} in {title} {namespace}/{name}")


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
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values))


def _quote(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(char, char) for char in text) + '"'


def resource_field(pod: Pod, container: Container, selector: ResourceFieldSelector) -> str:
    """A container's request or limit divided by the divisor, rounded up; an absent limit is the node's."""
    target = container
    if selector.container_name:
        everyone = [*pod.spec.containers, *pod.spec.init_containers]
        found = next((each for each in everyone if each.name == selector.container_name), None)
        if found is None:
            raise ContainerConfigError(f"no container {selector.container_name!r} in the pod")
        target = found
    group, _, name = selector.resource.partition(".")
    if group not in ("limits", "requests") or not name:
        raise ContainerConfigError(f"unsupported container resource : {selector.resource}")
    amounts = target.resources.limits if group == "limits" else target.resources.requests
    if name in amounts:
        value = parse(amounts[name])
    elif group == "limits" and name in ("cpu", "memory"):
        value = Fraction(node_cpus() if name == "cpu" else node_memory())
    else:
        value = Fraction(0)
    divisor = parse(selector.divisor) if selector.divisor is not None else Fraction(0)
    return str(math.ceil(value / (divisor or 1)))

"""What in a pod has no effect on this node or isn't what it seems; the pod runs all the same.

But for fields without effect it is what upstream's API server warns of (pkg/api/pod/warnings.go), as far
as it concerns a node.
"""

from __future__ import annotations

from collections.abc import Iterator

from minikubelet.kubelet.manifests.yaml_reader import Path, dotted
from minikubelet.kubelet.objects import Container, ContainerPort, Pod
from minikubelet.kubelet.objects import quantity as quantities
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.validation.checker import Problem

_IGNORED = {
    "topology_spread_constraints": "topologySpreadConstraints",
    "service_account_name": "serviceAccountName",
}
_IGNORED_AFFINITY = {"pod_affinity": "podAffinity", "pod_anti_affinity": "podAntiAffinity"}
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_DEAD_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'since Kubernetes 1.16; use the field "priorityClassName"',
    "security.alpha.kubernetes.io/sysctls": 'since Kubernetes 1.11; use the field "sysctls"',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'since Kubernetes 1.11; use the field "sysctls"',
}
_DEAD_SECCOMP = 'since Kubernetes 1.27; use the field "seccompProfile"'
_BYTES = ("memory", "ephemeral-storage")

_Found = Iterator[tuple[Path, str]]


def warnings_for(pod: Pod) -> list[Problem]:
    """All there is to be said of a pod that can be run."""
    found = [*_no_effect(pod), *_dead_annotations(pod), *_twice(pod)]
    earlier: list[tuple[Path, ContainerPort]] = []
    for at, container in _containers(pod):
        found += [*_fractions(at, container), *_hidden_variables(at, container)]
        if "initContainers" not in at or container.restart_policy == "Always":
            found += _ports(at, container, earlier)
    return [Problem(message, field=dotted(path), path=path) for path, message in found]


def _containers(pod: Pod) -> Iterator[tuple[Path, Container]]:
    kinds = (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers))
    for name, containers in kinds:
        for index, container in enumerate(containers):
            yield ("spec", name, index), container


def _no_effect(pod: Pod) -> _Found:
    for attribute, name in _IGNORED.items():
        if getattr(pod.spec, attribute):
            yield ("spec", name), "has no effect on this node"
    for attribute, name in _IGNORED_AFFINITY.items():
        if pod.spec.affinity is not None and getattr(pod.spec.affinity, attribute) is not None:
            yield ("spec", "affinity", name), "has no effect on this node"
    if pod.spec.readiness_gates:
        yield ("spec", "readinessGates"), "keeps the pod from being Ready: nothing here sets such conditions"


def _dead_annotations(pod: Pod) -> _Found:
    dead = dict(_DEAD_ANNOTATIONS)
    security = pod.spec.security_context
    if security is None or security.seccomp_profile is None:
        dead[_SECCOMP] = _DEAD_SECCOMP
    for _, container in _containers(pod):
        own = container.security_context
        if own is None or own.seccomp_profile is None:
            dead[f"{_SECCOMP_CONTAINER}{container.name}"] = _DEAD_SECCOMP
    for key in pod.metadata.annotations:
        if key in dead:
            yield ("metadata", "annotations", key), f"has no effect {dead[key]}"


def _twice(pod: Pod) -> _Found:
    addresses: set[str] = set()
    for index, alias in enumerate(pod.spec.host_aliases):
        if alias.ip in addresses:
            yield ("spec", "hostAliases", index, "ip"), f'duplicate ip "{alias.ip}"'
        addresses.add(alias.ip)
    names: set[str] = set()
    for index, secret in enumerate(pod.spec.image_pull_secrets):
        if not secret.name:
            yield ("spec", "imagePullSecrets", index, "name"), "names no secret"
        elif secret.name in names:
            yield ("spec", "imagePullSecrets", index, "name"), f'duplicate name "{secret.name}"'
        names.add(secret.name)


def _fractions(at: Path, container: Container) -> _Found:
    """``memory: 128m`` is an eighth of a byte."""
    resources = container.resources
    for kind, amounts in (("limits", resources.limits), ("requests", resources.requests)):
        for name in _BYTES:
            default = kind == "requests" and amounts.get(name) == resources.limits.get(name)
            if name in amounts and not default and _is_fraction(amounts[name]):
                why = f'is a part of a byte: "{amounts[name]}" may be meant as "Mi" or "M"'
                yield (*at, "resources", kind, name), why


def _is_fraction(amount: Quantity) -> bool:
    try:
        return quantities.parse(amount).denominator != 1
    except ValueError:
        return False  # an error, told elsewhere


def _hidden_variables(at: Path, container: Container) -> _Found:
    names: set[str] = set()
    for index, variable in enumerate(container.env):
        reference = f"$({variable.name})"
        extends = variable.value_from is None and reference in variable.value and variable.value != reference
        if variable.name in names and not extends:
            yield (*at, "env", index), f'hides the definition of "{variable.name}" before it'
        names.add(variable.name)


def _ports(at: Path, container: Container, earlier: list[tuple[Path, ContainerPort]]) -> _Found:
    """Ports beside those of the containers before, which they are added to."""
    for index, port in enumerate(container.ports):
        path: Path = (*at, "ports", index)
        if port.host_ip and not port.host_port:
            yield path, "hostIP has no effect without hostPort"
        for where, other in earlier:
            if (port.container_port, port.protocol) == (other.container_port, other.protocol):
                host, theirs = (port.host_ip, port.host_port), (other.host_ip, other.host_port)
                kind = "duplicate" if host == theirs else "overlapping"
                if host == theirs or not port.host_port or not other.host_port:
                    yield path, f"{kind} port definition with {dotted(where)}"
        earlier.append((path, port))

"""Whether a pod's nodeSelector and required node affinity let it run on this node.

Upstream's kubelet checks both when it admits a pod, static pods included (component-helpers nodeaffinity).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.podspec import NodeSelectorRequirement, NodeSelectorTerm

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_OS, ARCH, _HOSTNAME = "kubernetes.io/os", "kubernetes.io/arch", "kubernetes.io/hostname"


def node_labels(node_name: str) -> dict[str, str]:
    """The labels that a kubelet gives its own node."""
    machine = platform.machine()
    return {_OS: "linux", ARCH: _ARCHITECTURES.get(machine, machine), _HOSTNAME: node_name}


def allows(pod: Pod, node_name: str, labels: Mapping[str, str]) -> bool:
    """Whether the node is among those that the pod may run on."""
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if required is None:
        return True
    return any(_term(term, node_name, labels) for term in required.node_selector_terms)


def _term(term: NodeSelectorTerm, node_name: str, labels: Mapping[str, str]) -> bool:
    """An empty term matches no node."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": node_name}
    return all(_matches(each, labels) for each in term.match_expressions) and all(
        _matches(each, fields) for each in term.match_fields
    )


def _matches(requirement: NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    value = values.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement, value)
    return False


def _compares(requirement: NodeSelectorRequirement, value: str | None) -> bool:
    try:
        left, right = int(value or ""), int(requirement.values[0])
    except (ValueError, IndexError):
        return False
    return left > right if requirement.operator == "Gt" else left < right

"""What is said of objects that a node by itself doesn't know, though manifests are full of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ADDRESSES = "pods are reached at their own addresses, or at a hostPort"
_RIGHTS = "there is no API server whose use it would allow"
_NO_EFFECT: dict[tuple[str, str], str] = {
    ("", "ServiceAccount"): "pods get no token here",
    ("", "Namespace"): "a namespace is there once an object names it",
    ("", "Service"): _ADDRESSES,
    ("", "Endpoints"): _ADDRESSES,
    ("discovery.k8s.io", "EndpointSlice"): _ADDRESSES,
    ("networking.k8s.io", "Ingress"): _ADDRESSES,
    ("networking.k8s.io", "IngressClass"): _ADDRESSES,
    ("rbac.authorization.k8s.io", "Role"): _RIGHTS,
    ("rbac.authorization.k8s.io", "RoleBinding"): _RIGHTS,
    ("rbac.authorization.k8s.io", "ClusterRole"): _RIGHTS,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _RIGHTS,
    ("policy", "PodDisruptionBudget"): "nothing here drains nodes",
    ("storage.k8s.io", "StorageClass"): "claims are folders on its disk",
}
"""Group and kind of what goes along with pods and may be left out: they run as well without."""
_TEMPLATES: dict[tuple[str, str], str] = {
    **{("apps", kind): "spec.template" for kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")},
    **{("extensions", kind): "spec.template" for kind in ("Deployment", "ReplicaSet", "DaemonSet")},
    ("", "ReplicationController"): "spec.template",
    ("", "PodTemplate"): "template",
    ("batch", "Job"): "spec.template",
    ("batch", "CronJob"): "spec.jobTemplate.spec.template",
}
"""Where in the objects of controllers the pod is that they would make."""
_REASONS: dict[tuple[str, str], str] = {
    ("networking.k8s.io", "NetworkPolicy"): "nothing restricts the traffic of pods here",
    ("scheduling.k8s.io", "PriorityClass"): "a pod has its number in spec.priority",
    ("", "LimitRange"): "an API server would apply it: pods have their own requests and limits here",
    ("", "ResourceQuota"): "an API server would enforce it",
    ("kustomize.config.k8s.io", "Kustomization"): "build it first (kubectl kustomize)",
    ("kustomize.config.k8s.io", "Component"): "build what it is a part of first (kubectl kustomize)",
}
_LOOKS: dict[str, str] = {
    "services": "looks like a Compose file, and only Kubernetes' objects are read",
    "resources": "looks like a kustomization: build it first (kubectl kustomize)",
    "bases": "looks like a kustomization: build it first (kubectl kustomize)",
}
"""A key at the top of documents that aren't objects, and what they are then."""
TEMPLATE_HINT = "a template is rendered first, as by helm template"


def no_effect(version: Any, kind: Any) -> str | None:
    """Why an object may be left out; None if it may not."""
    reason = _NO_EFFECT.get(_group_kind(version, kind))
    return f"{kind} has no effect on this node: {reason}" if reason else None


def refusal(version: Any, kind: Any, known: Mapping[str, str]) -> str:
    """Why an object isn't taken; ``known``: the apiVersion of each kind that would be."""
    what = f"{version} {kind} is not supported"
    if isinstance(kind, str):
        if path := _TEMPLATES.get(_group_kind(version, kind)):
            return f"{what}: this node has no controllers, but the pod at {path} runs as a v1 Pod with a name"
        if reason := _REASONS.get(_group_kind(version, kind)):
            return f"{what}: {reason}"
        for name, right in known.items():
            if kind.lower() in (name.lower(), f"{name}s".lower(), f"{name}es".lower()):
                return f"{what}: did you mean {right} {name}?"
    plain = ", ".join(name for name, right in known.items() if right == "v1")
    others = ", ".join(f"{right} {name}" for name, right in known.items() if right != "v1")
    return f"{what}: only v1 {plain}, {others} are"


def nameless(data: Mapping[str, Any]) -> str:
    """What is said of a document without apiVersion or kind."""
    looks = next((hint for key, hint in _LOOKS.items() if key in data), "")
    return "apiVersion and kind are needed" + (f": this {looks}" if looks else "")


def _group_kind(version: Any, kind: Any) -> tuple[str, str]:
    group = version.rpartition("/")[0] if isinstance(version, str) else "?"
    return group, kind if isinstance(kind, str) else "?"

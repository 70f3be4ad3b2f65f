"""Ephemeral containers: added to a pod that runs, to look into it; started once, and never again.

They stand in no manifest (upstream forbids that, too): they come through the kubelet's local API and are
kept in the pod's checkpoint, so that a restarted daemon knows them. The rules are those of upstream's
validateEphemeralContainers (pkg/apis/core/validation) and computePodActions (pkg/kubelet/kuberuntime).
"""

from __future__ import annotations

import copy

import msgspec

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.defaults import apply_container_defaults
from minikubelet.kubelet.environment import ContainerConfigError
from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.observed import PodView
from minikubelet.kubelet.phase import FAILED, SUCCEEDED
from minikubelet.kubelet.validation.checker import Checker
from minikubelet.kubelet.validation.container import validate_container, volumes_of

MOST = 100
"""Ephemeral containers of one pod: they stay in its spec as long as it lives."""
_FORBIDDEN = {
    "ports": "ports",
    "resources": "resources",
    "resize_policy": "resizePolicy",
    "restart_policy": "restartPolicy",
    "restart_policy_rules": "restartPolicyRules",
    "liveness_probe": "livenessProbe",
    "readiness_probe": "readinessProbe",
    "startup_probe": "startupProbe",
    "lifecycle": "lifecycle",
}
_WHY = "Forbidden: cannot be set for an Ephemeral Container"


def with_ephemeral(spec: PodSpec, containers: list[EphemeralContainer]) -> PodSpec:
    """``spec`` with these as its ephemeral containers."""
    return msgspec.structs.replace(spec, ephemeral_containers=list(containers))


def admit(pod: Pod, asked: EphemeralContainer) -> EphemeralContainer:
    """The container as ``pod`` gets it, defaults filled in. Raises NodeError that names every fault."""
    title = f'pod "{pod.metadata.name}"'
    if pod.metadata.deletion_timestamp is not None:
        raise NodeError(Code.FAILED_PRECONDITION, f"{title} is being terminated")
    if pod.status.phase in (SUCCEEDED, FAILED):
        raise NodeError(Code.FAILED_PRECONDITION, f"{title} has ended ({pod.status.phase})")
    if len(pod.spec.ephemeral_containers) >= MOST:
        raise NodeError(Code.RESOURCE_EXHAUSTED, f"{title} has {MOST} ephemeral containers already")
    container = copy.deepcopy(asked)
    apply_container_defaults(container, pod.spec.host_network)
    if problems := _problems(pod.spec, container, asked):
        raise NodeError(Code.INVALID_ARGUMENT, "; ".join(problems))
    return container


def _problems(spec: PodSpec, container: EphemeralContainer, asked: EphemeralContainer) -> list[str]:
    check = Checker()
    at: Path = ("spec", "ephemeralContainers", len(spec.ephemeral_containers))
    validate_container(check, at, container, spec, volumes_of(spec))
    others = {each.name for each in [*spec.init_containers, *spec.containers]}
    if container.name in others | {each.name for each in spec.ephemeral_containers}:
        check.add((*at, "name"), f'Duplicate value: "{container.name}"')
    target = container.target_container_name
    if target and target not in others:
        check.add((*at, "targetContainerName"), f'Not found: "{target}"')
    empty = EphemeralContainer(name="")
    for attribute, name in _FORBIDDEN.items():
        if getattr(asked, attribute) != getattr(empty, attribute):
            check.add((*at, name), _WHY)
    for index, mount in enumerate(container.volume_mounts):
        for name, value in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
            if value:
                check.add((*at, "volumeMounts", index, name), _WHY)
    return [str(each) for each in check.problems]


def target_id(container: Container, view: PodView) -> str:
    """The runtime's ID of the container whose processes are to be seen; empty: none is asked for.

    Raises ContainerConfigError if that one was never made.
    """
    name = container.target_container_name if isinstance(container, EphemeralContainer) else ""
    if not name:
        return ""
    target = view.latest(name)
    if target is None:
        raise ContainerConfigError(f"unable to find target container {name}")
    return target.id

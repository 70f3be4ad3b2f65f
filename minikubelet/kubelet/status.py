"""A pod's status from its spec, what the runtime has, and what probes and the worker know; pure.

Phases, conditions, reasons and messages are upstream's (pkg/kubelet/kubelet_pods.go, status/generate.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from minikubelet.base import clock
from minikubelet.kubelet.defaults import all_containers, is_sidecar
from minikubelet.kubelet.demands import pod_limits, pod_requests, quantities
from minikubelet.kubelet.objects import Container, ContainerStatus, Pod, PodStatus
from minikubelet.kubelet.objects.containers import EphemeralContainer, ResourceRequirements
from minikubelet.kubelet.objects.podstatus import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerUser,
    HostIP,
    LinuxContainerUser,
    PodCondition,
    PodIP,
    ResourceStatus,
    VolumeMountStatus,
)
from minikubelet.kubelet.objects.quantity import binary, whole
from minikubelet.kubelet.observed import ObservedContainer, PodView
from minikubelet.kubelet.phase import FAILED, RESTARTING_ALL, SUCCEEDED, make_phase
from minikubelet.kubelet.plan import is_initialized, needs_start
from minikubelet.kubelet.resources import qos_class
from minikubelet.kubelet.restart_rules import may_restart_all, restarts_all, should_restart


@dataclass(frozen=True)
class Waiting:
    """Why a container is not running: upstream's reason word and a message."""

    reason: str
    message: str = ""


@dataclass
class Known:
    """What the worker knows beside the runtime."""

    runtime_name: str = ""
    host_ips: Sequence[str] = ()
    start_time: str = ""
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    """By container: why it could not be started (again)."""
    started: frozenset[str] = frozenset()
    """IDs of containers that have started (hook and startup probe)."""
    ready: frozenset[str] = frozenset()
    """IDs of containers whose readiness is good."""
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Restart counts remembered, for containers the runtime has lost."""
    reset: Mapping[str, int] = field(default_factory=dict)
    """By container, the restart count of the one that was removed so that all start over."""
    failure: Waiting | None = None
    """The pod as a whole has failed for this reason (deadline, rejected, evicted)."""
    disrupted: bool = False
    """It was the node that ended it."""
    resize: Sequence[PodCondition] = ()
    """Conditions of a resize under way."""
    actuated: Mapping[str, ResourceRequirements] = field(default_factory=dict)
    """By container: what it was made or updated with."""
    devices: Mapping[str, list[ResourceStatus]] = field(default_factory=dict)
    """By regular container: how the devices are that it has."""


def make_status(pod: Pod, view: PodView, known: Known, now_ns: int) -> PodStatus:
    """The status; ``pod.status`` is the previous one, from which transition times are kept."""
    if known.failure is not None and not view.sandboxes and not view.containers:
        return _ended(pod, known.failure)
    init = [_container_status(pod, c, view, known, is_init=True) for c in pod.spec.init_containers]
    regular = [_container_status(pod, c, view, known, is_init=False) for c in pod.spec.containers]
    for each in regular:
        each.allocated_resources_status = known.devices.get(each.name, [])
    ephemeral = [_ephemeral_status(pod, c, view, known) for c in pod.spec.ephemeral_containers]
    if known.failure is not None and all(each.has_exited for each in view.containers):
        _settle(init, regular, is_initialized(pod, view))
    phase = make_phase(pod, init, regular, is_initialized(pod, view))
    status = PodStatus(
        phase=phase,
        qos_class=qos_class(pod),
        start_time=known.start_time or None,
        init_container_statuses=init,
        container_statuses=regular,
        ephemeral_container_statuses=ephemeral,
    )
    _pod_level(pod, status)
    if known.failure is not None:
        status.phase, status.reason, status.message = FAILED, known.failure.reason, known.failure.message
    _addresses(pod, view, known, status)
    conditions = _conditions(pod, view, status)
    if may_restart_all(pod):
        conditions.append(_restarting_all(pod, view, status))
    conditions += known.resize
    if known.disrupted:
        conditions.append(
            PodCondition(
                type="DisruptionTarget",
                status="True",
                reason="TerminationByKubelet",
                message=status.message,
            )
        )
    status.conditions = _with_times(conditions, pod.status.conditions, now_ns)
    return status


def _ended(pod: Pod, failure: Waiting) -> PodStatus:
    """A failed pod that has nothing in the runtime (any more): what was last known of it stays."""
    return msgspec.structs.replace(
        pod.status, phase=FAILED, reason=failure.reason, message=failure.message, qos_class=qos_class(pod)
    )


def _settle(init: list[ContainerStatus], regular: list[ContainerStatus], initialized: bool) -> None:
    """Nothing of a pod that has failed as a whole waits any more: what was to be started never will be.

    Those whose turn hadn't come keep waiting, which tells how far the pod got (upstream's TerminatePod).
    """
    begun = [index for index, each in enumerate(init) if each.state.waiting is None]
    whose_turn_it_was = init[: max(begun, default=0) + 1]
    if initialized or not init:
        whose_turn_it_was = whose_turn_it_was + regular
    for each in whose_turn_it_was:
        if each.state.waiting is not None:
            ended = ContainerStateTerminated(exit_code=137, reason="ContainerStatusUnknown", message=_UNSEEN)
            each.state = ContainerState(terminated=ended)


_UNSEEN = "The container could not be located when the pod was terminated"


def _pod_level(pod: Pod, status: PodStatus) -> None:
    """The sums over all containers, as upstream shows them for the pod as a whole."""
    if not (status.container_statuses or status.init_container_statuses):
        return
    lists = [each for each in (pod.spec.resources, *(c.resources for c in all_containers(pod.spec))) if each]
    limits = quantities(pod_limits(pod), [each.limits for each in lists])
    requests = quantities(pod_requests(pod), [{**each.limits, **each.requests} for each in lists])
    status.allocated_resources = requests
    if requests or limits:
        status.resources = ResourceRequirements(requests=requests, limits=limits)


def _as_applied(resources: ResourceRequirements) -> ResourceRequirements:
    """What a running container is held to: its memory limit as upstream shows it, the runtime's bytes."""
    memory = resources.limits.get("memory")
    if memory is None:
        return resources
    limits = {**resources.limits, "memory": binary(whole(memory))}
    return msgspec.structs.replace(resources, limits=limits)


# --- containers ----------------------------------------------------------------------------------------


def _container_status(
    pod: Pod, container: Container, view: PodView, known: Known, *, is_init: bool
) -> ContainerStatus:
    seen = view.all_of(container.name)
    latest = seen[0] if seen else None
    status = ContainerStatus(
        name=container.name,
        image=latest.image if latest and latest.image else container.image,
        image_id=latest.image_id if latest else "",
        container_id=f"{known.runtime_name}://{latest.id}" if latest else "",
        restart_count=latest.restart_count if latest else known.restarts.get(container.name, 0),
        ready=False,
        started=False,
    )
    status.volume_mounts = _mounts(container, latest)
    default = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
    waiting = known.waiting.get(container.name)
    if container.name in known.reset:
        status.last_state = _removed()
    if latest is None:
        status.state = _waiting(waiting or Waiting(default))
        if container.name in known.reset and not is_initialized(pod, view):
            status.restart_count = max(status.restart_count, known.reset[container.name] + 1)
            if restarts_all(pod, view):
                status.state = _waiting(Waiting(RESTARTING_ALL, _REMOVED))
        if is_init and not is_sidecar(container) and is_initialized(pod, view):
            status.state = _lost_init()
            status.ready = True
        return status
    status.state = _state(latest, known.runtime_name)
    status.allocated_resources = dict(container.resources.requests)
    status.resources = container.resources
    if latest.is_running:
        status.resources = _as_applied(known.actuated.get(container.name, container.resources))
    if latest.user is not None:
        uid, gid, groups = latest.user
        status.user = ContainerUser(
            linux=LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=list(groups))
        )
    earlier = next((each for each in seen[1:] if each.has_exited), None)
    if earlier is not None:
        status.last_state = _state(earlier, known.runtime_name)
    again = known.failure is None and _will_start(pod, container, latest, is_init, view)
    if latest.has_exited and waiting is not None and again:
        status.last_state = status.state
        status.state = _waiting(waiting)
    elif waiting is not None and status.state.waiting is not None:
        status.state = _waiting(waiting)
    if latest.is_running:
        status.started = latest.id in known.started
        status.ready = bool(status.started) and latest.id in known.ready
    if is_init and not is_sidecar(container):
        status.started = latest.is_running
        status.ready = latest.has_exited and latest.exit_code == 0
    return status


def _ephemeral_status(
    pod: Pod, container: EphemeralContainer, view: PodView, known: Known
) -> ContainerStatus:
    """Neither ready nor started, as upstream shows them; one that is lost is not made again."""
    status = _container_status(pod, container, view, known, is_init=False)
    status.ready, status.started = False, None
    if view.latest(container.name) is None and container.name in known.restarts:
        message = "The runtime no longer has this ephemeral container; it is not started again"
        ended = ContainerStateTerminated(exit_code=137, reason="ContainerStatusUnknown", message=message)
        status.state = ContainerState(terminated=ended)
    return status


def _mounts(container: Container, latest: ObservedContainer | None) -> list[VolumeMountStatus]:
    below = latest.read_only_below if latest is not None else frozenset()
    mounts = []
    for each in container.volume_mounts:
        recursive = None
        if each.read_only:
            recursive = "Enabled" if each.mount_path in below else "Disabled"
        mounts.append(
            VolumeMountStatus(
                name=each.name,
                mount_path=each.mount_path,
                read_only=each.read_only,
                recursive_read_only=recursive,
            )
        )
    return mounts


def _will_start(
    pod: Pod, container: Container, latest: ObservedContainer, is_init: bool, view: PodView
) -> bool:
    if isinstance(container, EphemeralContainer):
        return False
    if is_init and is_sidecar(container):
        return True
    if is_init and is_initialized(pod, view):
        return False
    if is_init:
        return latest.exit_code != 0 and should_restart(pod, container, latest.exit_code)
    return needs_start(pod, container, latest)


def _waiting(why: Waiting) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=why.reason, message=why.message))


def _removed() -> ContainerState:
    """The last state of a container that the runtime no longer has, since all start over."""
    return ContainerState(
        terminated=ContainerStateTerminated(exit_code=137, reason=RESTARTING_ALL, message=_REMOVED)
    )


_REMOVED = "The container is removed because RestartAllContainers in place"


def _lost_init() -> ContainerState:
    return ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=0,
            reason="Completed",
            message="The runtime no longer has this init container; the pod has been initialized, "
            "so it counts as completed",
        )
    )


def _state(seen: ObservedContainer, runtime_name: str) -> ContainerState:
    if seen.is_running:
        return ContainerState(running=ContainerStateRunning(started_at=_stamp(seen.started_at)))
    if seen.has_exited:
        return ContainerState(
            terminated=ContainerStateTerminated(
                exit_code=seen.exit_code,
                reason=seen.reason or ("Completed" if seen.exit_code == 0 else "Error"),
                message=seen.message,
                started_at=_stamp(seen.started_at),
                finished_at=_stamp(seen.finished_at),
                container_id=f"{runtime_name}://{seen.id}",
            )
        )
    return ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))


def _stamp(nanoseconds: int) -> str | None:
    return clock.rfc3339(nanoseconds) if nanoseconds > 0 else None


# --- addresses and conditions --------------------------------------------------------------------------


def _addresses(pod: Pod, view: PodView, known: Known, status: PodStatus) -> None:
    status.host_ips = [HostIP(ip=ip) for ip in known.host_ips]
    status.host_ip = known.host_ips[0] if known.host_ips else ""
    ips = known.host_ips if pod.spec.host_network and view.sandbox else view.ips
    if not ips and not any(each.ready for each in view.sandboxes):
        ips = [each.ip for each in pod.status.pod_ips]  # the last it had
    status.pod_ips = [PodIP(ip=ip) for ip in ips]
    status.pod_ip = ips[0] if ips else ""


def _conditions(pod: Pod, view: PodView, status: PodStatus) -> list[PodCondition]:
    sandbox = view.sandbox
    fit = sandbox is not None and sandbox.ready and bool(sandbox.ips or pod.spec.host_network)
    containers_ready = _containers_ready(pod, status)
    return [
        PodCondition(type="PodReadyToStartContainers", status=_word(fit)),
        _initialized(pod, view, status),
        _ready(pod, containers_ready),
        containers_ready,
        PodCondition(type="PodScheduled", status="True"),
    ]


def _word(value: bool) -> str:
    return "True" if value else "False"


def _list(names: list[str]) -> str:
    return "[" + " ".join(names) + "]"


def _initialized(pod: Pod, view: PodView, status: PodStatus) -> PodCondition:
    if status.phase == SUCCEEDED:
        return PodCondition(type="Initialized", status="True", reason="PodCompleted")
    incomplete = [
        container.name
        for container, each in zip(pod.spec.init_containers, status.init_container_statuses, strict=True)
        if not (each.started if is_sidecar(container) else each.ready)
    ]
    # Once initialized, a pod stays so, also while its init containers run once more.
    before = any(each.type == "Initialized" and each.status == "True" for each in pod.status.conditions)
    if not incomplete or before or is_initialized(pod, view):
        return PodCondition(type="Initialized", status="True")
    message = f"containers with incomplete status: {_list(incomplete)}"
    return PodCondition(
        type="Initialized", status="False", reason="ContainersNotInitialized", message=message
    )


def _restarting_all(pod: Pod, view: PodView, status: PodStatus) -> PodCondition:
    """KEP-5532."""
    kind = "AllContainersRestarting"
    if status.phase in (SUCCEEDED, FAILED):
        reason = "PodCompleted" if status.phase == SUCCEEDED else "PodFailed"
        return PodCondition(type=kind, status="False", reason=reason)
    if not restarts_all(pod, view):
        return PodCondition(type=kind, status="False")
    message = "container exited with restart policy rule"
    return PodCondition(type=kind, status="True", reason="RestartAllContainersStarted", message=message)


def _containers_ready(pod: Pod, status: PodStatus) -> PodCondition:
    if status.phase in (SUCCEEDED, FAILED):
        reason = "PodCompleted" if status.phase == SUCCEEDED else "PodFailed"
        return PodCondition(type="ContainersReady", status="False", reason=reason)
    sidecars = [
        each
        for container, each in zip(pod.spec.init_containers, status.init_container_statuses, strict=True)
        if is_sidecar(container)
    ]
    unready = [each.name for each in [*sidecars, *status.container_statuses] if not each.ready]
    if not unready:
        return PodCondition(type="ContainersReady", status="True")
    message = f"containers with unready status: {_list(unready)}"
    return PodCondition(type="ContainersReady", status="False", reason="ContainersNotReady", message=message)


def _ready(pod: Pod, containers_ready: PodCondition) -> PodCondition:
    if containers_ready.status == "True" and pod.spec.readiness_gates:
        present = {each.type: each.status for each in pod.status.conditions}
        lacking = []
        for gate in pod.spec.readiness_gates:
            kind = gate.condition_type
            if kind not in present:
                lacking.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
            elif present[kind] != "True":
                lacking.append(
                    f'the status of pod readiness gate "{kind}" is not "True", but {present[kind]}'
                )
        if lacking:
            return PodCondition(
                type="Ready", status="False", reason="ReadinessGatesNotReady", message=", ".join(lacking)
            )
    return PodCondition(
        type="Ready",
        status=containers_ready.status,
        reason=containers_ready.reason,
        message=containers_ready.message,
    )


def _with_times(new: list[PodCondition], old: list[PodCondition], now_ns: int) -> list[PodCondition]:
    former = {each.type: each for each in old}
    now = clock.rfc3339(now_ns)
    for condition in new:
        before = former.get(condition.type)
        same = before is not None and before.status == condition.status
        condition.last_transition_time = before.last_transition_time if before and same else now
    return new

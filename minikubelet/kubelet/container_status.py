"""The status of one container from its spec, what the runtime has, and what was known of it before; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from minikubelet.base import clock
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.objects import Container, ContainerStatus, Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer, ResourceRequirements
from minikubelet.kubelet.objects.podstatus import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerUser,
    LinuxContainerUser,
    PodCondition,
    ResourceStatus,
    VolumeMountStatus,
)
from minikubelet.kubelet.objects.quantity import binary, whole
from minikubelet.kubelet.observed import ObservedContainer, PodView
from minikubelet.kubelet.phase import RESTARTING_ALL
from minikubelet.kubelet.plan import is_initialized, needs_start
from minikubelet.kubelet.restart_rules import restarts_all, should_restart

UNSEEN = "The container could not be located when the pod was terminated"
_WAS_RUNNING = (
    "The container could not be located when the pod was deleted.  The container used to be Running"
)


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


def container_status(
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
    in_reset = container.name in known.reset
    status.last_state = _removed() if in_reset else _recalled(pod, container.name, status.container_id)
    default = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
    waiting = known.waiting.get(container.name)
    if latest is None:
        ended = status.last_state.terminated
        if ended is not None and not in_reset and _is_over(pod, container, ended.exit_code, is_init):
            status.state, status.last_state = status.last_state, ContainerState()
            status.ready = is_init and ended.exit_code == 0
            return status
        status.state = _waiting(waiting or Waiting(default))
        if in_reset and not is_initialized(pod, view):
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


def ephemeral_status(pod: Pod, container: EphemeralContainer, view: PodView, known: Known) -> ContainerStatus:
    """Neither ready nor started, as upstream shows them; one that is lost is not made again."""
    status = container_status(pod, container, view, known, is_init=False)
    status.ready, status.started = False, None
    if view.latest(container.name) is None and container.name in known.restarts:
        message = "The runtime no longer has this ephemeral container; it is not started again"
        ended = ContainerStateTerminated(exit_code=137, reason="ContainerStatusUnknown", message=message)
        status.state = ContainerState(terminated=ended)
    return status


def _as_applied(resources: ResourceRequirements) -> ResourceRequirements:
    """What a running container is held to: its memory limit as upstream shows it, the runtime's bytes."""
    memory = resources.limits.get("memory")
    if memory is None:
        return resources
    limits = {**resources.limits, "memory": binary(whole(memory))}
    return msgspec.structs.replace(resources, limits=limits)


def _recalled(pod: Pod, name: str, container_id: str) -> ContainerState:
    """What was last known of the container before ``container_id``, for when the runtime has lost it."""
    status = pod.status
    everyone = [
        *status.init_container_statuses,
        *status.container_statuses,
        *status.ephemeral_container_statuses,
    ]
    old = next((each for each in everyone if each.name == name), None)
    if old is None:
        return ContainerState()
    found = old.last_state
    if not container_id or old.container_id != container_id:
        if old.state.terminated is not None:
            found = old.state
        elif old.state.running is not None:
            why = ("ContainerStatusUnknown", _WAS_RUNNING)
            ended = ContainerStateTerminated(exit_code=137, reason=why[0], message=why[1])
            found = ContainerState(terminated=ended)
    # A container that waits to be started again shows its own end as its last state.
    own = found.terminated is not None and container_id and found.terminated.container_id == container_id
    return ContainerState() if own else found


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


def _is_over(pod: Pod, container: Container, exit_code: int, is_init: bool) -> bool:
    """Whether a container that has ended, and that the runtime has lost, isn't made again."""
    if isinstance(container, EphemeralContainer) or (is_init and is_sidecar(container)):
        return False
    return (is_init and exit_code == 0) or not should_restart(pod, container, exit_code)


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

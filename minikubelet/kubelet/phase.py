"""The phase of a pod from the statuses of its containers (upstream's getPhase); pure."""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.objects import Container, ContainerStatus, Pod
from minikubelet.kubelet.restart_rules import should_restart

PENDING = "Pending"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FAILED = "Failed"
RESTARTING_ALL = "RestartingAllContainers"
"""The reason of containers that are removed so that all of the pod start over."""


@dataclass
class _Tally:
    unknown: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    for_good: int = 0
    succeeded: int = 0
    pending_init: int = 0
    pending_sidecars: int = 0


def make_phase(
    pod: Pod, init: list[ContainerStatus], regular: list[ContainerStatus], initialized: bool
) -> str:
    """The phase; ``initialized``: a regular container was ever made in the newest sandbox."""
    tally = _Tally()
    for container, status in zip(pod.spec.init_containers, init, strict=True):
        if is_sidecar(container):
            _tally_sidecar(status, tally)
        elif _tally_init(pod, container, status, tally):
            return FAILED
    for container, status in zip(pod.spec.containers, regular, strict=True):
        _tally_regular(pod, container, status, tally)
    if tally.pending_init or (tally.pending_sidecars and not initialized) or tally.waiting:
        return PENDING
    if tally.running and not tally.unknown:
        return RUNNING
    if tally.stopped and not tally.unknown:
        if tally.stopped != tally.for_good:
            return RUNNING
        return SUCCEEDED if tally.stopped == tally.succeeded else FAILED
    return PENDING


def _tally_init(pod: Pod, container: Container, status: ContainerStatus, tally: _Tally) -> bool:
    """Count an init container; whether it has failed for good."""
    ended = status.state.terminated
    if ended is None and status.state.waiting is not None:
        ended = status.last_state.terminated
    if ended is None:
        tally.pending_init += 1
        return False
    if ended.exit_code == 0:
        return False
    if ended.reason == RESTARTING_ALL:
        return False
    if not should_restart(pod, container, ended.exit_code):
        return True
    tally.pending_init += 1
    return False


def _tally_sidecar(status: ContainerStatus, tally: _Tally) -> None:
    if status.state.running is not None:
        tally.pending_sidecars += not status.started
        tally.running += 1
    elif status.state.waiting is not None and status.last_state.terminated is None:
        tally.pending_sidecars += 1
        tally.waiting += 1


def _tally_regular(pod: Pod, container: Container, status: ContainerStatus, tally: _Tally) -> None:
    if status.state.running is not None:
        tally.running += 1
        return
    ended = status.state.terminated or status.last_state.terminated
    if ended is None:
        tally.waiting += 1
        return
    tally.stopped += 1
    restarts = ended.reason == RESTARTING_ALL or should_restart(pod, container, ended.exit_code)
    tally.for_good += not restarts
    tally.succeeded += status.state.terminated is not None and ended.exit_code == 0

"""From names in a request to pods, containers and their logs, with upstream's words for what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.objects import Container, ContainerStatus, Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer

_PULL = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def find_pod(pods: Iterable[Pod], namespace: str, name: str) -> Pod:
    """The pod. Raises NodeError NOT_FOUND."""
    for pod in pods:
        if pod.metadata.namespace == namespace and pod.metadata.name == name:
            return pod
    raise NodeError(Code.NOT_FOUND, f'pod "{name}" does not exist in namespace "{namespace}"')


def containers(pod: Pod) -> list[Container | EphemeralContainer]:
    """Containers of all kinds that the manifest has."""
    spec = pod.spec
    return [*spec.containers, *spec.init_containers, *spec.ephemeral_containers]


def check_container(pod: Pod, container: str) -> None:
    """Raises NodeError NOT_FOUND unless the manifest has that container."""
    if container not in {each.name for each in containers(pod)}:
        raise NodeError(Code.NOT_FOUND, f'container "{container}" not found in pod "{pod.metadata.name}"')


def container_status(pod: Pod, container: str) -> ContainerStatus | None:
    """The status of a container of any kind."""
    status = pod.status
    every = [
        *status.container_statuses,
        *status.init_container_statuses,
        *status.ephemeral_container_statuses,
    ]
    return next((each for each in every if each.name == container), None)


def is_running(pod: Pod, container: str, container_id: str) -> bool:
    """Whether that very instance of the container runs."""
    status = container_status(pod, container)
    return (
        status is not None and status.state.running is not None and bare(status.container_id) == container_id
    )


def running_id(pod: Pod, container: str) -> str:
    """The runtime's ID of the running container. Raises NodeError."""
    check_container(pod, container)
    status = container_status(pod, container)
    if status is None or status.state.running is None or not status.container_id:
        raise _bad(f'container "{container}" in pod "{pod.metadata.name}" is not running')
    return bare(status.container_id)


def logged_id(pod: Pod, container: str, *, previous: bool) -> str:
    """The runtime's ID of the instance whose log is wanted. Raises NodeError, as upstream explains it."""
    check_container(pod, container)
    where = f'container "{container}" in pod "{pod.metadata.name}"'
    status = container_status(pod, container)
    if status is None:
        raise _bad(f"{where} is not available")
    last = status.last_state.terminated
    last_id = last.container_id if last else ""
    if previous:
        if not last_id:
            raise _bad(f"previous terminated {where} not found")
        return bare(last_id)
    terminated, waiting = status.state.terminated, status.state.waiting
    if status.state.running is not None and status.container_id:
        return bare(status.container_id)
    if terminated is not None and terminated.container_id:
        return bare(terminated.container_id)
    if last_id:
        return bare(last_id)
    if terminated is not None or last is not None:
        raise _bad(f"{where} is terminated")
    reason = waiting.reason if waiting else ""
    raise _bad(f"{where} is waiting to start: {_PULL.get(reason, reason or 'no logs yet')}")


def bare(container_id: str) -> str:
    """``RUNTIME://ID`` without its scheme."""
    return container_id.rpartition("//")[2]


def _bad(message: str) -> NodeError:
    return NodeError(Code.FAILED_PRECONDITION, message)

"""Whether this node takes a pod: resources that are left, ports, conditions (from pkg/kubelet/lifecycle)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass

from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.demands import Amounts, pod_requests
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.priority import is_critical
from minikubelet.kubelet.resources import BEST_EFFORT, qos_class

MEMORY_PRESSURE = "MemoryPressure"
_REASONS = {
    "cpu": "OutOfcpu",
    "memory": "OutOfmemory",
    "ephemeral-storage": "OutOfephemeral-storage",
    "pods": "OutOfpods",
}


@dataclass(frozen=True)
class Rejection:
    """Why a pod is not run: upstream's reason and message."""

    reason: str
    message: str


def admit(pod: Pod, others: Collection[Pod], room: Amounts, conditions: Set[str]) -> Rejection | None:
    """Whether ``pod`` fits beside ``others`` into ``room`` under the node's ``conditions``; None if so."""
    return _under_pressure(pod, conditions) or _resources(pod, others, room) or _ports(pod, others)


def admit_resize(pod: Pod, others: Collection[Pod], room: Amounts) -> Rejection | None:
    """Whether ``pod`` with other resources fits: Infeasible if it never can, Deferred if not now."""
    for name, value in pod_requests(pod).items():
        if name in ("cpu", "memory") and value > room.get(name, value):
            words = f"Node didn't have enough capacity: {name}, requested: {value}, capacity: {room[name]}"
            return Rejection("Infeasible", words)
    rejection = _resources(pod, others, room)
    return Rejection("Deferred", rejection.message) if rejection is not None else None


def _under_pressure(pod: Pod, conditions: Set[str]) -> Rejection | None:
    if not conditions or is_critical(pod):
        return None
    holds = qos_class(pod) != BEST_EFFORT or _tolerates(pod, "node.kubernetes.io/memory-pressure")
    if conditions == {MEMORY_PRESSURE} and holds:
        return None
    return Rejection("Evicted", f"The node had condition: [{' '.join(sorted(conditions))}]. ")


def _tolerates(pod: Pod, key: str) -> bool:
    """Whether a toleration covers the NoSchedule taint ``key``, which has no value."""
    for each in pod.spec.tolerations:
        if each.effect not in ("", "NoSchedule") or each.key not in ("", key):
            continue
        if (each.operator or "Equal") == "Exists" or (each.key and not each.value):
            return True
    return False


def _resources(pod: Pod, others: Collection[Pod], room: Amounts) -> Rejection | None:
    if len(others) + 1 > room.get("pods", len(others) + 1):
        return _insufficient("pods", 1, len(others), room["pods"])
    wanted = pod_requests(pod)
    used: Amounts = {}
    for each in others:
        for name, value in pod_requests(each).items():
            used[name] = used.get(name, 0) + value
    first = [name for name in _REASONS if name in wanted]
    for name in [*first, *sorted(wanted.keys() - _REASONS.keys())]:
        # A resource that no device plugin ever brought is not the node's to refuse (upstream's words: cluster
        # level); huge pages the kernel knows are in ``room``.
        if wanted[name] > 0 and name in room and wanted[name] > room[name] - used.get(name, 0):
            return _insufficient(name, wanted[name], used.get(name, 0), room[name])
    return None


def _insufficient(name: str, requested: int, used: int, capacity: int) -> Rejection:
    figures = f"requested: {requested}, used: {used}, capacity: {capacity}"
    return Rejection(
        _REASONS.get(name, f"OutOf{name}"), f"Node didn't have enough resource: {name}, {figures}"
    )


def _ports(pod: Pod, others: Iterable[Pod]) -> Rejection | None:
    mine = list(_host_ports(pod))
    for taken in (port for each in others for port in _host_ports(each)):
        for port in mine:
            anywhere = "0.0.0.0" in (port[0], taken[0])
            if port[1:] == taken[1:] and (anywhere or port[0] == taken[0]):
                words = "node(s) didn't have free ports for the requested pod ports"
                return Rejection("NodePorts", f"Predicate NodePorts failed: {words}")
    return None


def _host_ports(pod: Pod) -> Iterator[tuple[str, str, int]]:
    """(address, protocol, port) of every host port."""
    for container in [*pod.spec.containers, *(c for c in pod.spec.init_containers if is_sidecar(c))]:
        for port in container.ports:
            if port.host_port:
                yield port.host_ip or "0.0.0.0", port.protocol or "TCP", port.host_port

"""Which pod goes first, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minikubelet.kubelet.demands import pod_requests
from minikubelet.kubelet.eviction.signals import Places
from minikubelet.kubelet.eviction.thresholds import Observation, Threshold
from minikubelet.kubelet.eviction.usage import Disk, PodUsage
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.quantity import binary, decimal, whole
from minikubelet.kubelet.priority import priority


def rank(pods: Sequence[Pod], usage: Mapping[str, PodUsage], short: Threshold, where: Places) -> list[Pod]:
    """The pods in the order in which they are evicted: over their request, lower priority, larger use."""

    def key(pod: Pod) -> tuple[Any, ...]:
        mine = usage.get(pod.uid)
        if mine is None:  # nothing known: upstream takes these first
            return (0, 0, priority(pod), 0)
        if short.resource == "pids":
            return (1, 0, priority(pod), -mine.tasks)
        used = _used(mine, short, where)
        name = "ephemeral-storage" if short.resource == "inodes" else short.resource
        # Requests are in bytes: every pod uses more inodes than the none it asked for.
        request = 0 if short.resource == "inodes" else pod_requests(pod).get(name, 0)
        return (1, used <= request, priority(pod), request - used)

    return sorted(pods, key=key)


def _used(usage: PodUsage, short: Threshold, where: Places) -> int:
    if short.resource == "memory":
        return usage.memory
    system = short.signal.partition(".")[0]
    found = Disk()
    if system == "nodefs":
        found = usage.local
        if not where.has_imagefs:
            found += usage.rootfs
    elif system == "containerfs" or not where.has_containerfs:
        found = usage.rootfs
        if not where.has_imagefs:
            found += usage.local
    return found.inodes if short.resource == "inodes" else found.used


def message(pod: Pod, usage: PodUsage | None, short: Threshold, seen: Mapping[str, Observation]) -> str:
    """Upstream's words about an evicted pod."""
    text = f"The node was low on resource: {short.resource}. "
    show = binary if short.resource in ("memory", "ephemeral-storage") else decimal
    observation = seen.get(short.signal)
    if observation is not None:
        amount = show(short.amount(observation)) if short.value.endswith("%") else short.value
        text += f"Threshold quantity: {amount}, available: {show(observation.available)}. "
    if usage is None or short.resource not in ("memory", "ephemeral-storage"):
        return text
    at_pod = pod.spec.resources.requests if pod.spec.resources is not None else {}
    if short.resource == "memory" and "memory" in at_pod:
        text += (
            f"Pod {pod.metadata.name} was using {binary(usage.memory)}, "
            f"request is {at_pod['memory']}, has larger consumption of memory. "
        )
    for container in [*pod.spec.containers, *pod.spec.init_containers]:
        mine = usage.containers.get(container.name)
        if mine is None:
            continue
        used = mine.memory if short.resource == "memory" else (mine.rootfs + mine.logs).used
        request = container.resources.requests.get(short.resource, 0)
        if used > whole(request):
            text += (
                f"Container {container.name} was using {binary(used)}, request is {request}, "
                f"has larger consumption of {short.resource}. "
            )
    return text

"""Pods that use more of the disk than they may: emptyDir sizes and ephemeral-storage limits."""

from __future__ import annotations

from typing import NamedTuple

from minikubelet.kubelet.demands import container_limits, pod_limits
from minikubelet.kubelet.eviction.usage import PodUsage
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.quantity import binary, whole

STORAGE = "ephemeral-storage"


class Excess(NamedTuple):
    """What of a pod's is over its limit, in upstream's words: for the metric, and for the pod's status."""

    signal: str
    message: str


def has_limits(pod: Pod) -> bool:
    """Whether the pod's use of the disk must be known at all."""
    if any(STORAGE in each.resources.limits for each in [*pod.spec.init_containers, *pod.spec.containers]):
        return True
    return any(volume.empty_dir is not None and volume.empty_dir.size_limit for volume in pod.spec.volumes)


def exceeded(pod: Pod, usage: PodUsage, *, layers_on_nodefs: bool) -> Excess | None:
    """The first limit that the pod is over; None if it is over none."""
    for volume in pod.spec.volumes:
        limit = volume.empty_dir.size_limit if volume.empty_dir is not None else None
        used = usage.volumes.get(volume.name) or usage.in_memory.get(volume.name)
        if limit and used is not None and used.used > whole(limit) > 0:
            words = f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
            return Excess("emptydirfs.limit", words)
    most = pod_limits(pod).get(STORAGE)
    if most and (usage.local + usage.rootfs).used > most:
        words = "Pod ephemeral local storage usage exceeds the total limit of containers"
        return Excess("ephemeralpodfs.limit", f"{words} {binary(most)}. ")
    for container in pod.spec.containers:
        own = usage.containers.get(container.name)
        bound = container_limits(container).get(STORAGE)
        if own is None or not bound:
            continue
        used_here = own.logs + own.rootfs if layers_on_nodefs else own.logs
        if used_here.used > bound:
            words = f"Container {container.name} exceeded its local ephemeral storage limit"
            words = f'{words} "{container.resources.limits[STORAGE]}". '
            return Excess("ephemeralcontainerfs.limit", words)
    return None

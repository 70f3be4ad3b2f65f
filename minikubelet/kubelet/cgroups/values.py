"""What is written into the cgroups of pods, QoS classes and of all pods together (pkg/kubelet/cm)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from minikubelet.kubelet.demands import Amounts, all_limited, pod_limits, pod_requests
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.resource_config import CgroupConfig
from minikubelet.kubelet.resources import (
    BEST_EFFORT,
    BURSTABLE,
    GUARANTEED,
    MAX_SHARES,
    MIN_SHARES,
    hugepage_limits,
    qos_class,
    quota,
    shares,
)
from minikubelet.linux.cgroup import cpu, hugetlb

NEEDED = frozenset(("cpu", "memory", "pids"))
"""Controllers without which the tree would only look like one."""
WANTED = NEEDED | {"cpuset", "io", "hugetlb"}


def weight(milli_cpu: int) -> str:
    """cpu.weight of pods and QoS classes: in proportion to the shares of what they request, 1 to 10000.

    The line of KEP-2254, unlike the curve of runtimes for containers: two pods share time as their requests
    do, and a class weighs as much as its pods together.
    """
    return str(1 + (shares(milli_cpu) - MIN_SHARES) * 9999 // (MAX_SHARES - MIN_SHARES))


def pod_files(pod: Pod, config: CgroupConfig, throttled: bool = True) -> dict[str, str]:
    """``{file: content}`` of a pod's cgroup; ``throttled``: its CPU limits are enforced.

    memory.swap.max stays ``max``: the containers' own count.
    """
    requests, limits = pod_requests(pod), pod_limits(pod)
    quality = qos_class(pod)
    files: dict[str, str] = {}
    if quality == BEST_EFFORT:
        files["cpu.weight"] = weight(0)
    else:
        period = int(config.cpu_cfs_quota_period * 1_000_000)
        enforced = throttled and config.cpu_cfs_quota
        amount = quota(limits.get("cpu", 0), period) if enforced else 0
        limited = quality == GUARANTEED or all_limited(pod, "cpu")
        files["cpu.weight"] = weight(requests.get("cpu", 0))
        files |= cpu.files(0, amount or -1, period) if limited else cpu.files(0, -1, 0)
        if (quality == GUARANTEED or all_limited(pod, "memory")) and limits.get("memory"):
            files["memory.max"] = str(limits["memory"])
        else:
            files["memory.max"] = "max"
    if config.pod_pids_limit > 0:
        files["pids.max"] = str(config.pod_pids_limit)
    request = requests.get("memory", 0)
    if config.memory_qos and config.memory_reservation_policy == "TieredReservation" and request:
        files["memory.min" if quality == GUARANTEED else "memory.low"] = str(request)
    return files | hugetlb.files(hugepage_limits(pod))


def node_files(amounts: Amounts) -> dict[str, str]:
    """The cgroup of all pods: what is allocatable, or the node's capacity where that isn't enforced."""
    files = {"cpu.weight": weight(amounts.get("cpu", 0))}
    if amounts.get("memory"):
        files["memory.max"] = str(amounts["memory"])
    if amounts.get("pid"):
        files["pids.max"] = str(amounts["pid"])
    return files


def reserved_files(amounts: Amounts, *, compressible: bool, guarded: bool) -> dict[str, str]:
    """A cgroup of daemons: what is reserved for it; with ``compressible`` of CPU only.

    ``guarded``: the kernel leaves its memory alone (MemoryQoS).
    """
    files = {"cpu.weight": weight(amounts["cpu"])} if "cpu" in amounts else {}
    if not compressible and "memory" in amounts:
        files["memory.max"] = str(amounts["memory"])
        if guarded:
            files["memory.min"] = str(amounts["memory"])
    if not compressible and "pid" in amounts:
        files["pids.max"] = str(amounts["pid"])
    return files


def burstable_files(pods: Collection[Pod], config: CgroupConfig) -> dict[str, str]:
    """The weight of the Burstable pods together: the sum of their requests."""
    requests = [pod_requests(pod) for pod in pods]
    files = {"cpu.weight": weight(sum(each.get("cpu", 0) for each in requests))}
    if config.memory_qos:
        tiered = config.memory_reservation_policy == "TieredReservation"
        files["memory.low"] = str(sum(each.get("memory", 0) for each in requests) if tiered else 0)
    return files


def guarded_memory(pods: Collection[Pod], config: CgroupConfig) -> dict[str, str]:
    """What of the memory of all pods together the kernel leaves alone, with MemoryQoS.

    No pod is protected beyond what the cgroup above it is.
    """
    tiered = config.memory_reservation_policy == "TieredReservation"
    return {"memory.min": str(_requested_memory(pods) if tiered else 0)} if config.memory_qos else {}


def memory_left(pods: Collection[Pod], config: CgroupConfig, memory: int) -> tuple[int, int] | None:
    """Bytes for the Burstable and for the BestEffort pods, so that the requests of better ones stay free.

    ``memory`` is what all pods may have. None: they aren't held back (``qosReserved``).
    """
    percent = config.qos_reserved.get("memory")
    if percent is None or not memory:
        return None
    sure = _requested_memory(each for each in pods if qos_class(each) == GUARANTEED)
    some = _requested_memory(each for each in pods if qos_class(each) == BURSTABLE)
    burstable = max(0, memory - sure * percent // 100)
    return burstable, max(0, burstable - some * percent // 100)


def _requested_memory(pods: Iterable[Pod]) -> int:
    return sum(pod_requests(each).get("memory", 0) for each in pods)


def best_effort_files() -> dict[str, str]:
    """BestEffort pods get what the others leave."""
    return {"cpu.weight": weight(0)}

"""What this node has and what of it pods may ask for (pkg/kubelet/cm, KEP node-allocatable)."""

from __future__ import annotations

import os

from minikubelet.kubelet.demands import Amounts, amounts
from minikubelet.kubelet.objects import quantity
from minikubelet.kubelet.resource_config import ResourceConfig
from minikubelet.kubelet.resources import node_cpus, node_memory

_EVICTED_BY = {"memory": "memory.available", "ephemeral-storage": "nodefs.available"}


def capacity(config: ResourceConfig, nodefs: str) -> Amounts:
    """The whole machine: cpu (millicores), memory and ``nodefs`` (bytes), pid, pods, huge pages.

    Raises OSError.
    """
    storage = os.statvfs(nodefs)
    most = config.reserved.max_pods
    if config.reserved.pods_per_core:
        most = min(most, config.reserved.pods_per_core * node_cpus())
    return {
        "cpu": node_cpus() * 1000,
        "memory": node_memory(),
        "ephemeral-storage": storage.f_blocks * storage.f_frsize,
        "pid": max_tasks(),
        "pods": most,
        **_huge_pages(),
    }


def max_tasks(proc: str = "/proc/sys/kernel") -> int:
    """Tasks that this kernel runs at most: the smaller of ``pid_max`` and ``threads-max``."""
    limits = []
    for name in ("pid_max", "threads-max"):
        with open(f"{proc}/{name}", encoding="ascii") as file:
            limits.append(int(file.read()))
    return min(limits)


def _huge_pages(folder: str = "/sys/kernel/mm/hugepages") -> Amounts:
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    found: Amounts = {}
    for name in names:
        size = int(name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        with open(f"{folder}/{name}/nr_hugepages", encoding="ascii") as file:
            shown = (
                f"{size >> 30}Gi"
                if size >= 1 << 30
                else f"{size >> 20}Mi"
                if size >= 1 << 20
                else f"{size >> 10}Ki"
            )
            found[f"hugepages-{shown}"] = int(file.read()) * size
    return found


def reserved(config: ResourceConfig) -> Amounts:
    """What the node keeps for itself. Raises ValueError."""
    kube, system = amounts(config.reserved.kube_reserved), amounts(config.reserved.system_reserved)
    total = {name: kube.get(name, 0) + system.get(name, 0) for name in kube | system}
    if config.reserved.reserved_system_cpus:
        total["cpu"] = 1000 * len(parse_cpus(config.reserved.reserved_system_cpus))
    return total


def overdrawn(config: ResourceConfig, whole: Amounts) -> list[str]:
    """Upstream's words for each resource of which more is reserved than there is. Raises ValueError."""
    kept = {**reserved(config)}
    for name, signal in _EVICTED_BY.items():
        if signal in config.eviction.hard and name in whole:
            kept[name] = kept.get(name, 0) + threshold(config.eviction.hard[signal], whole[name])
    return [
        f'Resource "{name}" has a reservation of {_shown(name, kept[name])} but capacity of '
        f"{_shown(name, whole[name])}. Expected capacity >= reservation."
        for name in sorted(kept.keys() & whole.keys())
        if kept[name] > whole[name]
    ]


def _shown(name: str, amount: int) -> str:
    if name == "cpu":
        return f"{amount}m" if amount % 1000 else f"{amount // 1000}"
    return quantity.decimal(amount) if name == "pid" else quantity.binary(amount)


def unreserved(config: ResourceConfig, whole: Amounts) -> Amounts:
    """Capacity without what is reserved: the limit of all pods together. Raises ValueError."""
    kept = reserved(config)
    return {name: max(0, value - kept.get(name, 0)) for name, value in whole.items()}


def allocatable(config: ResourceConfig, whole: Amounts) -> Amounts:
    """What requests are counted against: hard eviction thresholds are off as well. Raises ValueError."""
    left = unreserved(config, whole)
    for name, signal in _EVICTED_BY.items():
        if signal in config.eviction.hard and name in left:
            left[name] = max(0, left[name] - threshold(config.eviction.hard[signal], whole[name]))
    return left


def threshold(text: str, whole: int) -> int:
    """A quantity, or a percentage of ``whole``. Raises ValueError."""
    if text.endswith("%"):
        share = float(text[:-1])
        if not 0 <= share <= 100:
            raise ValueError(f"{text} is no percentage")
        return int(whole * share / 100)
    return quantity.whole(text)


def parse_cpus(text: str) -> frozenset[int]:
    """A kernel CPU list such as ``0-2,7``. Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        begin, end = int(first), int(last or first)
        if begin < 0 or end < begin or end > 1 << 16:
            raise ValueError(f"{part!r} is no range of CPUs")
        found.update(range(begin, end + 1))
    return frozenset(found)


def format_cpus(cpus: frozenset[int]) -> str:
    """The kernel's way to write a set of CPUs."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)

"""The memory controller: memory.max, memory.swap.max, statistics and OOM events."""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.base.errors import invalid
from minikubelet.linux.cgroup.files import keyed, number, read


@dataclass(frozen=True)
class MemoryStats:
    """Bytes unless said otherwise."""

    usage: int
    working_set: int
    """usage - inactive_file: what the kubelet evicts by."""
    rss: int
    """Anonymous memory (memory.stat ``anon``)."""
    available: int
    """limit - working set; 0 without a limit."""
    limit: int
    """-1: none."""
    swap_usage: int
    swap_limit: int
    """-1: none."""
    peak: int
    page_faults: int
    major_page_faults: int
    inactive_file: int
    file: int
    kernel: int
    active_file: int = 0
    file_mapped: int = 0


@dataclass(frozen=True)
class MemoryEvents:
    """Counters of memory.events (with descendants)."""

    oom: int = 0
    oom_kill: int = 0
    """Processes killed by the OOM killer."""
    max: int = 0
    high: int = 0


def files(limit: int, swap_limit: int) -> dict[str, str]:
    """``memory.max`` and ``memory.swap.max``.

    CRI's swap limit counts memory and swap together, cgroup v2 swap alone: the difference is written. With
    a memory limit and no swap limit, swap is off, as in other CRI runtimes.

    Raises NodeError INVALID_ARGUMENT.
    """
    if limit < -1:
        raise invalid("resources.memory_limit_in_bytes", f"{limit} is no size")
    if swap_limit < -1:
        raise invalid("resources.memory_swap_limit_in_bytes", f"{swap_limit} is no size")
    result: dict[str, str] = {}
    if limit:
        result["memory.max"] = "max" if limit == -1 else str(limit)
    if swap_limit == -1 or (limit == -1 and not swap_limit):
        result["memory.swap.max"] = "max"
    elif swap_limit and limit == -1:
        result["memory.swap.max"] = str(swap_limit)
    elif swap_limit:
        if not limit:
            raise invalid("resources.memory_swap_limit_in_bytes", "needs memory_limit_in_bytes")
        if swap_limit < limit:
            raise invalid(
                "resources.memory_swap_limit_in_bytes",
                f"{swap_limit} (memory and swap together) is less than the memory limit {limit}",
            )
        result["memory.swap.max"] = str(swap_limit - limit)
    elif limit:
        result["memory.swap.max"] = "0"
    return result


def stats(folder: str) -> MemoryStats | None:
    """Statistics of one cgroup; None without the controller. Raises OSError."""
    usage = number(folder, "memory.current")
    if usage is None:
        return None
    values = keyed(read(folder, "memory.stat"))
    limit = number(folder, "memory.max")
    limit = -1 if limit is None else limit
    working_set = max(0, usage - values.get("inactive_file", 0))
    swap_limit = number(folder, "memory.swap.max")
    return MemoryStats(
        usage=usage,
        working_set=working_set,
        rss=values.get("anon", 0),
        available=max(0, limit - working_set) if limit >= 0 else 0,
        limit=limit,
        swap_usage=number(folder, "memory.swap.current") or 0,
        swap_limit=-1 if swap_limit is None else swap_limit,
        peak=number(folder, "memory.peak") or 0,
        page_faults=values.get("pgfault", 0),
        major_page_faults=values.get("pgmajfault", 0),
        inactive_file=values.get("inactive_file", 0),
        file=values.get("file", 0),
        kernel=values.get("kernel", 0),
        active_file=values.get("active_file", 0),
        file_mapped=values.get("file_mapped", 0),
    )


def events(folder: str) -> MemoryEvents:
    """OOM counters; zeros without the controller. Raises OSError."""
    values = keyed(read(folder, "memory.events"))
    return MemoryEvents(
        values.get("oom", 0), values.get("oom_kill", 0), values.get("max", 0), values.get("high", 0)
    )

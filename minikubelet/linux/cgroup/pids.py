"""The pids controller: how many tasks (processes and threads) a cgroup may hold."""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.base.errors import invalid
from minikubelet.linux.cgroup.files import number, read


@dataclass(frozen=True)
class PidsStats:
    """Tasks."""

    current: int
    limit: int
    """-1: none."""


def files(limit: int) -> dict[str, str]:
    """``pids.max``: 0 leaves it alone, -1 is no limit. Raises NodeError INVALID_ARGUMENT."""
    if limit < -1:
        raise invalid("resources.pids_limit", f"{limit} is no number of tasks")
    if not limit:
        return {}
    return {"pids.max": "max" if limit == -1 else str(limit)}


def stats(folder: str) -> PidsStats | None:
    """Tasks of the cgroup and below; without the controller those of the cgroup itself are counted.

    None when the cgroup is gone. Raises OSError.
    """
    current = number(folder, "pids.current")
    if current is not None:
        limit = number(folder, "pids.max")
        return PidsStats(current, -1 if limit is None else limit)
    threads = read(folder, "cgroup.threads")
    return None if threads is None else PidsStats(len(threads.split()), -1)

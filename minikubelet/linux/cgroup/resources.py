"""What may be asked of a cgroup, and what of it this host can enforce."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from minikubelet.base.errors import NodeError, invalid, precondition
from minikubelet.linux.cgroup import cpu, cpuset, hugetlb, memory, pids

_FILE = re.compile(r"([a-z][a-z0-9_]*)\.[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\Z")
_CORE_ALLOWED = ("cgroup.max.depth", "cgroup.max.descendants")
_WISHES = frozenset(
    (
        "cpu.weight",
        "cpu.weight.nice",
        "cpu.idle",
        "cpu.max.burst",
        "io.weight",
        "io.bfq.weight",
        "io.prio.class",
        "memory.low",
        "memory.min",
    )
)
"""Files that only prefer; without their controller everything works, less fairly."""


@dataclass(frozen=True)
class Resources:
    """Typed settings of one cgroup. 0 and empty mean: leave alone; -1: no limit (as in CRI's resources)."""

    memory_limit: int = 0
    """Bytes."""
    memory_swap_limit: int = 0
    """Bytes of memory *and* swap together, as CRI and OCI count."""
    cpu_shares: int = 0
    """cgroup v1 scale, 2-262144."""
    cpu_quota: int = 0
    """Microseconds a period."""
    cpu_period: int = 0
    """Microseconds; 100000 when unset."""
    cpu_burst: int = 0
    """Microseconds."""
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    hugepage_limits: tuple[tuple[str, int], ...] = ()
    """(page size as ``2MB``, bytes)."""
    unified: Mapping[str, str] = field(default_factory=dict)
    """File → content, written as they are, over all of the above."""


@dataclass(frozen=True)
class Lack:
    """A setting that this host can't carry out."""

    file: str
    value: str
    controller: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The files to write, and what had to be left out of them."""

    files: dict[str, str]
    limits: tuple[Lack, ...] = ()
    """Limits: a request must be refused unless the operator allowed to go on without."""
    wishes: tuple[Lack, ...] = ()
    """Preferences: skipped with a warning."""

    def require(self) -> None:
        """Raises NodeError FAILED_PRECONDITION naming every limit that can't be enforced."""
        if self.limits:
            raise unenforceable(self.limits)


def unenforceable(lacks: Collection[Lack]) -> NodeError:
    """The error of a request with limits that this host can't enforce."""
    what = ", ".join(f"{lack.file}={lack.value}" for lack in lacks)
    reasons = "; ".join(sorted({lack.reason for lack in lacks}))
    return precondition(
        f"this host can't enforce {what}: {reasons} (--unenforced-limits=allow runs without such limits)"
    )


def to_files(resources: Resources) -> dict[str, str]:
    """``{file: content}`` in the order to write. Raises NodeError INVALID_ARGUMENT with the CRI field."""
    files = memory.files(resources.memory_limit, resources.memory_swap_limit)
    files |= cpu.files(resources.cpu_shares, resources.cpu_quota, resources.cpu_period, resources.cpu_burst)
    files |= cpuset.files(resources.cpuset_cpus, resources.cpuset_mems)
    files |= pids.files(resources.pids_limit)
    files |= hugetlb.files(resources.hugepage_limits)
    for name, value in resources.unified.items():
        check_unified(name, value)
        files.pop(name, None)
        files[name] = value
    return files


def check_unified(name: str, value: str) -> None:
    """Refuse names that are no resource file (``cgroup.procs``, paths) and values of several lines.

    Raises NodeError INVALID_ARGUMENT.
    """
    if not _FILE.match(name):
        raise invalid("resources.unified", f"{name!r} is no name of a cgroup v2 file")
    if name.startswith("cgroup.") and name not in _CORE_ALLOWED:
        raise invalid("resources.unified", f"{name} is managed by minikubelet and can't be set")
    if not value or any(ord(char) < 0x20 or ord(char) > 0x7E for char in value):
        raise invalid("resources.unified", f"the value of {name} is empty or not one line of text: {value!r}")


def plan(resources: Resources, controllers: Collection[str], where: str = "cgroup2") -> Plan:
    """Split the settings by what ``controllers`` (of the parent cgroup) can carry out.

    Raises NodeError INVALID_ARGUMENT for settings that no host could.
    """
    files: dict[str, str] = {}
    limits: list[Lack] = []
    wishes: list[Lack] = []
    for name, value in to_files(resources).items():
        controller = name.partition(".")[0]
        if controller == "cgroup" or controller in controllers:
            files[name] = value
            continue
        reason = f"{where} has no {controller} controller here"
        lack = Lack(name, value, controller, reason)
        (wishes if _is_wish(name, value, resources) else limits).append(lack)
    return Plan(files, tuple(limits), tuple(wishes))


def _is_wish(name: str, value: str, resources: Resources) -> bool:
    if name in _WISHES or value.partition(" ")[0] == "max":  # "max 100000": a period alone limits nothing
        return True
    if name in resources.unified:
        return False
    if name == "memory.swap.max":  # memory.max tells of the lack; swap follows from it
        return resources.memory_limit > 0
    # the kubelet always sends a zero for each page size that a pod did not ask for
    return name.startswith("hugetlb.") and value == "0"

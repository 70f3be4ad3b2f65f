"""What is watched, from when on it is too little, and since when it has been (pkg/kubelet/eviction)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from minikubelet.kubelet.allocatable import threshold as resolve
from minikubelet.kubelet.resource_config import EvictionConfig

MEMORY, DISK, PID = "MemoryPressure", "DiskPressure", "PIDPressure"
ALLOCATABLE_MEMORY = "allocatableMemory.available"
SIGNALS: Mapping[str, tuple[str, str]] = {
    "memory.available": (MEMORY, "memory"),
    ALLOCATABLE_MEMORY: (MEMORY, "memory"),
    "nodefs.available": (DISK, "ephemeral-storage"),
    "nodefs.inodesFree": (DISK, "inodes"),
    "imagefs.available": (DISK, "ephemeral-storage"),
    "imagefs.inodesFree": (DISK, "inodes"),
    "containerfs.available": (DISK, "ephemeral-storage"),
    "containerfs.inodesFree": (DISK, "inodes"),
    "pid.available": (PID, "pids"),
}
"""Signal → the node's condition and the resource that is short, in upstream's words."""


@dataclass(frozen=True)
class Observation:
    """How much there is of something; bytes, inodes or tasks."""

    available: int
    capacity: int


@dataclass(frozen=True)
class Threshold:
    """From when on a signal means pressure. ``grace`` seconds; 0 for a hard threshold."""

    signal: str
    value: str
    grace: float = 0.0
    reclaim: str = ""
    """How much more than ``value`` must be there until it is over."""
    hard: bool = True

    @property
    def condition(self) -> str:
        """The node's condition while it is met."""
        return SIGNALS[self.signal][0]

    @property
    def resource(self) -> str:
        """What there is too little of."""
        return SIGNALS[self.signal][1]

    def amount(self, seen: Observation) -> int:
        """``value`` in units."""
        return resolve(self.value, seen.capacity)

    def met(self, seen: Observation | None, *, reclaiming: bool = False) -> bool:
        """Whether there is too little; while ``reclaiming``, the minimum to reclaim counts too."""
        if seen is None:
            return False
        wanted = self.amount(seen)
        if reclaiming and self.reclaim:
            wanted += resolve(self.reclaim, seen.capacity)
        return seen.available < wanted


def parse(config: EvictionConfig, *, allocatable: bool) -> list[Threshold]:
    """All thresholds of the settings; ``allocatable``: the pods' own memory limit is watched as well.

    Raises ValueError for unknown signals, bad quantities, soft thresholds without a grace period.
    """
    found = [
        Threshold(signal, value, reclaim=config.minimum_reclaim.get(signal, ""))
        for signal, value in config.hard.items()
        if value not in ("0%", "100%")
    ]
    if allocatable:
        found += [
            Threshold(ALLOCATABLE_MEMORY, each.value, reclaim=each.reclaim)
            for each in found
            if each.signal == "memory.available"
        ]
    for signal, value in config.soft.items():
        grace = config.soft_grace_period.get(signal)
        if grace is None:
            raise ValueError(f"evictionSoft {signal} has no evictionSoftGracePeriod")
        if value not in ("0%", "100%"):
            reclaim = config.minimum_reclaim.get(signal, "")
            found.append(Threshold(signal, value, grace, reclaim, hard=False))
    for each in found:
        if each.signal not in SIGNALS:
            raise ValueError(f"unknown eviction signal {each.signal!r}; known: {', '.join(SIGNALS)}")
        resolve(each.value, 1)
        if each.reclaim:
            resolve(each.reclaim, 1)
    return found


class Watch:
    """Which thresholds are met, since when, and which conditions follow; times on the monotonic clock."""

    def __init__(self, thresholds: Iterable[Threshold], transition: float) -> None:
        self._thresholds = list(thresholds)
        self._transition = transition
        self._since: dict[Threshold, float] = {}
        self._acting: list[Threshold] = []
        self._pressed: dict[str, float] = {}
        self.conditions: set[str] = set()
        """Conditions seen within the transition period."""

    def look(self, seen: Mapping[str, Observation], now: float) -> list[Threshold]:
        """The thresholds that something must be done about now, the most urgent first."""
        met = [each for each in self._thresholds if each.met(seen.get(each.signal))]
        met += [e for e in self._acting if e not in met and e.met(seen.get(e.signal), reclaiming=True)]
        self._since = {each: self._since.get(each, now) for each in met}
        for each in met:
            self._pressed[each.condition] = now
        self.conditions = {
            condition
            for condition, last in self._pressed.items()
            if now - last < self._transition or any(each.condition == condition for each in met)
        }
        self._acting = [each for each in met if now - self._since[each] >= each.grace]
        return sorted(self._acting, key=lambda each: (each.condition != MEMORY, each.signal))

    def satisfied(self, seen: Mapping[str, Observation]) -> bool:
        """Whether nothing is short any more, the minimum to reclaim included."""
        return not any(each.met(seen.get(each.signal), reclaiming=True) for each in self._thresholds)

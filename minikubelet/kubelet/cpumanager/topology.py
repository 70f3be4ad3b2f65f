"""Which CPUs share a core and a socket (/sys/devices/system/cpu), and which ones to take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from minikubelet.kubelet.allocatable import parse_cpus

SYSFS = "/sys/devices/system/cpu"


class NotEnough(ValueError):
    """There are fewer CPUs than asked for."""


@dataclass(frozen=True)
class Place:
    """Where a CPU is."""

    socket: int
    core: int
    """Unique within the socket."""


class NotAligned(NotEnough):
    """CPUs can't be given as whole cores."""


class Topology:
    """The CPUs of a machine."""

    def __init__(self, places: dict[int, Place]) -> None:
        self.places = places

    @property
    def cpus(self) -> frozenset[int]:
        """All CPUs that are online."""
        return frozenset(self.places)

    @property
    def threads(self) -> int:
        """CPUs a core."""
        return max(1, len(self.places) // len({self._core(cpu) for cpu in self.places}))

    def siblings(self, cpus: Iterable[int]) -> frozenset[int]:
        """All CPUs of the cores that any of ``cpus`` is on."""
        cores = {self._core(cpu) for cpu in cpus}
        return frozenset(cpu for cpu in self.places if self._core(cpu) in cores)

    def take(self, available: Iterable[int], count: int) -> frozenset[int]:
        """``count`` CPUs packed closely: whole sockets, then whole cores, then the fullest cores.

        Raises NotEnough.
        """
        left = set(available)
        if len(left) < count:
            raise NotEnough(
                f"not enough cpus available to satisfy request: requested={count}, available={len(left)}"
            )
        taken: set[int] = set()
        for unit in (self._socket, self._core):
            for group in self._whole(left, unit):
                if len(group) <= count - len(taken):
                    taken |= group
                    left -= group

        # Single threads: of sockets, then cores, that already have the fewest free ones.
        def free(cpu: int) -> tuple[int, int, int]:
            socket = sum(1 for each in left if self._socket(each) == self._socket(cpu))
            core = sum(1 for each in left if self._core(each) == self._core(cpu))
            return socket, core, cpu

        while len(taken) < count:
            best = min(left, key=free)
            taken.add(best)
            left.remove(best)
        return frozenset(taken)

    def _socket(self, cpu: int) -> tuple[int, ...]:
        return (self.places[cpu].socket,)

    def _core(self, cpu: int) -> tuple[int, ...]:
        return self.places[cpu].socket, self.places[cpu].core

    def _whole(self, left: set[int], unit: Callable[[int], tuple[int, ...]]) -> list[set[int]]:
        """Sockets or cores of which every CPU is free, in the order of their numbers."""
        groups: dict[tuple[int, ...], set[int]] = {}
        for cpu in self.places:
            groups.setdefault(unit(cpu), set()).add(cpu)
        return [groups[key] for key in sorted(groups) if groups[key] <= left]


def read_topology(sysfs: str = SYSFS) -> Topology:
    """The machine's; a CPU of which the kernel tells no place has a core of its own. Raises OSError."""
    with open(f"{sysfs}/online", encoding="ascii") as file:
        online = parse_cpus(file.read())
    places = {}
    for cpu in sorted(online):
        folder = f"{sysfs}/cpu{cpu}/topology"
        places[cpu] = Place(_number(f"{folder}/physical_package_id", 0), _number(f"{folder}/core_id", cpu))
    return Topology(places)


def _number(path: str, otherwise: int) -> int:
    try:
        with open(path, encoding="ascii") as file:
            value = int(file.read())
    except (OSError, ValueError):
        return otherwise
    return value if value >= 0 else otherwise


def numa_node(cpu: int, sysfs: str = SYSFS) -> int:
    """The NUMA node of a CPU; 0 where the kernel doesn't tell."""
    try:
        names = os.listdir(f"{sysfs}/cpu{cpu}")
    except OSError:
        return 0
    return next((int(n[4:]) for n in names if n.startswith("node") and n[4:].isdigit()), 0)

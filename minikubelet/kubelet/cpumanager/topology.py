"""Which CPUs share a core, a socket and a NUMA node (/sys/devices/system/cpu), and which ones to take."""

from __future__ import annotations

import os
from collections import Counter
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
    node: int
    """NUMA node."""
    core: int
    """Unique within the socket."""


class NotAligned(NotEnough):
    """CPUs can't be given as whole cores."""


class Topology:
    """The CPUs of a machine."""

    def __init__(self, places: dict[int, Place]) -> None:
        self.places = places
        first: dict[tuple[int, int], int] = {}
        for cpu, place in sorted(places.items()):
            first.setdefault((place.socket, place.core), cpu)
        self._cores = {cpu: first[place.socket, place.core] for cpu, place in places.items()}
        """Cores go by their first CPU."""

    @property
    def cpus(self) -> frozenset[int]:
        """All CPUs that are online."""
        return frozenset(self.places)

    @property
    def threads(self) -> int:
        """CPUs a core."""
        return max(1, len(self.places) // len(set(self._cores.values())))

    def siblings(self, cpus: Iterable[int]) -> frozenset[int]:
        """All CPUs of the cores that any of ``cpus`` is on."""
        cores = {self._cores[cpu] for cpu in cpus}
        return frozenset(cpu for cpu in self.places if self._cores[cpu] in cores)

    def take(self, available: Iterable[int], count: int) -> frozenset[int]:
        """``count`` CPUs packed closely: whole NUMA nodes and sockets, then whole cores, then single threads.

        Where there is a choice, of what has the fewest free CPUs: so that large parts stay whole
        (pkg/kubelet/cm/cpumanager/cpu_assignment.go). Raises NotEnough.
        """
        left = set(available)
        if len(left) < count:
            raise NotEnough(
                f"not enough cpus available to satisfy request: requested={count}, available={len(left)}"
            )
        taken: set[int] = set()
        for level in self._levels():
            for group in self._whole(left, level):
                if len(group) <= count - len(taken):
                    taken |= group
                    left -= group
        return frozenset(taken.union(self._packed(left)[: count - len(taken)]))

    def _levels(self) -> list[Callable[[int], int]]:
        """What parts a CPU belongs to, the largest first: a node has sockets, or a socket nodes."""

        def node(cpu: int) -> int:
            return self.places[cpu].node

        def socket(cpu: int) -> int:
            return self.places[cpu].socket

        nodes, sockets = (len({part(cpu) for cpu in self.places}) for part in (node, socket))
        return [*((node, socket) if sockets >= nodes else (socket, node)), self._cores.__getitem__]

    def _packed(self, left: Iterable[int]) -> list[int]:
        """Free CPUs in the order in which they are taken."""
        left, levels = list(left), self._levels()
        free = [Counter(map(level, left)) for level in levels]

        def order(cpu: int) -> list[tuple[int, int]]:
            parts = [level(cpu) for level in levels]
            return [*((count[part], part) for count, part in zip(free, parts, strict=True)), (cpu, cpu)]

        return sorted(left, key=order)

    def _whole(self, left: set[int], level: Callable[[int], int]) -> list[set[int]]:
        """The parts of which every CPU is free, in the order in which they are taken."""
        parts: dict[int, set[int]] = {}
        for cpu in self.places:
            parts.setdefault(level(cpu), set()).add(cpu)
        order = dict.fromkeys(map(level, self._packed(left)))
        return [parts[part] for part in order if parts[part] <= left]


def read_topology(sysfs: str = SYSFS) -> Topology:
    """The machine's; a CPU of which the kernel tells no place has a core of its own. Raises OSError."""
    with open(f"{sysfs}/online", encoding="ascii") as file:
        online = parse_cpus(file.read())
    places = {}
    for cpu in sorted(online):
        folder = f"{sysfs}/cpu{cpu}/topology"
        places[cpu] = Place(
            _number(f"{folder}/physical_package_id", 0),
            numa_node(cpu, sysfs),
            _number(f"{folder}/core_id", cpu),
        )
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

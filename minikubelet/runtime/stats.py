"""Use of cpu, memory, disk and network by containers and pods.

From cgroup v2 files where their controllers exist. On a hybrid host cpu time and pressure still come from
cgroup2's core; memory is the sum over the cgroup's processes in /proc.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from minikubelet.base.clock import monotonic, now_ns
from minikubelet.linux.cgroup import core, cpu, memory, pids, pressure
from minikubelet.linux.cgroup.pressure import Pressure
from minikubelet.runtime.context import Context
from minikubelet.runtime.lifecycle import sandbox_cgroup
from minikubelet.runtime.models import Container, ContainerState, Sandbox

_DISK_PERIOD = 10.0
"""Seconds for which a walk over a writable layer is good enough."""
_LINKS_OF_LEAF = 2
"""Of a folder in cgroupfs that has no folders in it: its name and its own dot."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_RESOURCES = ("cpu", "memory", "io")


@dataclass(frozen=True)
class Memory:
    """Bytes; faults are counts."""

    usage: int = 0
    working_set: int = 0
    available: int = 0
    rss: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    swap_usage: int | None = None
    swap_available: int | None = None


@dataclass(frozen=True)
class Disk:
    """A writable layer."""

    timestamp: int
    path: str
    bytes: int
    inodes: int


@dataclass(frozen=True)
class Usage:
    """One measurement of one container."""

    container: Container
    timestamp: int
    cpu: int | None = None
    """Nanoseconds of cpu time so far; None: not running."""
    nano_cores: int | None = None
    """Cpu time a second since the last measurement, in nanoseconds; None at the first."""
    memory: Memory | None = None
    disk: Disk | None = None
    pressure: dict[str, Pressure] = field(default_factory=dict)


@dataclass(frozen=True)
class Interface:
    """Counters of one network interface of a pod."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int
    rx_packets: int = 0
    rx_dropped: int = 0
    tx_packets: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True)
class PodUsage:
    """One measurement of a pod: its containers and pause together."""

    sandbox: Sandbox
    timestamp: int
    containers: list[Usage]
    cpu: int
    nano_cores: int | None
    memory: Memory
    processes: int
    interfaces: list[Interface]
    """The default one first."""


class Meter:
    """Measures; remembers just enough to tell rates and to spare the disk."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last_cpu: dict[str, tuple[int, int, int | None]] = {}
        self._disks: dict[str, tuple[float, Disk]] = {}

    async def containers(self, containers: Iterable[Container]) -> list[Usage]:
        """Measure each; one that has ended keeps its disk usage only."""
        self._forget()
        chosen = list(containers)
        disks = await self._measure_disks(chosen)
        return [self._container(container, disks[container.id]) for container in chosen]

    async def pods(self, sandboxes: Iterable[Sandbox]) -> list[PodUsage]:
        """Measure each pod with its running containers."""
        self._forget()
        running = {
            sandbox: [c for c in sandbox.containers.values() if c.state is ContainerState.RUNNING]
            for sandbox in sandboxes
        }
        disks = await self._measure_disks([c for containers in running.values() for c in containers])
        return [
            self._pod(sandbox, [self._container(c, disks[c.id]) for c in containers])
            for sandbox, containers in running.items()
        ]

    def _container(self, container: Container, disk: Disk) -> Usage:
        timestamp = now_ns()
        if container.state is not ContainerState.RUNNING:
            return Usage(container, timestamp, disk=disk)
        folder = self._folder(container)
        spent = cpu_time(folder)
        stalls = {name: stall for name in _RESOURCES if (stall := pressure.stats(folder, name)) is not None}
        return Usage(
            container=container,
            timestamp=timestamp,
            cpu=spent,
            nano_cores=self._rate(container.id, spent, timestamp),
            memory=memory_use(folder),
            disk=disk,
            pressure=stalls,
        )

    def _pod(self, sandbox: Sandbox, containers: list[Usage]) -> PodUsage:
        folder = self._context.cgroups.path + sandbox_cgroup(sandbox)
        timestamp = now_ns()
        pause = memory_use(folder)
        spent = cpu_time(folder) + sum(usage.cpu or 0 for usage in containers)
        parts = [usage.memory for usage in containers if usage.memory is not None]
        folders = [folder, *(self._folder(usage.container) for usage in containers)]
        return PodUsage(
            sandbox=sandbox,
            timestamp=timestamp,
            containers=containers,
            cpu=spent,
            nano_cores=self._rate(sandbox.id, spent, timestamp),
            memory=_sum([pause, *parts]),
            processes=sum(map(count_processes, folders)),
            interfaces=interfaces(sandbox.status.pid) if sandbox.config.namespaces.network == "pod" else [],
        )

    def _rate(self, key: str, spent: int, timestamp: int) -> int | None:
        last = self._last_cpu.get(key)
        if last is None:
            self._last_cpu[key] = (timestamp, spent, None)
            return None
        before, spent_before, rate = last
        if timestamp - before < 100_000_000:  # too short to say anything
            return rate
        rate = max(0, spent - spent_before) * 1_000_000_000 // (timestamp - before)
        self._last_cpu[key] = (timestamp, spent, rate)
        return rate

    def _folder(self, container: Container) -> str:
        return self._context.cgroups.path + container.cgroup

    async def disk(self, container: Container) -> Disk:
        """Use of a writable layer, at most ten seconds old."""
        return (await self._measure_disks([container]))[container.id]

    async def _measure_disks(self, containers: list[Container]) -> dict[str, Disk]:
        """Of each container; the layers that were not walked over lately are, all in one turn of a thread."""
        now = monotonic()
        known = {
            container.id: found[1]
            for container in containers
            if (found := self._disks.get(container.id)) is not None and now - found[0] < _DISK_PERIOD
        }
        missing = [container.id for container in containers if container.id not in known]
        if missing:
            paths = [f"{self._context.container_dir(identifier)}/upper" for identifier in missing]
            sizes = await asyncio.to_thread(lambda: list(map(tree_size, paths)))
            now, timestamp = monotonic(), now_ns()
            for identifier, (used, inodes) in zip(missing, sizes, strict=True):
                known[identifier] = Disk(timestamp, self._context.config.root, used, inodes)
                self._disks[identifier] = (now, known[identifier])
        return known

    def _forget(self) -> None:
        known = self._context.containers.keys() | self._context.sandboxes.keys()
        for table in (self._last_cpu, self._disks):
            for key in table.keys() - known:
                del table[key]


def cpu_time(folder: str) -> int:
    """Nanoseconds of cpu time of a cgroup (cpu.stat needs no controller); 0 when it is gone."""
    found = cpu.stats(folder)
    return found.usage * 1000 if found is not None else 0


def count_processes(folder: str) -> int:
    """Tasks of a cgroup; 0 when it is gone."""
    found = pids.stats(folder)
    return found.current if found is not None else 0


def memory_use(folder: str) -> Memory:
    """Memory of a cgroup."""
    found = memory.stats(folder)
    if found is None:
        return _memory_of_processes(folder)
    swap_left = max(0, found.swap_limit - found.swap_usage) if found.swap_limit >= 0 else None
    return Memory(
        usage=found.usage,
        working_set=found.working_set,
        available=found.available,
        rss=found.rss,
        page_faults=found.page_faults,
        major_page_faults=found.major_page_faults,
        swap_usage=found.swap_usage,
        swap_available=swap_left,
    )


def _memory_of_processes(folder: str) -> Memory:
    """From statm and stat (proc(5)): what the processes have mapped, shared pages counted in each."""
    resident = anonymous = minor = major = 0
    for pid in _all_processes(folder):
        try:
            _, pages, shared, _ = _read(f"/proc/{pid}/statm").split(None, 3)
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split(None, 11)
        except (FileNotFoundError, ProcessLookupError):
            continue
        resident += int(pages)
        anonymous += int(pages) - int(shared)
        minor += int(fields[7])
        major += int(fields[9])
    return Memory(
        usage=resident * _PAGE,
        working_set=resident * _PAGE,
        rss=anonymous * _PAGE,
        page_faults=minor + major,
        major_page_faults=major,
    )


def _all_processes(folder: str) -> list[int]:
    """PIDs in a cgroup and in those below (of execs); the folder's links tell whether there are any."""
    try:
        if os.stat(folder).st_nlink == _LINKS_OF_LEAF:
            return core.processes(folder)
    except FileNotFoundError:
        return []
    return [pid for child in core.descendants(folder) for pid in core.processes(child)]


def _read(path: str) -> bytes:
    """A small file of proc, in one read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _sum(parts: list[Memory]) -> Memory:
    swaps = [part.swap_usage for part in parts if part.swap_usage is not None]
    return Memory(
        usage=sum(part.usage for part in parts),
        working_set=sum(part.working_set for part in parts),
        available=sum(part.available for part in parts),
        rss=sum(part.rss for part in parts),
        page_faults=sum(part.page_faults for part in parts),
        major_page_faults=sum(part.major_page_faults for part in parts),
        swap_usage=sum(swaps) if swaps else None,
    )


def interfaces(pid: int) -> list[Interface]:
    """Counters in the network namespace of process ``pid`` (proc_net(5)), without the loopback."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return []
    found = []
    for line in lines:
        name, _, rest = line.partition(":")
        values = [int(value) for value in rest.split()]
        if name.strip() != "lo" and len(values) >= 16:
            found.append(
                Interface(
                    name.strip(),
                    rx_bytes=values[0],
                    rx_packets=values[1],
                    rx_errors=values[2],
                    rx_dropped=values[3],
                    tx_bytes=values[8],
                    tx_packets=values[9],
                    tx_errors=values[10],
                    tx_dropped=values[11],
                )
            )
    return sorted(found, key=lambda interface: (interface.name != "eth0", interface.name))


def tree_size(path: str) -> tuple[int, int]:
    """Bytes on disk and inodes below a folder; links are not followed, hard links count once."""
    used = inodes = 0
    seen: set[int] = set()
    pending = [path]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if info.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if info.st_ino in seen:
                        continue
                    seen.add(info.st_ino)
                used += info.st_blocks * 512
                inodes += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return used, inodes

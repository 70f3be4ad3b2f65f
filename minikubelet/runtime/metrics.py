"""ListPodSandboxMetrics: what /metrics/cadvisor shows, measured. What this host can't tell is left out."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

from minikubelet.base.clock import now_ns
from minikubelet.linux.cgroup import core, cpu, io, memory, pids
from minikubelet.runtime.metric_descriptors import BY_NAME, Descriptor
from minikubelet.runtime.models import Container, Sandbox
from minikubelet.runtime.stats import Disk, interfaces, memory_use

_SECOND = 1_000_000_000
_UNLIMITED = (1 << 64) - 1


@dataclass(frozen=True)
class Sample:
    """One value of one metric."""

    descriptor: Descriptor
    labels: tuple[str, ...]
    value: int


@dataclass(frozen=True)
class PodMetrics:
    """The samples of a pod: its own, and each running container's."""

    sandbox_id: str
    timestamp: int
    own: list[Sample]
    containers: dict[str, list[Sample]]


_Values = Iterator[tuple[str, tuple[str, ...], int]]
"""(metric without ``container_``, labels beyond the base ones, value)."""


def measure(sandbox: Sandbox, disks: dict[str, Disk], containers: list[Container], mount: str) -> PodMetrics:
    """Measure a pod with its running ``containers``; ``mount`` is that of cgroup2. Reads many small files."""
    containers_found = {}
    for container in containers:
        values = _container(container, mount + container.cgroup, disks.get(container.id))
        image = container.config.image.user_specified_image or container.config.image.image
        base = _labels(sandbox, container.config.metadata.name, container.id, image)
        containers_found[container.id] = _samples(base, values)
    own = _samples(_labels(sandbox, "", sandbox.id, ""), _network(sandbox))
    return PodMetrics(sandbox.id, now_ns(), own, containers_found)


def _labels(sandbox: Sandbox, container: str, identifier: str, image: str) -> tuple[str, ...]:
    metadata = sandbox.config.metadata
    return (metadata.name, metadata.namespace, container, identifier, image)


def _samples(base: tuple[str, ...], values: _Values) -> list[Sample]:
    return [
        Sample(BY_NAME[f"container_{name}"], (*base, *labels), max(0, value))
        for name, labels, value in values
    ]


def _container(container: Container, folder: str, disk: Disk | None) -> _Values:
    yield "last_seen", (), now_ns() // _SECOND
    yield "start_time_seconds", (), container.status.started_at // _SECOND
    yield from _cpu(folder)
    yield from _memory(folder)
    yield from _disk(disk)
    yield from _io(folder)
    yield from _processes(folder)
    yield from _open_files_limit(container.status.pid)
    yield from _spec(container)


def _cpu(folder: str) -> _Values:
    found = cpu.stats(folder)
    if found is None:
        return
    yield "cpu_usage_seconds_total", (), found.usage // 1_000_000
    yield "cpu_user_seconds_total", (), found.user // 1_000_000
    yield "cpu_system_seconds_total", (), found.system // 1_000_000
    if cpu.limits(folder) is not None:  # only the controller counts periods
        yield "cpu_cfs_periods_total", (), found.periods
        yield "cpu_cfs_throttled_periods_total", (), found.throttled_periods
        yield "cpu_cfs_throttled_seconds_total", (), found.throttled // 1_000_000


def _memory(folder: str) -> _Values:
    use = memory_use(folder)
    yield "memory_usage_bytes", (), use.usage
    yield "memory_working_set_bytes", (), use.working_set
    yield "memory_rss", (), use.rss
    yield "memory_failures_total", ("pgfault", "container"), use.page_faults
    yield "memory_failures_total", ("pgmajfault", "container"), use.major_page_faults
    if use.swap_usage is not None:
        yield "memory_swap", (), use.swap_usage
    found = memory.stats(folder)
    if found is None:
        return
    yield "memory_cache", (), found.file
    yield "memory_kernel_usage", (), found.kernel
    yield "memory_mapped_file", (), found.file_mapped
    yield "memory_max_usage_bytes", (), found.peak
    yield "memory_total_active_file_bytes", (), found.active_file
    yield "memory_total_inactive_file_bytes", (), found.inactive_file
    events = memory.events(folder)
    yield "memory_failcnt", (), events.max
    yield "oom_events_total", (), events.oom_kill


def _disk(disk: Disk | None) -> _Values:
    if disk is None:
        return
    yield "fs_usage_bytes", ("/",), disk.bytes
    with contextlib.suppress(OSError):
        whole = os.statvfs(disk.path)
        yield "fs_limit_bytes", ("/",), whole.f_blocks * whole.f_frsize
        yield "fs_inodes_total", ("/",), whole.f_files
        yield "fs_inodes_free", ("/",), whole.f_ffree


def _io(folder: str) -> _Values:
    for entry in io.stats(folder) or ():
        major, _, minor = entry.device.partition(":")
        device = _device(entry.device)
        yield "fs_reads_bytes_total", (device,), entry.read_bytes
        yield "fs_writes_bytes_total", (device,), entry.write_bytes
        yield "fs_reads_total", (device,), entry.read_operations
        yield "fs_writes_total", (device,), entry.write_operations
        yield "blkio_device_usage_total", (device, major, minor, "Read"), entry.read_bytes
        yield "blkio_device_usage_total", (device, major, minor, "Write"), entry.write_bytes


@functools.lru_cache(maxsize=256)
def _device(number: str) -> str:
    """``/dev/sda`` for ``8:0`` (sysfs); the number itself where it has no name."""
    try:
        return "/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{number}"))
    except OSError:
        return number


def _processes(folder: str) -> _Values:
    found = [pid for child in core.descendants(folder) for pid in core.processes(child)]
    yield "processes", (), len(found)
    tasks = pids.stats(folder)
    if tasks is not None:
        yield "threads", (), tasks.current
        if os.path.exists(f"{folder}/pids.max"):
            yield "threads_max", (), tasks.limit
    descriptors = sockets = 0
    for pid in found:
        for target in _open_files(pid):
            descriptors += 1
            sockets += target.startswith("socket:")
    yield "file_descriptors", (), descriptors
    yield "sockets", (), sockets


def _open_files(pid: int) -> Iterator[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")


def _open_files_limit(pid: int) -> _Values:
    """The soft limit of cAdvisor's ``max_open_files`` (proc_pid_limits(5))."""
    try:
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("Max open files"):
            soft = line.split()[3]
            yield "ulimits_soft", ("max_open_files",), _UNLIMITED if soft == "unlimited" else int(soft)


def _spec(container: Container) -> _Values:
    resources = container.resources
    reserved = resources.unified.get("memory.low", "")
    for name, value in (
        ("cpu_period", resources.cpu_period),
        ("cpu_shares", resources.cpu_shares),
        ("memory_limit_bytes", resources.memory_limit),
        ("memory_swap_limit_bytes", resources.memory_swap_limit),
        ("memory_reservation_limit_bytes", int(reserved) if reserved.isdigit() else 0),
    ):
        if value > 0:
            yield f"spec_{name}", (), value


def _network(sandbox: Sandbox) -> _Values:
    if sandbox.config.namespaces.network != "pod":
        return
    for found in interfaces(sandbox.status.pid):
        label = (found.name,)
        yield "network_receive_bytes_total", label, found.rx_bytes
        yield "network_receive_packets_total", label, found.rx_packets
        yield "network_receive_packets_dropped_total", label, found.rx_dropped
        yield "network_receive_errors_total", label, found.rx_errors
        yield "network_transmit_bytes_total", label, found.tx_bytes
        yield "network_transmit_packets_total", label, found.tx_packets
        yield "network_transmit_packets_dropped_total", label, found.tx_dropped
        yield "network_transmit_errors_total", label, found.tx_errors

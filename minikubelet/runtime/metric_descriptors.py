"""The metrics that ListPodSandboxMetrics knows: cAdvisor's names with containerd's label keys.

Values are whole numbers (CRI's Metric has no fractions), so that seconds of cpu time are rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE = ("pod", "namespace", "container", "id", "image")
_DEVICE = (*BASE, "device")
_INTERFACE = (*BASE, "interface")


@dataclass(frozen=True)
class Descriptor:
    """One metric; the values of a sample's labels are in the order of ``labels``."""

    name: str
    help: str
    labels: tuple[str, ...] = BASE

    @property
    def counter(self) -> bool:
        """Whether it only grows."""
        return self.name.endswith("_total") or self.name == "container_memory_failcnt"


_CPU = (
    ("cpu_user_seconds_total", "Seconds of cpu time spent in user mode."),
    ("cpu_system_seconds_total", "Seconds of cpu time spent in the kernel."),
    ("cpu_usage_seconds_total", "Seconds of cpu time spent."),
    ("cpu_cfs_periods_total", "Bandwidth periods that have passed."),
    ("cpu_cfs_throttled_periods_total", "Bandwidth periods in which the container was held back."),
    ("cpu_cfs_throttled_seconds_total", "Seconds for which the container was held back."),
)
_MEMORY = (
    ("memory_cache", "Bytes of page cache."),
    ("memory_rss", "Bytes of anonymous memory."),
    ("memory_kernel_usage", "Bytes of memory that the kernel uses for the container."),
    ("memory_mapped_file", "Bytes of mapped files."),
    ("memory_swap", "Bytes of swap in use."),
    ("memory_failcnt", "Number of times that the memory limit was reached."),
    ("memory_usage_bytes", "Bytes of memory in use, page cache included."),
    ("memory_max_usage_bytes", "The most bytes of memory that were ever in use."),
    ("memory_working_set_bytes", "Bytes of memory in use without cache that could be dropped at once."),
    ("memory_total_active_file_bytes", "Bytes of page cache that were used lately."),
    ("memory_total_inactive_file_bytes", "Bytes of page cache that were not used lately."),
    ("oom_events_total", "Processes that the kernel killed for want of memory."),
)
_DISK = (
    ("fs_inodes_free", "Free inodes of the file system with the writable layer."),
    ("fs_inodes_total", "Inodes of the file system with the writable layer."),
    ("fs_limit_bytes", "Size of the file system with the writable layer."),
    ("fs_usage_bytes", "Bytes that the writable layer takes."),
    ("fs_reads_bytes_total", "Bytes read from the device."),
    ("fs_reads_total", "Reads from the device."),
    ("fs_writes_bytes_total", "Bytes written to the device."),
    ("fs_writes_total", "Writes to the device."),
)
_NETWORK = tuple(
    (f"network_{side}_{what}_total", f"{text} {word}.")
    for side, word in (("receive", "received"), ("transmit", "sent"))
    for what, text in (
        ("bytes", "Bytes"),
        ("packets", "Packets"),
        ("packets_dropped", "Packets dropped instead of being"),
        ("errors", "Errors while packets were"),
    )
)
_PROCESSES = (
    ("processes", "Processes in the container."),
    ("file_descriptors", "Open file descriptors of the container's processes."),
    ("sockets", "Open sockets of the container's processes."),
    ("threads_max", "How many threads the container may have; 0: any number."),
    ("threads", "Threads in the container."),
)
_LIFE = (
    ("last_seen", "When the container was looked at last, in seconds since the epoch."),
    ("start_time_seconds", "When the container was started, in seconds since the epoch."),
)
_SPEC = (
    ("spec_cpu_period", "Length of a bandwidth period in microseconds."),
    ("spec_cpu_shares", "Share of the cpu, 1024 for one core's request."),
    ("spec_memory_limit_bytes", "The memory limit."),
    ("spec_memory_reservation_limit_bytes", "Memory that is kept from being reclaimed (memory.low)."),
    ("spec_memory_swap_limit_bytes", "The limit of memory and swap together."),
)


def _all() -> tuple[Descriptor, ...]:
    plain = (*_CPU, *_MEMORY, *_PROCESSES, *_LIFE, *_SPEC)
    found = [Descriptor(f"container_{name}", text) for name, text in plain]
    found += [Descriptor(f"container_{name}", text, _DEVICE) for name, text in _DISK]
    found += [Descriptor(f"container_{name}", text, _INTERFACE) for name, text in _NETWORK]
    found.append(
        Descriptor(
            "container_memory_failures_total",
            "Page faults, and those of them that had to read from a disk.",
            (*BASE, "failure_type", "scope"),
        )
    )
    found.append(
        Descriptor(
            "container_blkio_device_usage_total",
            "Bytes moved to and from a block device.",
            (*_DEVICE, "major", "minor", "operation"),
        )
    )
    found.append(
        Descriptor(
            "container_ulimits_soft",
            "Soft limits of the container's first process; the greatest 64-bit number means unlimited.",
            (*BASE, "ulimit"),
        )
    )
    return tuple(sorted(found, key=lambda descriptor: descriptor.name))


ALL = _all()
BY_NAME = {descriptor.name: descriptor for descriptor in ALL}

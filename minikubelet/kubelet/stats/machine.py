"""What the node as a whole uses: proc(5), statvfs(3)."""

from __future__ import annotations

import os
from typing import Any

from minikubelet.base import clock

Json = dict[str, Any]

_HERTZ = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat's first line: user, nice, system, irq, softirq, steal."""


class Rate:
    """Nanoseconds of CPU time per second, from one look to the next."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._rate: int | None = None

    def of(self, total: int) -> int | None:
        """The rate since the look before, or the last one if that is under a second ago. None: too early."""
        now = clock.monotonic()
        if self._last is None:
            self._last = (now, total)
        elif now - self._last[0] >= 1:
            self._rate = max(0, int((total - self._last[1]) / (now - self._last[0])))
            self._last = (now, total)
        return self._rate


def stamp(ns: int = 0) -> str:
    """RFC 3339 in whole seconds, as metav1.Time; of ``ns`` or of now."""
    return clock.rfc3339(ns or clock.now_ns())[:19] + "Z"


def cpu_total() -> int:
    """Nanoseconds that all processors have worked since boot."""
    with open("/proc/stat", "rb") as file:
        columns = file.readline().split()[1:]
    return sum(int(columns[index]) for index in _BUSY) * 1_000_000_000 // _HERTZ


def boot_time() -> int:
    """Seconds since the epoch."""
    with open("/proc/stat", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"btime "))


def memory() -> Json:
    """The memory part of NodeStats."""
    kib = _table("/proc/meminfo")
    faults = _table("/proc/vmstat")
    used = kib["MemTotal"] - kib["MemFree"]
    working = max(0, used - kib.get("Inactive(file)", 0))
    found: Json = {
        "time": stamp(),
        "availableBytes": (kib["MemTotal"] - working) * 1024,
        "usageBytes": used * 1024,
        "workingSetBytes": working * 1024,
        "rssBytes": kib.get("AnonPages", 0) * 1024,
        "pageFaults": faults.get("pgfault", 0),
        "majorPageFaults": faults.get("pgmajfault", 0),
    }
    return found | pressure("memory")


def swap() -> Json:
    """The swap part of NodeStats."""
    kib = _table("/proc/meminfo")
    free, total = kib.get("SwapFree", 0), kib.get("SwapTotal", 0)
    return {"time": stamp(), "swapAvailableBytes": free * 1024, "swapUsageBytes": (total - free) * 1024}


def pressure(name: str) -> Json:
    """``{"psi": …}`` from /proc/pressure/NAME (Documentation/accounting/psi), or nothing where it is off."""
    found: Json = {kind: {"total": 0, "avg10": 0.0, "avg60": 0.0, "avg300": 0.0} for kind in ("full", "some")}
    try:
        with open(f"/proc/pressure/{name}", encoding="ascii") as file:
            for line in file:
                kind, *values = line.split()
                for key, _, value in (each.partition("=") for each in values):
                    # The kernel counts microseconds; upstream shows nanoseconds.
                    found[kind][key] = int(value) * 1000 if key == "total" else float(value)
    except (OSError, ValueError):
        return {}
    return {"psi": found}


def network() -> Json:
    """The network part of NodeStats: every interface but lo, and that of the default route."""
    interfaces = []
    with open("/proc/net/dev", encoding="ascii", errors="replace") as file:
        for line in file:
            name, colon, rest = line.partition(":")
            columns = rest.split()
            if colon and name.strip() != "lo":
                interfaces.append(
                    {
                        "name": name.strip(),
                        "rxBytes": int(columns[0]),
                        "rxErrors": int(columns[2]),
                        "txBytes": int(columns[8]),
                        "txErrors": int(columns[10]),
                    }
                )
    default = _default_interface()
    chosen: Json = next((each for each in interfaces if each["name"] == default), {"name": default})
    return {"time": stamp(), **chosen, "interfaces": interfaces}


def _default_interface() -> str:
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            for line in file:
                columns = line.split()
                if columns[1:2] == ["00000000"]:
                    return columns[0]
    except OSError:
        pass
    return ""


def rlimit() -> Json:
    """Process IDs that there may be, and tasks that there are."""
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        most = int(file.read())
    with open("/proc/loadavg", encoding="ascii") as file:
        tasks = int(file.read().split()[3].partition("/")[2])
    return {"time": stamp(), "maxpid": most, "curproc": tasks}


def filesystem(path: str) -> Json:
    """FsStats of the file system that holds ``path``. Raises OSError."""
    status = os.statvfs(path)
    return {
        "time": stamp(),
        "availableBytes": status.f_bavail * status.f_frsize,
        "capacityBytes": status.f_blocks * status.f_frsize,
        "usedBytes": (status.f_blocks - status.f_bfree) * status.f_frsize,
        "inodesFree": status.f_ffree,
        "inodes": status.f_files,
        "inodesUsed": status.f_files - status.f_ffree,
    }


def own_usage() -> tuple[int, int]:
    """Nanoseconds of CPU time and bytes of resident memory of this very process."""
    times = os.times()
    with open("/proc/self/statm", "rb") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return int((times.user + times.system) * 1e9), resident


def _table(path: str) -> dict[str, int]:
    with open(path, encoding="ascii") as file:
        rows = (line.split() for line in file)
        return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1}


def cpu_count() -> int:
    """Processors that are online."""
    return os.cpu_count() or 1


def cores_and_sockets(sysfs: str = "/sys/devices/system/cpu") -> tuple[int, int]:
    """How many there are that have a CPU which is online; one core a CPU where the kernel doesn't tell."""
    cores: set[tuple[str, str]] = set()
    for cpu in os.listdir(sysfs):
        try:
            core, socket = (
                _first_line(f"{sysfs}/{cpu}/topology/{name}") for name in ("core_id", "physical_package_id")
            )
        except OSError:
            continue
        cores.add((socket, core))
    return (len(cores), len({socket for socket, _ in cores})) if cores else (cpu_count(), 1)


def identity() -> dict[str, str]:
    """cAdvisor's labels of a machine; empty is what it doesn't tell."""
    found = {}
    for name, path in (
        ("machine_id", "/etc/machine-id"),
        ("system_uuid", "/sys/class/dmi/id/product_uuid"),
        ("boot_id", "/proc/sys/kernel/random/boot_id"),
    ):
        try:
            found[name] = _first_line(path)
        except OSError:
            found[name] = ""
    return found


def _first_line(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.readline(256).strip()

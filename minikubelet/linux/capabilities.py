"""Capability sets: names, bit masks, and the calls that change them (capabilities(7))."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from minikubelet.linux import libc, prctl

NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
    "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""Names by bit number, as in linux/capability.h."""

_BITS = {name: 1 << number for number, name in enumerate(NAMES)}
_VERSION_3 = 0x20080522
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_capset = libc.function("capset", ctypes.POINTER(_Header), ctypes.POINTER(_Data * 2))


def mask(names: Iterable[str]) -> int:
    """The bit mask of capability ``names``. Raises ValueError for an unknown one."""
    result = 0
    for name in names:
        try:
            result |= _BITS[name]
        except KeyError:
            raise ValueError(f"unknown capability {name!r}") from None
    return result


def names(bits: int) -> list[str]:
    """The names of the capabilities in ``bits``; unknown bits are left out."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def last_known_to_kernel() -> int:
    """Number of the highest capability this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def of_process(pid: int | str = "self") -> dict[str, int]:
    """Masks from /proc/PID/status: inheritable, permitted, effective, bounding, ambient. Raises OSError."""
    keys = {
        "CapInh": "inheritable",
        "CapPrm": "permitted",
        "CapEff": "effective",
        "CapBnd": "bounding",
        "CapAmb": "ambient",
    }
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        lines = [line.split(":", 1) for line in file if line.startswith("Cap")]
    return {keys[name]: int(value, 16) for name, value in lines if name in keys}


def limit_bounding(keep: int, last: int) -> None:
    """Drop every capability up to number ``last`` that is not in ``keep`` from the bounding set, for good."""
    for number in range(last + 1):
        if not keep >> number & 1:
            prctl.control(_PR_CAPBSET_DROP, number, what="PR_CAPBSET_DROP")


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on this process. Raises OSError."""
    header = _Header(_VERSION_3, 0)
    low = _Data(effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF)
    high = _Data(effective >> 32, permitted >> 32, inheritable >> 32)
    libc.check(_capset(ctypes.byref(header), ctypes.byref((_Data * 2)(low, high))), "capset")


def set_ambient(bits: int) -> None:
    """Make the ambient set exactly ``bits``; each must be permitted and inheritable."""
    prctl.control(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, what="PR_CAP_AMBIENT_CLEAR_ALL")
    number = 0
    while bits >> number:
        if bits >> number & 1:
            prctl.control(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, what="PR_CAP_AMBIENT_RAISE")
        number += 1

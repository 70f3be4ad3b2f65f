"""How the kernel shares processors and disks with the calling process: sched_setattr(2), ioprio_set(2)."""

from __future__ import annotations

import ctypes
import os

from minikubelet.linux import libc

POLICIES = {"other": 0, "fifo": 1, "rr": 2, "batch": 3, "idle": 5, "deadline": 6}
"""SCHED_* by name; the kernel has no SCHED_ISO."""
FLAGS = {
    "reset_on_fork": 0x01,
    "reclaim": 0x02,
    "dl_overrun": 0x04,
    "keep_policy": 0x08,
    "keep_params": 0x10,
    "util_clamp_min": 0x20,
    "util_clamp_max": 0x40,
}
"""SCHED_FLAG_* by name."""
IO_CLASSES = {"rt": 1, "be": 2, "idle": 3}
"""IOPRIO_CLASS_* by name."""
IO_CLASS_SHIFT = 13
_WHO_PROCESS = 1
_NUMBERS = {"x86_64": (314, 251), "aarch64": (274, 30), "riscv64": (274, 30)}

_set_attributes, _set_io_priority = (
    libc.system_call(number, *types)
    for number, types in zip(
        _NUMBERS.get(os.uname().machine, (-1, -1)),
        ((ctypes.c_int, ctypes.c_void_p, ctypes.c_uint), (ctypes.c_int, ctypes.c_int, ctypes.c_int)),
        strict=True,
    )
)


class _Attributes(ctypes.Structure):
    # struct sched_attr, version 0 (include/uapi/linux/sched/types.h)
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def set_scheduler(
    policy: int, nice: int, priority: int, flags: int, runtime: int, deadline: int, period: int
) -> None:
    """Policy and parameters of this process; the last three in ns, for SCHED_DEADLINE. Raises OSError."""
    size = ctypes.sizeof(_Attributes)
    attributes = _Attributes(size, policy, flags, nice, priority, runtime, deadline, period)
    libc.check(_set_attributes(0, ctypes.byref(attributes), 0), "sched_setattr")


def set_io_priority(value: int) -> None:
    """Class (``IO_CLASS_SHIFT`` bits up) and level, 0-7, of this process's I/O. Raises OSError."""
    libc.check(_set_io_priority(_WHO_PROCESS, 0, value), "ioprio_set")

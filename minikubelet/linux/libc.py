"""The C library and raw system calls: prototypes that raise OSError with the object's name in it.

System calls newer than the C library go through syscall(2); their numbers (424 and up) are the same on every
architecture. Nothing here allocates executable memory or runs code at call time, so that all of it can
be used between clone(2) and execve(2).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000

libc = ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *argument_types: Any) -> Callable[..., int]:
    """A typed function for system call ``number``; it returns what the kernel does, -1 on error."""
    function = libc["syscall"]
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, *argument_types)
    call: Callable[..., int] = functools.partial(function, number)
    return call


def function(name: str, *argument_types: Any) -> Callable[..., int]:
    """A typed function of the C library that returns -1 on error."""
    found = libc[name]
    found.restype = ctypes.c_int
    found.argtypes = argument_types
    return found


def check(result: int, what: str | None = None) -> int:
    """``result``, or OSError from errno with ``what`` as its file name when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


class _StatFs(ctypes.Structure):
    # struct statfs: only f_type, the first word, is used.
    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 248))


_fstatfs = function("fstatfs", ctypes.c_int, ctypes.POINTER(_StatFs))


def filesystem_type(fd: int, what: str | None = None) -> int:
    """The magic number of the file system ``fd`` is on, see statfs(2). Raises OSError."""
    buffer = _StatFs()
    check(_fstatfs(fd, ctypes.byref(buffer)), what)
    return int(buffer.f_type) & 0xFFFFFFFF

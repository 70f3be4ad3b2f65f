"""Another user for files than for processes."""

from __future__ import annotations

import ctypes
import errno

from minikubelet.linux import libc

_setfsuid = libc.function("setfsuid", ctypes.c_uint)
_setfsgid = libc.function("setfsgid", ctypes.c_uint)


def files_as_root() -> None:
    """Make and reach files as user 0, whoever this thread is otherwise (setfsuid(2)); new threads inherit it.

    Needs CAP_SETUID. Raises OSError.
    """
    _setfsuid(0)
    if _setfsuid(0) != 0:  # it returns the former user and has no other way to say that it failed
        raise OSError(errno.EPERM, "setfsuid refused")


def files_as(uid: int, gid: int) -> None:
    """Make and reach files as ``uid`` and ``gid``; leaving user 0 takes the capabilities over files along.

    Needs CAP_SETUID and CAP_SETGID. Raises OSError.
    """
    for call, wanted, name in ((_setfsgid, gid, "setfsgid"), (_setfsuid, uid, "setfsuid")):
        call(wanted)
        if call(wanted) & 0xFFFFFFFF != wanted:
            raise OSError(errno.EPERM, f"{name} refused")

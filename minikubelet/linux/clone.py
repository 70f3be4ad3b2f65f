"""clone3(2) as a fork: a child born in its namespaces and its cgroup."""

from __future__ import annotations

import ctypes
import errno
import os
import signal

CLONE_PIDFD = 0x1000
CLONE_INTO_CGROUP = 0x200000000

# What a kernel or a seccomp filter that doesn't take these flags answers, and cgroups that can't be joined
# that way (threaded ones, or by a caller whose own subtree isn't delegated).
_NO_SUCH_CLONE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES, errno.EBUSY, errno.E2BIG)


class _CloneArgs(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("pidfd", ctypes.c_uint64),
        ("child_tid", ctypes.c_uint64),
        ("parent_tid", ctypes.c_uint64),
        ("exit_signal", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("stack_size", ctypes.c_uint64),
        ("tls", ctypes.c_uint64),
        ("set_tid", ctypes.c_uint64),
        ("set_tid_size", ctypes.c_uint64),
        ("cgroup", ctypes.c_uint64),
    )


# PyDLL holds the interpreter lock over the call: the child is born holding it, as after os.fork().
_syscall = ctypes.PyDLL(None, use_errno=True)["syscall"]
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.POINTER(_CloneArgs), ctypes.c_size_t)
_CLONE3 = 435


class Child:
    """What :func:`fork` returns: in the parent ``pid`` > 0 and ``pidfd``; in the child ``pid`` 0.

    ``in_cgroup`` is False when the child must write itself into cgroup.procs.
    """

    __slots__ = ("in_cgroup", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, in_cgroup: bool) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.in_cgroup = in_cgroup


def fork(namespaces: int = 0, cgroup_fd: int = -1) -> Child:
    """Fork into new ``namespaces`` (CLONE_NEW* bits) and the cgroup2 folder ``cgroup_fd``. Raises OSError.

    Only for a process with one thread. CLONE_NEWCGROUP is not for here: the new namespace's root would be
    the parent's cgroup.
    """
    if cgroup_fd >= 0:
        try:
            return _clone(namespaces | CLONE_INTO_CGROUP, cgroup_fd)
        except OSError as exc:
            if exc.errno not in _NO_SUCH_CLONE:
                raise
    child = _clone(namespaces, 0)
    child.in_cgroup = cgroup_fd < 0
    return child


def _clone(flags: int, cgroup_fd: int) -> Child:
    pidfd = ctypes.c_int(-1)
    arguments = _CloneArgs(
        flags=flags | CLONE_PIDFD,
        pidfd=ctypes.addressof(pidfd),
        exit_signal=signal.SIGCHLD,
        cgroup=cgroup_fd,
    )
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return Child(0, -1, True)
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number), "clone3")
    return Child(pid, pidfd.value, True)

"""prctl(2) and its neighbours: attributes of the calling process."""

from __future__ import annotations

import ctypes

from minikubelet.linux import libc

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_CHILD_SUBREAPER = 36
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_NUMBER = {"x86_64": 317, "aarch64": 277, "riscv64": 277}
_CLOSE_RANGE_CLOEXEC = 4
_INSTRUCTION_SIZE = 8

_ulong = ctypes.c_ulong
_prctl = libc.function("prctl", ctypes.c_int, _ulong, _ulong, _ulong, _ulong)
_prctl_name = libc.function("prctl", ctypes.c_int, ctypes.c_char_p)
_close_range = libc.system_call(436, ctypes.c_uint, ctypes.c_uint, ctypes.c_int)


class _Program(ctypes.Structure):
    # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def control(option: int, value: int = 0, third: int = 0, what: str = "prctl") -> int:
    """prctl(2) with integer arguments. Raises OSError."""
    return libc.check(_prctl(option, value, third, 0, 0), what)


def set_dumpable(on: bool) -> None:
    """Whether others may look into this process by ptrace(2) and /proc; execve(2) sets it again."""
    control(_PR_SET_DUMPABLE, int(on), what="PR_SET_DUMPABLE")


def set_subreaper() -> None:
    """Orphaned descendants become this process's children (PR_SET_CHILD_SUBREAPER)."""
    control(_PR_SET_CHILD_SUBREAPER, 1, what="PR_SET_CHILD_SUBREAPER")


def set_keep_capabilities(on: bool) -> None:
    """Whether the permitted set survives a change of all user IDs from 0 (PR_SET_KEEPCAPS)."""
    control(_PR_SET_KEEPCAPS, int(on), what="PR_SET_KEEPCAPS")


def set_no_new_privileges() -> None:
    """execve(2) gives no privileges any more, for good (PR_SET_NO_NEW_PRIVS)."""
    control(_PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")


def set_parent_death_signal(number: int) -> None:
    """The signal this process gets when its parent thread ends."""
    control(_PR_SET_PDEATHSIG, number, what="PR_SET_PDEATHSIG")


def set_name(name: bytes) -> None:
    """The comm name that ps shows, at most 15 bytes."""
    libc.check(_prctl_name(_PR_SET_NAME, name), "PR_SET_NAME")


def machine_has_seccomp(machine: str) -> bool:
    """Whether the number of seccomp(2) on this architecture is known here."""
    return machine in _SECCOMP_NUMBER


def seccomp_loader(machine: str, program: bytes) -> SeccompFilter:
    """Prepare :class:`SeccompFilter` before the fork. Raises KeyError on an unknown architecture."""
    return SeccompFilter(_SECCOMP_NUMBER[machine], program)


class SeccompFilter:
    """A cBPF program (array of struct sock_filter) ready to be installed by seccomp(2)."""

    def __init__(self, number: int, program: bytes) -> None:
        if not program or len(program) % _INSTRUCTION_SIZE:
            raise ValueError("a seccomp program is a non-empty array of 8-byte instructions")
        self._call = libc.system_call(number, ctypes.c_uint, ctypes.c_uint, ctypes.POINTER(_Program))
        self._program = _Program(len(program) // _INSTRUCTION_SIZE, program)

    def install(self) -> None:
        """Filter system calls from now on. Needs no_new_privs or CAP_SYS_ADMIN. Raises OSError."""
        libc.check(self._call(_SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(self._program)), "seccomp")


def close_all_but(keep: list[int]) -> None:
    """Close every descriptor of this process except ``keep`` (close_range(2), Linux 5.9)."""
    first = 0
    for fd in sorted(keep):
        if fd > first:
            libc.check(_close_range(first, fd - 1, 0), "close_range")
        first = max(first, fd + 1)
    libc.check(_close_range(first, 0xFFFFFFFF, 0), "close_range")


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from ``first`` on close-on-exec (Linux 5.11)."""
    libc.check(_close_range(first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC), "close_range")

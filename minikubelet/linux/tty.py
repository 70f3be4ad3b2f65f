"""Pseudo-terminals by descriptor, never by name (ioctl_tty(2))."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios

from minikubelet.linux import libc, mounts

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def open_pair(devpts_fd: int) -> tuple[int, int]:
    """A new master and its slave in the devpts instance ``devpts_fd``. Raises OSError.

    The slave is opened from the master (TIOCGPTPEER), so that no ``/dev/pts/N`` that somebody planted can be
    taken for it.
    """
    if libc.filesystem_type(devpts_fd) != mounts.DEVPTS_SUPER_MAGIC:
        raise OSError(errno.ENOTTY, "not a devpts file system", "/dev/pts")
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=devpts_fd)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        return master, open_slave(master)
    except BaseException:
        os.close(master)
        raise


def open_slave(master: int) -> int:
    """Another descriptor of the slave of ``master``."""
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISCHR(os.fstat(slave).st_mode):
        os.close(slave)
        raise OSError(errno.ENOTTY, "not a terminal", "TIOCGPTPEER")
    return slave


def make_controlling(slave: int) -> None:
    """Make ``slave`` the controlling terminal of this session leader."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def resize(master: int, width: int, height: int) -> None:
    """TIOCSWINSZ; columns and rows."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

"""Namespaces: joining, leaving, and the first things to do in a new network namespace."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

from minikubelet.linux import libc

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_setns = libc.function("setns", ctypes.c_int, ctypes.c_int)
_unshare = libc.function("unshare", ctypes.c_int)


def join(fd: int, kinds: int) -> None:
    """setns(2): enter the namespaces ``kinds`` of ``fd``, a namespace file or (Linux 5.8) a pidfd.

    CLONE_NEWPID takes effect for children only. Raises OSError.
    """
    libc.check(_setns(fd, kinds), f"namespaces {kinds:#x}")


def leave(kinds: int) -> None:
    """unshare(2). Raises OSError."""
    libc.check(_unshare(kinds), f"namespaces {kinds:#x}")


def own(kind: str) -> int:
    """A descriptor of this process's namespace ``kind`` (net, pid, mnt, …)."""
    return os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def raise_loopback() -> None:
    """Set ``lo`` up in the current network namespace (netdevice(7)); no netlink, no fork."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def route_socket() -> int:
    """A NETLINK_ROUTE socket that belongs to the current network namespace for good, whoever uses it."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    return opened.detach()

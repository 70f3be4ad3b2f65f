"""Ports for servers that tests start, and whether they listen."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

_FIRST, _COUNT = 21_000, 8_000
"""Below the ports that the kernel gives to connections (ip_local_port_range in ip(7))."""
_next = os.getpid() % _COUNT


def free_port() -> int:
    """A TCP port that nobody listens on, nor gets by chance until it is used; each is told once."""
    global _next
    for _ in range(_COUNT):
        port = _FIRST + _next
        _next = (_next + 1) % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def listens(path: str | Path) -> bool:
    """Whether somebody accepts connections on a unix socket; its name is there a little before."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.connect(str(path))
        return True
    return False

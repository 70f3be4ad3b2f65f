"""inotify(7): an asyncio-friendly reader of file system events."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
Q_OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x1000000

_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Event:
    """One event: the watch it is for, its bits, and the name inside a watched folder."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One inotify instance; non-blocking, to be used with ``loop.add_reader``."""

    def __init__(self) -> None:
        self.fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise _error("inotify")

    def fileno(self) -> int:
        """The file descriptor, readable when there are events."""
        return self.fd

    def add(self, path: str, mask: int) -> int:
        """Watch ``path`` (inotify_add_watch(2)); returns the watch's number. Raises OSError."""
        watch: int = _libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask))
        if watch < 0:
            raise _error(path)
        return watch

    def remove(self, watch: int) -> None:
        """Stop watching; one that is gone already is fine."""
        if _libc.inotify_rm_watch(self.fd, watch) < 0 and ctypes.get_errno() != errno.EINVAL:
            raise _error(f"watch {watch}")

    def read(self) -> Iterator[Event]:
        """The events that are there now; none if none."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return
        position = 0
        while position + _HEADER.size <= len(data):
            watch, mask, _cookie, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size
            name = data[position : position + length].split(b"\0", 1)[0]
            position += length
            yield Event(watch, mask, os.fsdecode(name))

    def close(self) -> None:
        """Close the instance and all its watches."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)

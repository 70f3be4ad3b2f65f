"""The CRI log format: ``RFC3339Nano stream P|F content``, one record a line.

A line longer than :data:`MAX_LINE` is cut into records tagged P (partial), the last one F (full); a last line
without newline is P, so that joining the contents gives back every byte. containerd's files are the same.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from minikubelet.linux import openat2

MAX_LINE = 16384


class Framer:
    """Turns one stream's bytes into records. Keeps an unfinished line until it ends or is too long."""

    def __init__(self, stream: bytes) -> None:
        self._full = b" " + stream + b" F "
        self._partial = b" " + stream + b" P "
        self._rest = b""

    def feed(self, chunk: bytes, stamp: bytes) -> bytes:
        """The records that ``chunk`` completes, each with time ``stamp``."""
        data = self._rest + chunk if self._rest else chunk
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        records = b""
        if end:
            lines = data[: end - 1] if end != len(data) else data[:-1]
            records = self._frame(lines, stamp)
        if len(self._rest) > MAX_LINE:
            records += self._cut_rest(stamp)
        return records

    def finish(self, stamp: bytes) -> bytes:
        """The record of an unfinished last line, empty when there is none."""
        rest, self._rest = self._rest, b""
        return stamp + self._partial + rest + b"\n" if rest else b""

    def _frame(self, lines: bytes, stamp: bytes) -> bytes:
        """Records of ``lines`` (without the last newline): one replace for all unless one is too long."""
        prefix = stamp + self._full
        if _all_short(lines):
            return prefix + lines.replace(b"\n", b"\n" + prefix) + b"\n"
        partial = stamp + self._partial
        records = []
        for line in lines.split(b"\n"):
            start = 0
            while len(line) - start > MAX_LINE:
                records += [partial, line[start : start + MAX_LINE], b"\n"]
                start += MAX_LINE
            records += [prefix, line[start:], b"\n"]
        return b"".join(records)

    def _cut_rest(self, stamp: bytes) -> bytes:
        partial = stamp + self._partial
        records = []
        start = 0
        while len(self._rest) - start > MAX_LINE:
            records += [partial, self._rest[start : start + MAX_LINE], b"\n"]
            start += MAX_LINE
        self._rest = self._rest[start:]
        return b"".join(records)


def _all_short(lines: bytes) -> bool:
    """Whether no line is longer than MAX_LINE: the last newline in each window moves the window on."""
    position = 0
    while len(lines) - position > MAX_LINE:
        newline = lines.rfind(b"\n", position, position + MAX_LINE + 1)
        if newline < 0:
            return False
        position = newline + 1
    return True


class Stamps:
    """RFC 3339 time stamps with nanoseconds, UTC; the part down to seconds is formatted once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def now(self) -> bytes:
        """The time now."""
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%09dZ" % (self._text, rest)


class LogFile:
    """An append-only CRI log. A full disk costs records, never the container: they are counted and noted."""

    def __init__(self, path: str, folder: str = "") -> None:
        """Open or make the file; below ``folder`` (empty: what it is in) no link is followed."""
        self._path = path
        self._folder = folder or os.path.dirname(path)
        self._fd = self._open()
        self._lost = 0

    def write(self, records: bytes, stamp: bytes) -> None:
        """Append whole records; what can't be written is dropped as a whole and noted later."""
        if self._fd < 0 or not records:
            return
        if self._lost:
            note = f"minikubelet: {self._lost} bytes of log were lost (no space or I/O error)"
            if not self._append(stamp + b" stderr F " + note.encode() + b"\n"):
                self._lost += len(records)
                return
            self._lost = 0
        if not self._append(records):
            self._lost += len(records)

    def _append(self, records: bytes) -> bool:
        view = memoryview(records)
        written = 0
        try:
            while written < len(view):
                written += os.write(self._fd, view[written:])
        except OSError as exc:
            if not self._lost:
                print(f"writing {self._path}: {exc}", file=sys.stderr)
            if written:
                self._take_back(written)
            return False
        return True

    def _take_back(self, written: int) -> None:
        try:
            os.ftruncate(self._fd, max(0, os.fstat(self._fd).st_size - written))
        except OSError as exc:
            print(f"truncating {self._path}: {exc}", file=sys.stderr)

    def reopen(self) -> None:
        """Go on in a new file of the same name after rotation renamed the old one. Raises OSError."""
        fd = self._open()
        self.close()
        self._fd = fd

    def close(self) -> None:
        """Close the file; later records are dropped."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        """For appending; what is there must be a regular file, and no link on the way to it."""
        inside = os.path.relpath(self._path, self._folder or "/")
        folder = os.open(self._folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
            fd = openat2.open_beneath(folder, inside, flags, 0o640)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", self._path)
        return fd

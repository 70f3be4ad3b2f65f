"""Reading CRI logs: ``TIME STREAM TAG CONTENT`` a record; P is a piece of a line, F its end."""

from __future__ import annotations

import datetime
import io
import os
import re
import stat
from dataclasses import dataclass

_BLOCK = 64 * 1024
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[-+].*)")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What of a log is wanted; the fields of core/v1 PodLogOptions."""

    follow: bool = False
    tail_lines: int | None = None
    since: float = 0.0
    """Wall-clock seconds; older lines are left out."""
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: str = ""
    """``stdout`` or ``stderr``; empty: both."""


def open_log(path: str) -> io.FileIO:
    """Open a log; never hangs, follows no final link. Raises OSError for what isn't a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(22, "not a regular file", path)
    return io.FileIO(fd, "rb")


class Renderer:
    """Turns records into what a reader sees. Remembers whether a line is unfinished, per stream."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._stream = options.stream.encode()
        self._open: dict[bytes, bool] = {}
        self._left = options.limit_bytes
        self._rest = b""

    @property
    def full(self) -> bool:
        """Whether ``limit_bytes`` is used up."""
        return self._left is not None and self._left <= 0

    def feed(self, data: bytes) -> bytes:
        """The output of the whole records in ``data``; an unfinished record waits for its rest."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        output = b"".join(map(self._render, data[:end].split(b"\n")[:-1]))
        return self._limit(output)

    def skip_rest(self) -> None:
        """Another file begins: a torn record of the last one never gets its end."""
        self._rest = b""

    def _render(self, record: bytes) -> bytes:
        parts = record.split(b" ", 3)
        if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
            return b""
        time, stream, tag = parts[:3]
        content = parts[3] if len(parts) == 4 else b""
        if self._stream and stream != self._stream:
            return b""
        if self._options.since and _seconds(time) < self._options.since:
            return b""
        begins = not self._open.get(stream, False)
        partial = tag.split(b":")[0] == b"P"
        self._open[stream] = partial
        prefix = _nine_digits(time) + b" " if self._options.timestamps and begins else b""
        return prefix + content + (b"" if partial else b"\n")

    def _limit(self, output: bytes) -> bytes:
        if self._left is None:
            return output
        output = output[: max(self._left, 0)]
        self._left -= len(output)
        return output


def _nine_digits(time: bytes) -> bytes:
    """A time with all its nanoseconds: containerd leaves out zeros at the end, and columns are to line up."""
    if time[19:20] == b"." and time[29:30] in (b"Z", b"+", b"-"):
        return time
    match = _TIME.fullmatch(time)
    return b"%b.%b%b" % (match[1], (match[2] or b"").ljust(9, b"0"), match[3]) if match else time


def _seconds(time: bytes) -> float:
    try:
        return datetime.datetime.fromisoformat(time.decode("ascii")).timestamp()
    except ValueError:
        return float("inf")  # better a line too many


def seek_tail(file: io.FileIO, lines: int) -> None:
    """Move to where the last ``lines`` lines begin. A line cut into records counts once."""
    position = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return
    tail = b""
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        tail = _read_exactly(file, position - start) + tail
        position = start
        found = _tail_start(tail, lines, at_begin=position == 0)
        if found is not None:
            file.seek(position + found)
            return
    file.seek(0)


def _tail_start(data: bytes, lines: int, *, at_begin: bool) -> int | None:
    """Where in ``data`` the last ``lines`` lines begin; None when more must be read."""
    records = data.split(b"\n")
    if records[-1] == b"":
        records.pop()
    offset = len(data) if data.endswith(b"\n") else len(data) + 1
    seen, unfinished = 0, True
    for index in range(len(records) - 1, -1, -1):
        if index == 0 and not at_begin:
            return None  # the first record may be cut
        partial = records[index].split(b" ", 3)[2:3] == [b"P"]
        if not partial or unfinished:
            # The end of a line; so what follows is a whole line more.
            if seen == lines:
                return offset
            seen += 1
            unfinished = False
        offset -= len(records[index]) + 1
    return 0 if at_begin else None


def _read_exactly(file: io.FileIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (block := file.read(size - len(data))):
        data += block
    return data

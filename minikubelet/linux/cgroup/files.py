"""Reading and writing the small files of a cgroup."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping

_ABSENT = (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP)
_SURELY_ALL = 2048
"""Bytes: a read that returned fewer had the whole file. The kernel stops early only when a page is full but
for less than one record (seq_read_iter), and the records of cgroup files are a line, or the whole file."""


def read(folder: str, name: str) -> str | None:
    """Content of a file, None when the cgroup or the controller is not there. Raises OSError."""
    try:
        fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in _ABSENT:
            return None
        raise
    try:
        content = chunk = os.read(fd, 65536)
        while len(chunk) >= _SURELY_ALL:
            chunk = os.read(fd, 65536)
            content += chunk
    except OSError as exc:
        if exc.errno in _ABSENT:  # the cgroup went away meanwhile
            return None
        raise
    finally:
        os.close(fd)
    return content.decode("ascii", "replace")


def write(folder: str, name: str, value: str) -> None:
    """Write one value in one write(2), as cgroup files want it. Raises OSError with the path."""
    path = f"{folder}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, path) from exc
    finally:
        os.close(fd)


def write_all(folder: str, values: Mapping[str, str]) -> None:
    """Write several files in order, or none: those written before one that failed get their old values back.

    Raises OSError with the path of the one that failed.
    """
    before: list[tuple[str, str]] = []
    try:
        for name, value in values.items():
            old = _current(folder, name)
            write(folder, name, value)
            if old is not None:
                before.append((name, old or "\n"))
    except OSError:
        for name, old in reversed(before):
            with contextlib.suppress(OSError):  # the cgroup has gone, or the kernel takes no such value
                write(folder, name, old)
        raise


def _current(folder: str, name: str) -> str | None:
    with contextlib.suppress(OSError):  # some files can only be written
        return read(folder, name)
    return None


def number(folder: str, name: str) -> int | None:
    """A file with one number; ``max`` is -1. None when it is not there."""
    text = read(folder, name)
    return None if text is None else parse_number(text)


def parse_number(text: str) -> int:
    """``max`` as -1, else the number. Raises ValueError."""
    text = text.strip()
    return -1 if text == "max" else int(text)


def keyed(text: str | None) -> dict[str, int]:
    """A flat keyed file (``key value`` lines); lines of another form are left out."""
    values: dict[str, int] = {}
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            values[key] = int(value)
    return values


def nested(text: str | None) -> dict[str, dict[str, str]]:
    """A nested keyed file (``key a=1 b=2`` lines)."""
    values: dict[str, dict[str, str]] = {}
    for line in (text or "").splitlines():
        key, *pairs = line.split()
        values[key] = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return values

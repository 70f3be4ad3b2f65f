"""Where a monitor notes what went wrong: a file, perhaps on a full disk, which must not end the monitor."""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO


class _Lossy(io.FileIO):
    """What can't be written is lost."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def notes(fd: int) -> TextIO:
    """A text stream on a descriptor, without a buffer, whose writes never fail."""
    return io.TextIOWrapper(
        _Lossy(fd, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
    )


def note_exception(exc: BaseException) -> None:
    """Write an exception with its traceback to standard error.

    The interpreter's own way: what the module ``traceback`` needs would be in the memory of every monitor.
    """
    sys.excepthook(type(exc), exc, exc.__traceback__)

"""Non-blocking reads and writes on pipes and terminals, as coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

CHUNK = 64 * 1024
TURN = 8 * CHUNK
"""Bytes after which others have their turn."""
_LEAST = TURN // 16


class Turns:
    """Keeps a copying coroutine from keeping the event loop.

    Where a producer and its consumer are both faster than we are, no read and no write ever waits, and a
    coroutine that never waits lets nobody else run.
    """

    def __init__(self) -> None:
        self._moved = 0

    async def moved(self, count: int) -> None:
        """So many bytes more; small ones count for what their handling costs."""
        self._moved += max(count, _LEAST)
        if self._moved >= TURN:
            self._moved = 0
            await asyncio.sleep(0)


async def read_fd(fd: int) -> bytes:
    """Up to 64 KiB; empty at the end. A terminal whose other side is gone (EIO) has ended."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            await _ready(fd, writing=False)
        except OSError as exc:
            if exc.errno == errno.EIO:
                return b""
            raise


async def write_fd(fd: int, data: bytes) -> None:
    """Write all of ``data``. Raises BrokenPipeError when nobody reads any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _ready(fd, writing=True)


async def _ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    if writing:
        loop.add_writer(fd, wake)
    else:
        loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        if writing:
            loop.remove_writer(fd)
        else:
            loop.remove_reader(fd)


class Descriptor:
    """A descriptor that is closed once: a number closed twice may be another connection's by then."""

    def __init__(self, number: int) -> None:
        self.number = number
        """-1 when absent or closed."""

    def close(self) -> None:
        """Close it, if it is there and open."""
        number, self.number = self.number, -1
        if number >= 0:
            with contextlib.suppress(OSError):
                os.close(number)

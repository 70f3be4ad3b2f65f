"""Those who attached to an output stream: a pipe each, and back pressure when one is full."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable

from minikubelet.spawner.loop import HANGUP, WRITE, Loop

PATIENCE = 30.0
"""Seconds for which a container waits for a reader that takes nothing at all; then the reader is cut off."""
_PIPE = 1 << 20


class Reader:
    """The write end of one reader's pipe. What it has no room for is kept, and its stream has to wait."""

    def __init__(self, loop: Loop, on_room: Callable[[], None]) -> None:
        reader, self.fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE)
        self.read_end = reader
        """The receiver's."""
        self._loop = loop
        self._on_room = on_room
        self._rest = b""
        self._moved_at = 0.0
        self._last = False
        self._timed = False

    @property
    def gone(self) -> bool:
        """Closed: nobody reads, or it was cut off."""
        return self.fd < 0

    @property
    def behind(self) -> bool:
        """Whether it has to catch up before more is read for it."""
        return bool(self._rest)

    def write(self, chunk: bytes) -> None:
        """Pass ``chunk`` on; what doesn't fit is kept behind what is kept already."""
        if self._rest:
            self._rest += chunk
            return
        self._rest = chunk
        self._push()
        if self._rest:
            self._moved_at = time.monotonic()
            self._loop.watch(self.fd, self._on_ready, WRITE | HANGUP)
            self._give_time()

    def finish(self) -> None:
        """Nothing more comes: close, once what is kept has been taken."""
        self._last = True
        if not self._rest:
            self.close()

    def close(self) -> None:
        """Let go of the pipe, whatever is kept."""
        if self.fd >= 0:
            self._loop.forget(self.fd)
            os.close(self.fd)
            self.fd = -1
        self._rest = b""

    def _push(self) -> None:
        """Write what there is room for; closes when nobody reads any more."""
        try:
            written = os.write(self.fd, self._rest)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._rest = self._rest[written:]
        self._moved_at = time.monotonic()

    def _on_ready(self, _events: int) -> None:
        self._push()
        if self._rest:
            return
        if self._last:
            self.close()
        elif self.fd >= 0:
            self._loop.forget(self.fd)
        self._on_room()

    def _give_time(self) -> None:
        if not self._timed:  # one timer at a time, however often it falls behind
            self._timed = True
            self._loop.call_later(PATIENCE, self._check)

    def _check(self) -> None:
        self._timed = False
        if not self._rest:
            return
        if time.monotonic() - self._moved_at < PATIENCE:
            self._give_time()
            return
        self.close()
        self._on_room()

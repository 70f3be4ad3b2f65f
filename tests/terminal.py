"""A program on a pseudo-terminal of its own: type, wait for what it shows, resize, see how it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 60.0 * float(os.environ.get("MINIKUBELET_PATIENCE", "1"))


class Terminal:
    """A context manager; at its end the program is killed if it still runs."""

    def __init__(
        self,
        command: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        size: tuple[int, int] = (24, 80),
    ) -> None:
        """Start it; ``size`` is rows and columns."""
        self._master, terminal = os.openpty()
        self.resize(*size)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *map(str, command)],  # so that SIGWINCH and SIGINT reach it
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=env,
        )
        os.close(terminal)
        self.shown = ""
        """Everything so far, as the terminal got it."""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the kernel tells the program by SIGWINCH (tty_ioctl(4))."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type keys; a line ends with carriage return, as from a keyboard."""
        os.write(self._master, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until what was shown since the last match has this pattern."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = re.search(pattern, self.shown[self._seen :])
            if found:
                self._seen += found.end()
                return found
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was not shown; shown was:\n{self.shown}"
            assert self._read(left), f"it ended without showing {pattern!r}; shown was:\n{self.shown}"

    def expect_after(self, keys: str, pattern: str) -> re.Match[str]:
        """Type ``keys`` again and again until the pattern is shown: a shell may not listen yet."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.type(keys)
            until = time.monotonic() + 1
            while time.monotonic() < until:
                self._read(0.1)
                found = re.search(pattern, self.shown[self._seen :])
                if found:
                    self._seen = len(self.shown)
                    return found
            assert time.monotonic() < deadline, f"{pattern!r} was not shown; shown was:\n{self.shown}"

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(max(0.0, deadline - time.monotonic())):
            assert time.monotonic() < deadline, f"it does not end; shown was:\n{self.shown}"
        return self.process.wait(PATIENCE)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def _read(self, seconds: float) -> bool:
        """Take what comes within some time; False once nobody can write any more."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError as exc:
            if exc.errno == errno.EIO:  # the last writer has closed it
                return False
            raise
        self.shown += data.decode(errors="replace")
        return bool(data)

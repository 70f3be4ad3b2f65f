"""A container's standard streams on the monitor's side: drained into the log and to whoever attached."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Callable

from minikubelet.linux import tty
from minikubelet.spawner.crilog import Framer, LogFile, Stamps
from minikubelet.spawner.loop import Loop

CHUNK = 65536
MAX_ATTACHED = 32
"""Readers of one stream at a time."""

_CHUNKS_A_TURN = 8
_ATTACH_PIPE = 1 << 20


class Output:
    """One output stream: a pipe or a terminal's master."""

    def __init__(self, name: str, fd: int, stamps: Stamps, log: LogFile | None) -> None:
        self.name = name
        self.fd = fd
        self._stamps = stamps
        self._log = log
        self._framer = Framer(name.encode())
        self._sinks: list[int] = []

    def pump(self, limit: int) -> bool:
        """Move up to ``limit`` chunks; True when the stream has ended."""
        for _ in range(limit):
            try:
                chunk = os.read(self.fd, CHUNK)
            except BlockingIOError:
                return False
            except OSError as exc:
                if exc.errno != errno.EIO:  # a terminal without slaves
                    raise
                return True
            if not chunk:
                return True
            if self._log is not None:
                stamp = self._stamps.now()
                self._log.write(self._framer.feed(chunk, stamp), stamp)
            if self._sinks:
                self._fan_out(chunk)
        return False

    def add_reader(self) -> int:
        """The read end of a new pipe that gets what comes from now on. Raises OSError EUSERS: too many."""
        self._drop_abandoned()
        if len(self._sinks) >= MAX_ATTACHED:
            raise OSError(errno.EUSERS, f"{MAX_ATTACHED} readers are attached already", self.name)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writer, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _ATTACH_PIPE)
        self._sinks.append(writer)
        return reader

    def _drop_abandoned(self) -> None:
        """Close the pipes that nobody reads any more (poll(2): POLLERR on the write end)."""
        poll = select.poll()
        for sink in self._sinks:
            poll.register(sink, 0)
        for sink, _ in poll.poll(0):
            self._sinks.remove(sink)
            os.close(sink)

    def _fan_out(self, chunk: bytes) -> None:
        for sink in list(self._sinks):
            try:
                complete = os.write(sink, chunk) == len(chunk)
            except OSError:  # full, or nobody reads
                complete = False
            if not complete:
                self._sinks.remove(sink)
                os.close(sink)

    def finish(self) -> None:
        """Log an unfinished last line, let go of the readers. The descriptor is the owner's."""
        if self._log is not None:
            stamp = self._stamps.now()
            self._log.write(self._framer.finish(stamp), stamp)
        for sink in self._sinks:
            os.close(sink)
        self._sinks.clear()


class Streams:
    """All streams of a container. ``on_ended`` is called when every output has ended."""

    def __init__(self, loop: Loop, log: LogFile | None, on_ended: Callable[[], None]) -> None:
        self.log = log
        self._loop = loop
        self._on_ended = on_ended
        self._outputs: dict[str, Output] = {}
        self._stamps = Stamps()
        self._stdin = -1
        self._stdin_once = False
        self._master = -1
        self._slave = -1

    def add_output(self, name: str, fd: int) -> None:
        """Drain ``fd`` (now owned) as ``stdout`` or ``stderr``."""
        os.set_blocking(fd, False)
        output = Output(name, fd, self._stamps, self.log)
        self._outputs[name] = output
        self._loop.watch(fd, lambda _events: self._on_ready(output))

    def set_stdin(self, fd: int, once: bool) -> None:
        """Keep the write end of the container's stdin; with ``once`` it goes to the first who attaches."""
        self._stdin = fd
        self._stdin_once = once

    def set_terminal(self, master: int, stdin: bool) -> None:
        """Drain the terminal ``master`` (now owned) as stdout.

        A slave is kept open: a container that closes all of its own for a moment has not ended.
        """
        self._master = master
        self._slave = tty.open_slave(master)
        self.add_output("stdout", master)
        if stdin:
            self._stdin = os.dup(master)

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size. Raises OSError ENOTTY without one."""
        if self._master < 0:
            raise OSError(errno.ENOTTY, "the container has no terminal")
        tty.resize(self._master, width, height)

    def attach(self, stdin: bool, stdout: bool, stderr: bool) -> tuple[list[str], list[int]]:
        """Names and descriptors (now the caller's) of the streams asked for that exist. Raises OSError."""
        names: list[str] = []
        fds: list[int] = []
        try:
            for name, wanted in (("stdout", stdout), ("stderr", stderr)):
                if wanted and name in self._outputs:
                    fds.append(self._outputs[name].add_reader())
                    names.append(name)
            if stdin and self._stdin >= 0:
                fds.append(os.dup(self._stdin))
                names.append("stdin")
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        if "stdin" in names and self._stdin_once:
            self._close_stdin()
        return names, fds

    def drain(self) -> bool:
        """Read everything that is there now; True when every output has ended."""
        for output in list(self._outputs.values()):
            while not self._pump(output, _CHUNKS_A_TURN):
                if self._nothing_more(output.fd):
                    break
        return not self._outputs

    @staticmethod
    def _nothing_more(fd: int) -> bool:
        waiting = bytearray(4)
        fcntl.ioctl(fd, 0x541B, waiting)  # FIONREAD
        return not any(waiting)

    def hang_up(self) -> None:
        """The container has ended: the terminal's last slave goes, so that the master reads to its end."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    def close(self) -> None:
        """Let go of everything, whatever has not been read."""
        self.hang_up()
        for output in list(self._outputs.values()):
            self._end(output)
        self._close_stdin()
        if self.log is not None:
            self.log.close()

    def _on_ready(self, output: Output) -> None:
        if self._pump(output, _CHUNKS_A_TURN) and not self._outputs:
            self._on_ended()

    def _pump(self, output: Output, limit: int) -> bool:
        if output.pump(limit):
            self._end(output)
            return True
        return False

    def _end(self, output: Output) -> None:
        del self._outputs[output.name]
        output.finish()
        self._loop.forget(output.fd)
        os.close(output.fd)
        if output.fd == self._master:
            self._master = -1

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

"""A container's standard streams on the monitor's side: drained into the log and to whoever attached."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
import termios
from collections.abc import Callable

from minikubelet.linux import tty
from minikubelet.spawner.crilog import Framer, LogFile, Stamps
from minikubelet.spawner.loop import Loop
from minikubelet.spawner.readers import Reader

CHUNK = 65536
MAX_ATTACHED = 32
"""Readers of one stream at a time."""

_CHUNKS_A_TURN = 8


class Output:
    """One output stream: a pipe or a terminal's master."""

    def __init__(self, name: str, fd: int, stamps: Stamps, log: LogFile | None) -> None:
        self.name = name
        self.fd = fd
        self.paused = False
        """Not read from until all readers have caught up: the program waits, as for any slow pipe."""
        self.moved = 0
        """Bytes read so far."""
        self._stamps = stamps
        self._log = log
        self._framer = Framer(name.encode())
        self._readers: list[Reader] = []

    @property
    def behind(self) -> bool:
        """Whether a reader has to catch up."""
        return any(reader.behind for reader in self._readers)

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
            self.moved += len(chunk)
            if self._log is not None:
                stamp = self._stamps.now()
                self._log.write(self._framer.feed(chunk, stamp), stamp)
            if self._readers and self._pass_on(chunk):
                return False
        return False

    def _pass_on(self, chunk: bytes) -> bool:
        """True when a reader stays behind."""
        for reader in self._readers:
            reader.write(chunk)
        self._readers = [reader for reader in self._readers if not reader.gone]
        return self.behind

    def add_reader(self, reader: Reader) -> None:
        """Pass on what comes from now on. Raises OSError EUSERS: too many; the reader is not taken then."""
        self._drop_abandoned()
        if len(self._readers) >= MAX_ATTACHED:
            raise OSError(errno.EUSERS, f"{MAX_ATTACHED} readers are attached already", self.name)
        self._readers.append(reader)

    def _drop_abandoned(self) -> None:
        """Close the pipes that nobody reads any more (poll(2): POLLERR on the write end)."""
        by_fd = {reader.fd: reader for reader in self._readers if not reader.gone}
        poll = select.poll()
        for fd in by_fd:
            poll.register(fd, 0)
        for fd, _ in poll.poll(0):
            by_fd[fd].close()
        self._readers = [reader for reader in self._readers if not reader.gone]

    def finish(self) -> None:
        """Log an unfinished last line, let go of the readers. The descriptor is the owner's."""
        if self._log is not None:
            stamp = self._stamps.now()
            self._log.write(self._framer.finish(stamp), stamp)
        for reader in self._readers:
            reader.finish()
        self._readers.clear()


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
                    fds.append(self._add_reader(self._outputs[name]))
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

    def _add_reader(self, output: Output) -> int:
        """The read end of a new pipe that gets what comes from now on. Raises OSError EUSERS."""
        reader = Reader(self._loop, lambda: self._resume(output))
        try:
            output.add_reader(reader)
        except BaseException:
            reader.close()
            os.close(reader.read_end)
            raise
        return reader.read_end

    def drain(self) -> bool:
        """Read everything that is there now, waiting for no reader; True when every output has ended.

        What somebody else who holds the pipe goes on writing meanwhile doesn't count.
        """
        for output in list(self._outputs.values()):
            until = output.moved + _waiting(output.fd)
            while True:
                before = output.moved
                if self._pump(output, _CHUNKS_A_TURN) or output.moved == before or output.moved > until:
                    break
        return not self._outputs

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
        if self._pump(output, _CHUNKS_A_TURN):
            if not self._outputs:
                self._on_ended()
        elif output.behind:
            self._loop.forget(output.fd)
            output.paused = True

    def _resume(self, output: Output) -> None:
        if output.paused and not output.behind and self._outputs.get(output.name) is output:
            output.paused = False
            self._loop.watch(output.fd, lambda _events: self._on_ready(output))

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


def _waiting(fd: int) -> int:
    """Bytes that can be read now."""
    answer = bytearray(4)
    fcntl.ioctl(fd, termios.FIONREAD, answer)
    return int.from_bytes(answer, sys.byteorder)

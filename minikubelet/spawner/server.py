"""The fork server: one thread, everything imported, forks monitors and does nothing else."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys

from minikubelet.base.errors import StepError
from minikubelet.linux import pidfd, prctl
from minikubelet.spawner.host import Host
from minikubelet.spawner.monitor import Monitor
from minikubelet.spawner.notes import note_exception, notes
from minikubelet.spawner.pod import EXITS, SOCKET, failure_of
from minikubelet.wire import channel
from minikubelet.wire.messages import Message, MonitorSpawned, Reply, SpawnMonitor

_LOG = "monitor.log"
_BACKLOG = 16


class Cradle:
    """What a monitor starts with, made before the fork: what the spawner does, no monitor pays memory for."""

    def __init__(self, run_dir: str) -> None:
        self._open: list[int] = []
        try:
            self.folder = self._kept(os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            with contextlib.suppress(FileExistsError):
                os.mkdir(EXITS, 0o700, dir_fd=self.folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self.log = self._kept(os.open(_LOG, flags, 0o600, dir_fd=self.folder))
            self.listener = self._listen()
            self.control, self.daemon_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.control.setblocking(False)
        except BaseException:
            self.close()
            raise

    def _kept(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def _listen(self) -> socket.socket:
        """Listen on ``monitor.sock``, 0600, bound through a descriptor: a socket's path ends at 107 bytes."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        umask = os.umask(0o177)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SOCKET, dir_fd=self.folder)
            listener.bind(f"/proc/self/fd/{self.folder}/{SOCKET}")
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(umask)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        return listener

    def close(self) -> None:
        """Close the spawner's copies, all but the daemon's end."""
        for fd in self._open:
            os.close(fd)
        for name in ("listener", "control"):
            if hasattr(self, name):
                getattr(self, name).close()


class Server:
    """Serves SpawnMonitor on one socket until the daemon closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._host = Host()
        self._monitor = Monitor(self._host)
        self._notes = notes(2)
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve; returns at the end of the daemon. Monitors live on."""
        check_fit_to_fork()
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        while True:
            for fd, _events in poll.poll():
                if fd == self._reader:
                    self._reap()
                elif not self._serve():
                    return

    def _reap(self) -> None:
        os.read(self._reader, 4096)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _serve(self) -> bool:
        try:
            message, fds = channel.receive(self._sock)
        except ConnectionError:
            return False
        for fd in fds:
            os.close(fd)
        if isinstance(message, SpawnMonitor):
            self._spawn(message)
        else:
            print(f"spawner: ignoring {type(message).__name__}", file=sys.stderr)
        return True

    def _spawn(self, request: SpawnMonitor) -> None:
        fds: list[int] = []
        body: Message
        try:
            pid, daemon_end = self._fork(request)
            fds = [os.pidfd_open(pid), daemon_end]
            body = MonitorSpawned(pid=pid, start_ticks=pidfd.start_ticks(pid))
        except (OSError, StepError) as exc:
            body = failure_of(exc, "spawn the monitor")
        try:
            channel.send(self._sock, Reply(id=request.id, body=body), fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _fork(self, request: SpawnMonitor) -> tuple[int, int]:
        """(PID, the daemon's end of the control socket) of a new monitor."""
        check_fit_to_fork()
        cradle = Cradle(request.run_dir)
        try:
            self._monitor.fit(cradle.control.fileno(), cradle.listener.fileno())
            pid = os.fork()
            if pid == 0:
                self._live_as_monitor(request, cradle.log)
        except BaseException:
            cradle.daemon_end.close()
            raise
        finally:
            cradle.close()
            self._monitor.clear()
        return pid, cradle.daemon_end.detach()

    def _live_as_monitor(self, request: SpawnMonitor, log: int) -> None:
        """The whole life of a forked monitor; never returns."""
        code = 1
        try:
            os.setsid()
            for fd, given in enumerate((self._host.null, log, log)):
                os.dup2(given, fd)
            sys.stderr = self._notes
            prctl.close_all_but([0, 1, 2, *self._monitor.descriptors(), *self._host.descriptors()])
            prctl.set_name(b"mk-monitor")
            prctl.set_subreaper()
            os.chdir("/")
            self._monitor.run(request.sandbox_id, request.run_dir)
            code = 0
        except BaseException as exc:
            note_exception(exc)
            sys.stderr.flush()
        finally:
            os._exit(code)


def check_fit_to_fork() -> None:
    """Raises StepError unless this process has one thread and never imported grpc: only then it may fork."""
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise StepError("check the spawner", 0, detail=f"it has {threads} threads")
    if "grpc" in sys.modules:
        raise StepError("check the spawner", 0, detail="grpc has been imported")


def freeze() -> None:
    """Put all objects where the collector doesn't touch them, so that forks go on sharing their memory.

    The collector stays off: a collection would write to every page, and what a request makes is let go by
    reference counts.
    """
    gc.collect()
    gc.disable()
    gc.freeze()

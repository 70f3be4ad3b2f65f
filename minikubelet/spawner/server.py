"""The fork server: one thread, everything imported, forks monitors and does nothing else."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback

from minikubelet.base.errors import StepError
from minikubelet.linux import pidfd, prctl
from minikubelet.spawner.host import Host
from minikubelet.spawner.monitor import Monitor
from minikubelet.spawner.pod import failure_of
from minikubelet.wire import channel
from minikubelet.wire.messages import Message, MonitorSpawned, Reply, SpawnMonitor

_LOG = "monitor.log"


class Server:
    """Serves SpawnMonitor on one socket until the daemon closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._host = Host()

    def run(self) -> None:
        """Serve; returns at the end of the daemon. Monitors live on."""
        check_fit_to_fork()
        # Monitors are nobody's to wait for: the kernel reaps them, the daemon has their pidfds.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            try:
                message, fds = channel.receive(self._sock)
            except (channel.ChannelClosed, ConnectionError):
                return
            for fd in fds:
                os.close(fd)
            if isinstance(message, SpawnMonitor):
                self._spawn(message)
            else:
                print(f"spawner: ignoring {type(message).__name__}", file=sys.stderr)

    def _spawn(self, request: SpawnMonitor) -> None:
        fds: list[int] = []
        body: Message
        try:
            check_fit_to_fork()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                pid = os.fork()
                if pid == 0:
                    _live_as_monitor(self._host, request, ours)
                fds = [os.pidfd_open(pid), theirs.detach()]
            body = MonitorSpawned(pid=pid, start_ticks=pidfd.start_ticks(pid))
        except (OSError, StepError) as exc:
            body = failure_of(exc, "spawn the monitor")
        try:
            channel.send(self._sock, Reply(id=request.id, body=body), fds)
        finally:
            for fd in fds:
                os.close(fd)


def check_fit_to_fork() -> None:
    """Raises StepError unless this process has one thread and never imported grpc: forking it is safe only then."""
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise StepError("check the spawner", detail=f"it has {threads} threads", number=0)
    if "grpc" in sys.modules:
        raise StepError("check the spawner", detail="grpc has been imported", number=0)


def freeze() -> None:
    """Put all objects where the collector doesn't touch them, so that forks go on sharing their memory.

    The collector stays off: the code makes no reference cycles that outlive a request by design, and a
    collection would write to every page.
    """
    gc.collect()
    gc.disable()
    gc.freeze()


def _live_as_monitor(host: Host, request: SpawnMonitor, control: socket.socket) -> None:
    """The whole life of a forked monitor; never returns."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _redirect(request.run_dir, host.null)
        prctl.close_all_but([0, 1, 2, control.fileno(), *host.descriptors()])
        prctl.set_name("mk-monitor")
        prctl.set_subreaper()
        os.chdir("/")
        Monitor(host, request, control).run()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(code)


def _redirect(run_dir: str, null: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    log = os.open(f"{run_dir}/{_LOG}", flags, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)

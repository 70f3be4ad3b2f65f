"""A small epoll loop: descriptors, timers, children. Not asyncio, whose import alone outweighs a monitor."""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
from collections.abc import Callable

from minikubelet.spawner.notes import note_exception

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANGUP = select.EPOLLHUP | select.EPOLLERR

Handler = Callable[[int], None]


class Timer:
    """A callback at a time on the monotonic clock; :meth:`cancel` may be called at any time."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """Calls handlers until :meth:`stop`. What a handler raises is written to stderr and goes no further."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[Timer] = []
        self._running = True

    def renew(self) -> None:
        """Put another epoll instance in the old one's place, watching the same descriptors: a fork's own."""
        new = select.epoll()
        os.dup2(new.fileno(), self._epoll.fileno(), inheritable=False)
        new.close()
        for fd in self._handlers:
            self._epoll.register(fd, READ)

    def descriptors(self) -> list[int]:
        """What it waits on, and for."""
        return [self._epoll.fileno(), *self._handlers]

    def watch(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Call ``handler(events)`` whenever ``fd`` is ready."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on a watched ``fd``."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; call it before closing. Unknown: nothing happens."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once after ``seconds``."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Leave :meth:`run` after the current handler."""
        self._running = False

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        while self._running:
            for fd, events in self._epoll.poll(self._timeout()):
                handler = self._handlers.get(fd)  # a handler before may have forgotten it
                if handler is not None:
                    self._guarded(lambda handler=handler, events=events: handler(events))  # type: ignore[misc]
            self._fire_timers()

    def _timeout(self) -> float:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].when - time.monotonic()) if self._timers else -1

    def _fire_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                self._guarded(callback)

    @staticmethod
    def _guarded(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as exc:
            note_exception(exc)


def settle_signals() -> None:
    """Handle what must not end spawner and monitors by doing nothing, SIGCHLD so that wakeups are written.

    Called once, in the spawner: what monitors inherit they need not set, which keeps memory shared. Handlers
    rather than SIG_IGN, because execve(2) sets them back to the default and leaves what is ignored ignored:
    the programs of containers start with all signals at their defaults, without a call.
    """
    for number in (
        signal.SIGCHLD,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):
        signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class ChildWatcher:
    """Reaps every child as SIGCHLD tells of it, and hands its wait status to whoever registered.

    It may be made in one process and used in a fork of it: there, :meth:`start` comes first.
    """

    def __init__(self, loop: Loop) -> None:
        self._owners: dict[int, Callable[[int], None]] = {}
        self._expecting = 0
        self._early: dict[int, int] = {}
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        loop.watch(self._reader, self._on_signal)

    def renew(self) -> None:
        """Put another pipe in the old one's place: a fork's own."""
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for new, place in zip(pipe, (self._reader, self.writer), strict=True):
            os.dup2(new, place, inheritable=False)
            os.close(new)

    def start(self) -> None:
        """From now on be woken by this process's signals."""
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)

    def register(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(wait status)`` when child ``pid`` has ended."""
        self._owners[pid] = callback

    def expect(self) -> None:
        """A child will come that another process makes: until :meth:`adopt`, unknown ones' ends are kept."""
        self._expecting += 1

    def adopt(self, pid: int, callback: Callable[[int], None]) -> None:
        """As ``register`` for the child of :meth:`expect`, which may have ended before; 0: none has come."""
        status = self._early.pop(pid, None)
        self._expecting -= 1
        if not self._expecting:
            self._early.clear()
        if status is not None:
            callback(status)
        elif pid:
            self._owners[pid] = callback

    def _on_signal(self, _events: int) -> None:
        os.read(self._reader, 4096)
        self.reap()

    def reap(self) -> None:
        """Reap what has ended by now; children nobody registered are adopted orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            owner = self._owners.pop(pid, None)
            if owner is None and self._expecting:
                self._early[pid] = status
            if owner is not None:
                Loop._guarded(lambda owner=owner, status=status: owner(status))  # type: ignore[misc]


def _nothing(_signal: int, _frame: object) -> None:
    """The handler of :func:`settle_signals`."""

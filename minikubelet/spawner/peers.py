"""One connection of a daemon to a monitor: never blocks, never grows without bound."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence

from minikubelet.spawner.loop import HANGUP, READ, WRITE, Loop
from minikubelet.wire import channel
from minikubelet.wire.messages import AnyMessage, Message

MAX_QUEUE = 256
"""Messages waiting for a daemon that doesn't read; beyond, the connection is dropped (it comes back)."""

_BATCH = 16


class Peer:
    """A SOCK_SEQPACKET connection with a bounded send queue.

    ``on_message(peer, message, fds)`` owns the descriptors; ``on_closed(peer)`` is called once.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_message: Callable[[Peer, AnyMessage, list[int]], None],
        on_closed: Callable[[Peer], None],
    ) -> None:
        self.subscribed = False
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._queue: deque[tuple[Message, list[int]]] = deque()
        self._open = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), self._on_ready)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send or queue ``message``; ``fds`` are closed when they have gone."""
        if not self._open:
            close_all(fds)
            return
        self._queue.append((message, list(fds)))
        if len(self._queue) > MAX_QUEUE:
            self.close()
        elif len(self._queue) == 1:
            self._flush()

    def flush_blocking(self, seconds: float) -> None:
        """Send what is queued before the process ends, waiting for at most ``seconds`` a message."""
        if self._open:
            self._sock.settimeout(seconds)
            self._flush()

    def close(self) -> None:
        """Drop the connection and everything queued."""
        if not self._open:
            return
        self._open = False
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        for _, fds in self._queue:
            close_all(fds)
        self._queue.clear()
        self._on_closed(self)

    def fileno(self) -> int:
        """The socket's descriptor, -1 when closed."""
        return self._sock.fileno()

    def _flush(self) -> None:
        while self._queue:
            message, fds = self._queue[0]
            try:
                channel.send(self._sock, message, fds)
            except BlockingIOError:
                self._loop.change(self._sock.fileno(), READ | WRITE)
                return
            except OSError as exc:
                if (
                    exc.errno == errno.ETOOMANYREFS
                ):  # too many descriptors in flight to a peer that doesn't read
                    print(f"dropping a connection: {exc}", file=sys.stderr)
                self.close()
                return
            self._queue.popleft()
            close_all(fds)
        self._loop.change(self._sock.fileno(), READ)

    def _on_ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & (READ | HANGUP):
            for _ in range(_BATCH):
                if not self._open or not self._receive():
                    return

    def _receive(self) -> bool:
        try:
            message, fds = channel.receive(self._sock)
        except BlockingIOError:
            return False
        except (OSError, channel.ProtocolError) as exc:
            if not isinstance(exc, ConnectionError):
                print(f"dropping a connection: {exc}", file=sys.stderr)
            self.close()
            return False
        self._on_message(self, message, fds)
        return True


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that nobody takes."""
    for fd in fds:
        os.close(fd)

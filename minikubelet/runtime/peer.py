"""Requests, replies and events over one SOCK_SEQPACKET socket, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.wire import channel
from minikubelet.wire.messages import Body, Event, Failure, Reply, Request

log = logging.getLogger(__name__)

Answer = tuple[Body, list[int]]


class PeerGone(NodeError):
    """The process at the other end has gone, before or while it was asked."""

    def __init__(self, name: str) -> None:
        super().__init__(Code.UNAVAILABLE, f"{name} has ended")


class Peer:
    """One spawner or monitor. Owns ``sock``; ``on_event`` gets events, ``on_gone`` is called at the end."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        on_event: Callable[[Event], None] | None = None,
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.gone = False
        self._sock = sock
        self._on_event = on_event
        self._on_gone = on_gone
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._backlog: deque[tuple[Request, list[int]]] = deque()
        self._last_id = 0
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def next_id(self) -> int:
        """An id for the next request."""
        self._last_id += 1
        return self._last_id

    def submit(self, request: Request, fds: Sequence[int] = ()) -> asyncio.Future[Answer]:
        """Send a request now; the future is its :class:`Reply`'s body and descriptors.

        Whoever awaits it owns the descriptors; those of an answer nobody waits for any more are closed.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        if self.gone:
            future.set_exception(PeerGone(self.name))
            return future
        self._pending[request.id] = future
        try:
            if self._backlog:
                self._queue(request, fds)
            else:
                channel.send(self._sock, request, fds)
        except BlockingIOError:
            self._queue(request, fds)
        except OSError as exc:
            del self._pending[request.id]
            log.debug("%s: send failed: %s", self.name, exc)
            future.set_exception(PeerGone(self.name))
        return future

    async def request(self, request: Request, fds: Sequence[int] = ()) -> Answer:
        """Send and wait. Raises :class:`StepError` for a :class:`Failure`, :class:`PeerGone`."""
        return await claim(self.submit(request, fds))

    def close(self) -> None:
        """Let go of the socket; pending requests fail with :class:`PeerGone`, ``on_gone`` isn't called."""
        self._on_gone = None
        self._lost()

    def _queue(self, request: Request, fds: Sequence[int]) -> None:
        if not self._backlog:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._backlog.append((request, [os.dup(fd) for fd in fds]))

    def _writable(self) -> None:
        while self._backlog:
            request, fds = self._backlog[0]
            try:
                channel.send(self._sock, request, fds)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self._backlog.popleft()
            _close_all(fds)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        while not self.gone:
            try:
                message, fds = channel.receive(self._sock)
            except (BlockingIOError, InterruptedError):
                return
            except channel.ProtocolError as exc:
                log.error("%s sent garbage: %s", self.name, exc)
                self._lost()
                return
            except OSError:
                self._lost()
                return
            if isinstance(message, Reply):
                self._answer(message, fds)
                continue
            _close_all(fds)
            if self._on_event is not None:
                try:
                    self._on_event(message)  # type: ignore[arg-type]
                except Exception:
                    log.exception("%s: handling of %r failed", self.name, message)

    def _answer(self, reply: Reply, fds: list[int]) -> None:
        future = self._pending.pop(reply.id, None)
        if future is None or future.done():
            _close_all(fds)
            return
        body = reply.body
        if isinstance(body, Failure):
            _close_all(fds)
            future.set_exception(StepError(body.step, body.number, body.path, body.detail))
        else:
            future.set_result((body, fds))

    def _lost(self) -> None:
        if self.gone:
            return
        self.gone = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, fds in self._backlog:
            _close_all(fds)
        self._backlog.clear()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(PeerGone(self.name))
                future.exception()  # nobody may be waiting any more
        callback, self._on_gone = self._on_gone, None
        if callback is not None:
            callback()


async def claim(answer: asyncio.Future[Answer]) -> Answer:
    """Wait for an answer. Whose task is cancelled just as it arrives leaves no descriptors behind."""
    try:
        return await answer
    except asyncio.CancelledError:
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            _close_all(answer.result()[1])
        raise


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)

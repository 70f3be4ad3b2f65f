"""Finds out that a session's client has gone, or has been silent for too long.

A session whose program does not read its stdin stops reading from the client: that is the back pressure. Then
nobody would see the client's end of file, and heartbeats would go unanswered; so the socket itself is
watched, by an epoll of its own that asks for nothing but the end. And since a closed client whose last bytes
don't fit into our window can't even send its end (TCP keeps it behind them), we send a few bytes now and
then: its kernel answers those with a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

IDLE_TIMEOUT = 4 * 3600.0
"""Seconds of silence both ways after which a session ends (kubelet: streamingConnectionIdleTimeout)."""
PROBE_PERIOD = 15.0
"""Seconds between two probes of a client."""
LINGER = 60.0
"""Seconds that a slow client has to take what was sent to it before the connection is cut."""
GRACE = 1.0
"""Seconds in which what the client had sent before it went may still be read."""


@dataclass(frozen=True)
class Life:
    """How to tell whether a session still lives."""

    last_activity: Callable[[], float]
    """Event loop time."""
    ping: Callable[[], Awaitable[None]]


@contextlib.contextmanager
def watch_peer(transport: asyncio.BaseTransport | None, gone: Callable[[], None]) -> Iterator[None]:
    """While inside, call ``gone`` once when the client has closed its side or the connection is lost."""
    peer = transport.get_extra_info("socket") if transport is not None else None
    if peer is None or peer.fileno() < 0:
        yield
        return
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    with select.epoll(sizehint=1) as epoll:
        epoll.register(peer.fileno(), select.EPOLLRDHUP)
        number = epoll.fileno()

        def fired() -> None:
            loop.remove_reader(number)
            timers.append(loop.call_later(GRACE, gone))

        loop.add_reader(number, fired)
        try:
            yield
        finally:
            loop.remove_reader(number)
            for timer in timers:
                timer.cancel()


async def watch_idle(
    last_activity: Callable[[], float], expired: Callable[[], None], limit: float = IDLE_TIMEOUT
) -> None:
    """Call ``expired`` when ``last_activity`` (event loop time) is ``limit`` seconds ago."""
    loop = asyncio.get_running_loop()
    while True:
        rest = last_activity() + limit - loop.time()
        if rest <= 0:
            break
        await asyncio.sleep(rest)
    expired()


async def probe(ping: Callable[[], Awaitable[None]]) -> None:
    """Send something small every :data:`PROBE_PERIOD`; no answer is waited for."""
    with contextlib.suppress(ConnectionError):
        while True:
            await asyncio.sleep(PROBE_PERIOD)
            await ping()

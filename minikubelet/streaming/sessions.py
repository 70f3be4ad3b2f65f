"""What the streaming server needs from the runtime, and what it hands out as tokens.

The runtime implements :class:`SessionOpener`; the server owns every descriptor it is given.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from minikubelet.base.errors import Code, NodeError

TOKEN_LIFETIME = 60.0
"""Seconds between the CRI call and the request that uses its URL."""
MAX_TOKENS = 1000


@dataclass(frozen=True)
class ExecRequest:
    """CRI ExecRequest, checked."""

    container_id: str
    command: tuple[str, ...]
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


@dataclass(frozen=True)
class AttachRequest:
    """CRI AttachRequest, checked; ``tty`` is the container's own."""

    container_id: str
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


@dataclass(frozen=True)
class PortForwardRequest:
    """CRI PortForwardRequest; ``ports`` may be empty (SPDY clients name them per stream)."""

    sandbox_id: str
    ports: tuple[int, ...] = ()


Request = ExecRequest | AttachRequest | PortForwardRequest


@dataclass
class Streams:
    """An open exec or attach. Descriptors are -1 where absent; each is closed by the receiver.

    With a terminal ``stdin`` and ``stdout`` are two descriptors of its master.
    """

    wait: Callable[[], Awaitable[int | None]]
    """Ends with the exit code; None for attach (the container's end is no failure of attach)."""
    resize: Callable[[int, int], Awaitable[None]]
    """Columns, rows."""
    cancel: Callable[[], Awaitable[None]]
    """The client has gone: kill the exec, let go of the attach."""
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


class SessionOpener(Protocol):
    """The runtime's side. Each call may raise NodeError."""

    async def open_exec(self, request: ExecRequest) -> Streams:
        """Start the program."""
        ...

    async def open_attach(self, request: AttachRequest) -> Streams:
        """Join the container's streams."""
        ...

    async def connect(self, sandbox_id: str, port: int) -> socket.socket:
        """A non-blocking TCP socket connected to ``localhost:port`` inside the pod's network namespace."""
        ...


class TokenCache:
    """Single-use tokens of 128 bits that live a minute; a bounded number of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests: dict[str, tuple[float, Request]] = {}

    def insert(self, request: Request) -> str:
        """A new token. Raises NodeError RESOURCE_EXHAUSTED when too many are waiting to be used."""
        self._expire()
        if len(self._requests) >= MAX_TOKENS:
            raise NodeError(
                Code.RESOURCE_EXHAUSTED, f"{MAX_TOKENS} streaming requests are waiting for clients"
            )
        token = secrets.token_urlsafe(16)
        self._requests[token] = (self._clock() + TOKEN_LIFETIME, request)
        return token

    def consume(self, token: str) -> Request | None:
        """The request behind a token, once; None for unknown, used and expired ones."""
        self._expire()
        found = self._requests.pop(token, None)
        return found[1] if found else None

    def _expire(self) -> None:
        now = self._clock()
        while self._requests:
            token, (deadline, _) = next(iter(self._requests.items()))
            if deadline > now:
                return
            del self._requests[token]

"""A TCP listener for an application: bounded connections, bounded time for TLS and for headers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

from minikubelet.base.errors import Code, NodeError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 500
"""At one time; further ones are closed as they come."""
HANDSHAKE = 10.0
"""Seconds for the TLS handshake."""
IDLE = 20.0
"""Seconds for the headers of the first request, and until the next one on a connection that is kept."""
MAX_LINE = 256 * 1024
"""Bytes of the request line: the whole command of an exec is in it, scripts and all."""
MAX_HEADER = 8190
"""Bytes of one header."""
MAX_HEADERS = 64
_SHUTDOWN = 1.0
_PAUSE = 0.5
"""Seconds to wait when the process has run out of descriptors, or the kernel of memory."""


class Listener:
    """Serves ``app`` on one address and port."""

    def __init__(
        self,
        app: web.Application,
        address: str,
        port: int,
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """``context`` is asked for every connection; without it the connections are plain."""
        self._address, self._port, self._context = address, port, context
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN,
            keepalive_timeout=IDLE,
            max_line_size=MAX_LINE,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._starting: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.Transport] = set()

    @property
    def port(self) -> int:
        """The port in use, also where 0 was asked for."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises NodeError ALREADY_EXISTS if somebody else does, OSError."""
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self._address != "::")
            listening.bind((self._address, self._port))
            listening.listen(128)
        except OSError as exc:
            listening.close()
            if exc.errno == errno.EADDRINUSE:
                place = f"{self._address}:{self._port}"
                raise NodeError(Code.ALREADY_EXISTS, f"{place} is in use by another program") from None
            raise
        self._socket = listening
        await self._runner.setup()
        self._accepting = asyncio.create_task(self._accept(listening))

    async def close(self) -> None:
        """Close the port and end what is under way."""
        tasks = [*self._starting, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        await self._runner.cleanup()
        for transport in self._open:
            transport.abort()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as exc:
                # A client that has gone already is none of our business; the rest mends itself or stays.
                if exc.errno not in (errno.ECONNABORTED, errno.EPROTO):
                    log.error("connections can't be taken: %s", exc.strerror)
                    await asyncio.sleep(_PAUSE)
                continue
            self._open = {each for each in self._open if not each.is_closing()}
            if len(self._open) + len(self._starting) >= MAX_CONNECTIONS:
                connection.close()
                continue
            task = asyncio.create_task(self._serve(connection))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        context = self._context() if self._context is not None else None
        server = self._runner.server
        assert server is not None
        try:
            transport, _ = await loop.connect_accepted_socket(
                server,
                connection,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE if context else None,
                ssl_shutdown_timeout=_SHUTDOWN if context else None,
            )
        except (OSError, ssl.SSLError) as exc:
            log.debug("a connection came to nothing: %s", exc)
            with contextlib.suppress(OSError):
                connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            self._open.add(transport)

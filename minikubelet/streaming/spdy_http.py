"""SPDY behind an HTTP upgrade: hijacks aiohttp's transport, or tunnels through a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from minikubelet.streaming.spdy import Connection, Stream
from minikubelet.streaming.watch import LINGER
from minikubelet.streaming.websocket import close_socket

PROTOCOL_HEADER = "X-Stream-Protocol-Version"


def is_spdy(request: web.Request) -> bool:
    """Whether the client asks for SPDY/3.1."""
    return request.headers.get("Upgrade", "").lower() == "spdy/3.1"


def negotiate(request: web.Request, supported: tuple[str, ...]) -> str | None:
    """The first protocol both know; empty when the client names none; None when nothing fits."""
    offered = [
        name.strip() for value in request.headers.getall(PROTOCOL_HEADER, []) for name in value.split(",")
    ]
    if not offered:
        return ""
    return next((name for name in offered if name in supported), None)


class Hijacked(web.StreamResponse):
    """A response that was sent by hand: aiohttp must not write another."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        return None


class TransportCarrier(asyncio.Protocol):
    """Carries SPDY on the TCP transport taken over from aiohttp."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._linger: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    def full(self) -> bool:
        return not self._writable.is_set()

    def pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what is left and our end, then wait for the client's.

        Closing at once would answer whatever the client still sends (the ends of its streams) with a reset,
        and a reset takes from a slow client what it has not read yet.
        """
        if self._linger is None and not self._transport.is_closing():
            self.resume()
            self._linger = asyncio.get_running_loop().call_later(LINGER, self._transport.abort)
            if self._transport.get_write_buffer_size():
                # asyncio would send our end from a callback of its own, where nobody can catch what a client
                # that has gone makes of it: so wait until the rest is out (resume_writing).
                self._transport.set_write_buffer_limits(high=0)
            else:
                self._half_close()

    def _half_close(self) -> None:
        if self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection, which nobody had read yet
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.connection is not None and self._linger is None:
            self.connection.feed(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        if self._linger is not None:
            asyncio.get_running_loop().call_soon(self._half_close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._linger is not None:
            self._linger.cancel()
        if self.connection is not None:
            self.connection.connection_lost()


def upgrade(request: web.Request, protocol: str, on_stream: Callable[[Stream], None]) -> Connection:
    """Answer 101 and take the connection over. The handler must return :class:`Hijacked` in the end."""
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):
        raise web.HTTPInternalServerError(text="the connection can't be upgraded")
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    if protocol:
        lines.append(f"{PROTOCOL_HEADER}: {protocol}")
    carrier = TransportCarrier(transport)
    carrier.connection = Connection(carrier, on_stream)
    transport.set_protocol(carrier)
    transport.write("\r\n".join([*lines, "", ""]).encode())
    return carrier.connection


class WebSocketCarrier:
    """Carries SPDY in the binary messages of a WebSocket (KEP-4006, port-forward)."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queued = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._readable = asyncio.Event()
        self._readable.set()

    def send(self, data: bytes) -> None:
        self._queued += len(data)
        if self._queued > 256 * 1024:
            self._writable.clear()
        self._queue.put_nowait(data)

    async def drain(self) -> None:
        await self._writable.wait()

    def full(self) -> bool:
        return not self._writable.is_set()

    def pause(self) -> None:
        self._readable.clear()

    def resume(self) -> None:
        self._readable.set()

    def close(self) -> None:
        self._queue.put_nowait(b"")

    async def run(self, connection: Connection) -> None:
        """Move messages both ways until either side closes."""
        reader = asyncio.create_task(self._read(connection))
        writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            await close_socket(self._socket, reader)
        finally:
            connection.connection_lost()
            self._writable.set()
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, connection: Connection) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                connection.feed(message.data)
                await self._readable.wait()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._queue.get():
                await self._socket.send_bytes(data)
                self._queued -= len(data)
                if self._queued < 64 * 1024:
                    self._writable.set()
        self._writable.set()

"""Port-forward: SPDY stream pairs (data and error, matched by request ID), or WebSocket channel pairs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from minikubelet.base.errors import NodeError
from minikubelet.streaming.pumps import Turns
from minikubelet.streaming.spdy import Connection, Stream
from minikubelet.streaming.websocket import close_socket

log = logging.getLogger(__name__)

SPDY_PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
WEBSOCKET_PROTOCOLS = ("v4.channel.k8s.io",)
PAIR_TIMEOUT = 30.0
"""Seconds between the two streams of a pair."""
CHUNK = 64 * 1024

Connect = Callable[[int], Awaitable[socket.socket]]


class PortForwarder:
    """All forwarded connections of one SPDY session."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._pairs: dict[str, dict[str, Stream]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection: Connection | None = None

    def add(self, stream: Stream) -> None:
        """A stream was opened by the client: check its headers, start when its pair is whole."""
        kind = stream.headers.get("streamtype", "")
        port = stream.headers.get("port", "")
        if kind not in ("data", "error") or not port.isdecimal() or not 0 < int(port) < 65536:
            stream.reset()
            return
        default = stream.id if kind == "error" else stream.id - 2
        key = stream.headers.get("requestid") or str(default)
        pair = self._pairs.setdefault(key, {})
        if kind in pair:
            stream.reset()
            return
        pair[kind] = stream
        if len(pair) == 2:
            del self._pairs[key]
            self._timers.pop(key).cancel()
            self._start(self._forward(int(port), pair["data"], pair["error"]))
        else:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(PAIR_TIMEOUT, self._expire, key)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _expire(self, key: str) -> None:
        del self._timers[key]
        for stream in self._pairs.pop(key).values():
            stream.reset()

    async def _forward(self, port: int, data: Stream, error: Stream) -> None:
        try:
            peer = await self._connect(port)
            with contextlib.closing(peer):
                await _splice(peer, data.read, data.write, data.finish)
        except (NodeError, OSError) as exc:
            log.debug("forwarding port %d: %s", port, exc)
            with contextlib.suppress(ConnectionError):
                await error.write(f"error forwarding port {port}: {exc}".encode())
        finally:
            error.finish()
            data.finish()
            if not data.done:
                data.reset()

    async def finish(self) -> None:
        """The session is over: end what is still running."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _splice(
    peer: socket.socket,
    read: Callable[[], Awaitable[bytes]],
    write: Callable[[bytes], Awaitable[None]],
    finish: Callable[[], None],
) -> None:
    """Copy both ways with half-close; ends when the pod's side has ended or the client has gone."""
    loop = asyncio.get_running_loop()

    async def upstream() -> None:
        while data := await read():
            await loop.sock_sendall(peer, data)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_WR)

    async def downstream() -> None:
        turns = Turns()
        while data := await loop.sock_recv(peer, CHUNK):
            await write(data)
            await turns.moved(len(data))
        finish()

    sender = asyncio.create_task(upstream())
    try:
        await downstream()
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


class WebSocketPorts:
    """Channels 2n (data) and 2n+1 (error) for the n-th port; each starts with the port, little endian."""

    def __init__(self, ws: web.WebSocketResponse, ports: tuple[int, ...], connect: Connect) -> None:
        self._ws = ws
        self._ports = ports
        self._connect = connect
        self._queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(maxsize=8) for _ in ports]
        self._ended: set[int] = set()
        self._touch()

    def _touch(self) -> None:
        self.last_activity = asyncio.get_running_loop().time()

    async def serve(self) -> None:
        """Forward until all ports' connections have ended or the client closes."""
        for number, port in enumerate(self._ports):
            for channel in (2 * number, 2 * number + 1):
                await self._ws.send_bytes(bytes([channel]) + struct.pack("<H", port))
        tasks = [asyncio.create_task(self._port(number)) for number in range(len(self._ports))]
        reader = asyncio.create_task(self._read())
        everything = asyncio.create_task(_all(tasks))
        try:
            await asyncio.wait({reader, everything}, return_when=asyncio.FIRST_COMPLETED)
            await close_socket(self._ws, reader)
        finally:
            for task in (reader, everything, *tasks):
                task.cancel()
            await asyncio.gather(reader, everything, *tasks, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self._ws:
            self._touch()
            if message.type is not WSMsgType.BINARY or len(message.data) < 2:
                continue
            number, odd = divmod(message.data[0], 2)
            if not odd and number < len(self._queues) and number not in self._ended:
                await self._queues[number].put(message.data[1:])

    async def _port(self, number: int) -> None:
        async def write(data: bytes) -> None:
            await self._ws.send_bytes(bytes([2 * number]) + data)
            self._touch()

        port = self._ports[number]
        try:
            peer = await self._connect(port)
            with contextlib.closing(peer):
                await _splice(peer, self._queues[number].get, write, lambda: None)
        except (NodeError, OSError) as exc:
            text = f"error forwarding port {port}: {exc}"
            with contextlib.suppress(ConnectionError):
                await self._ws.send_bytes(bytes([2 * number + 1]) + text.encode())
        finally:  # what still comes for it must not hold up the other ports
            self._ended.add(number)
            while not self._queues[number].empty():
                self._queues[number].get_nowait()


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)

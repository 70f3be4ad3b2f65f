"""A SPDY client of our own framing, and a fake runtime behind the streaming server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from minikubelet.base.errors import not_found
from minikubelet.streaming.sessions import AttachRequest, ExecRequest, Streams
from minikubelet.streaming.spdy import Connection, Stream


class SpdyClient(asyncio.Protocol):
    """Upgrades a TCP connection to SPDY like client-go does."""

    def __init__(self) -> None:
        self._writable = asyncio.Event()
        self._writable.set()
        self._head = b""
        self.status = asyncio.get_running_loop().create_future()
        self.connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.feed(data)
            return
        self._head += data
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if found:
            self.connection = Connection(self, lambda stream: None, server=False)
            self.status.set_result(head.decode())
            self.connection.feed(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self.connection is not None:
            self.connection.connection_lost()
        if not self.status.done():
            self.status.set_result("")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    def full(self) -> bool:
        return not self._writable.is_set()

    def pause(self) -> None:
        self.transport.pause_reading()

    def resume(self) -> None:
        self.transport.resume_reading()

    def close(self) -> None:
        self.transport.close()


async def spdy(url: str, protocol: str = "v4.channel.k8s.io", method: str = "POST") -> SpdyClient:
    """Connect to a streaming URL."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(SpdyClient, parts.hostname or "", parts.port or 0)
    client.send(
        f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
        f"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    await client.status
    return client


async def read_all(stream: Stream) -> bytes:
    """Everything up to the stream's end."""
    parts = []
    while data := await stream.read():
        parts.append(data)
    return b"".join(parts)


@dataclass
class FakeRuntime:
    """Runs exec requests as plain host processes; remembers what was asked of it."""

    port: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    cancelled: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def open_exec(self, request: ExecRequest) -> Streams:
        if request.container_id == "missing":
            raise not_found("container", "missing")
        fds = {"stdin": -1, "stdout": -1, "stderr": -1}
        child: dict[str, int] = {"stdin": -3, "stdout": -3, "stderr": -3}
        for name in fds:
            if getattr(request, name):
                read, write = os.pipe()
                fds[name], child[name] = (write, read) if name == "stdin" else (read, write)
                os.set_blocking(fds[name], False)
        process = await asyncio.create_subprocess_exec(
            *request.command,
            stdin=child["stdin"],
            stdout=child["stdout"],
            stderr=child["stderr"],
            start_new_session=True,
        )
        self.processes.append(process)
        self.started.set()
        for fd in child.values():
            if fd >= 0:
                os.close(fd)

        async def resize(width: int, height: int) -> None:
            self.sizes.append((width, height))

        async def cancel() -> None:
            self.cancelled += 1
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

        return Streams(wait=process.wait, resize=resize, cancel=cancel, **fds)

    async def open_attach(self, request: AttachRequest) -> Streams:
        raise not_found("container", request.container_id)

    async def connect(self, sandbox_id: str, port: int) -> socket.socket:
        peer = socket.socket()
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self.port if port == 80 else port))
        return peer


async def echo_server() -> tuple[asyncio.Server, int]:
    """What a port in a pod may lead to; and its port here."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]

"""Local ports forwarded to a pod: SPDY/3.1 to the kubelet, two streams a connection (portforward.k8s.io)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence

from minikubelet.cli.api_client import not_running
from minikubelet.cli.options import CommandError
from minikubelet.streaming.spdy import Connection, Stream
from minikubelet.streaming.spdy_http import TransportCarrier

PROTOCOL = "portforward.k8s.io"
_CHUNK = 65536
_MAX_HEAD = 65536
_LOCALHOST = ("127.0.0.1", "::1")


_Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Forwarder:
    """Listens, and carries each connection into the pod, until the kubelet or the user ends it."""

    def __init__(
        self, socket: str, path: str, addresses: Sequence[str], ports: Sequence[tuple[int, int]]
    ) -> None:
        self._socket = socket
        self._path = path
        self._addresses = addresses
        self._ports = ports
        self._requests = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve. Raises CommandError when the connection to the kubelet ends."""
        connection = await connect(self._socket, self._path)
        servers: list[asyncio.Server] = []
        try:
            for local, remote in self._ports:
                try:
                    servers += await self._listen(connection, local, remote)
                except CommandError as exc:  # the others may do, as with kubectl
                    print(exc, file=sys.stderr, flush=True)
            if not servers:
                shown = " ".join(f"{local}:{remote}" for local, remote in self._ports)
                raise CommandError(f"unable to listen on any of the requested ports: {shown}")
            await connection.lost.wait()
            raise CommandError("lost connection to pod")
        finally:
            for server in servers:
                server.close()
            for task in self._tasks:
                task.cancel()
            connection.close()

    async def _listen(self, connection: Connection, local: int, remote: int) -> list[asyncio.Server]:
        servers: list[asyncio.Server] = []
        failures = []
        for address in self._addresses:
            for host in _LOCALHOST if address == "localhost" else (address,):
                try:
                    server = await asyncio.start_server(self._acceptor(connection, remote), host, local)
                except OSError as exc:
                    failures.append(f"{host}: {exc.strerror or exc}")
                    continue
                servers.append(server)
                # The same free port on the other address, too.
                local = server.sockets[0].getsockname()[1]
                shown = f"[{host}]" if ":" in host else host
                print(f"Forwarding from {shown}:{local} -> {remote}", flush=True)
        if not servers:
            raise CommandError(f"Unable to listen on port {local}: {'; '.join(failures)}")
        return servers

    def _acceptor(self, connection: Connection, remote: int) -> _Accept:
        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            print(f"Handling connection for {writer.get_extra_info('sockname')[1]}", flush=True)
            task = asyncio.ensure_future(self._carry(connection, reader, writer, remote))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return accepted

    async def _carry(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        remote: int,
    ) -> None:
        """One connection: what the pod's side says is wrong is printed, and ends it."""
        headers = {"port": str(remote), "requestid": str(self._requests)}
        self._requests += 1
        errors = connection.open({**headers, "streamtype": "error"})
        errors.finish()
        data = connection.open({**headers, "streamtype": "data"})
        up = asyncio.create_task(_to_stream(reader, data))
        down = asyncio.create_task(_from_stream(data, writer))
        failed = asyncio.create_task(_read_all(errors))
        try:
            # The error stream ends when the pod's side has; sooner only if the local client has gone.
            await asyncio.wait({failed, down}, return_when=asyncio.FIRST_COMPLETED)
            if not failed.done():
                await down
            if message := await failed:
                print(f"error: forwarding to port {remote}: {message}", file=sys.stderr, flush=True)
            else:
                await down
        except ConnectionError:
            pass
        finally:
            for task in (up, down, failed):
                task.cancel()
            await asyncio.gather(up, down, failed, return_exceptions=True)
            data.reset()
            writer.close()


async def _to_stream(reader: asyncio.StreamReader, stream: Stream) -> None:
    while piece := await reader.read(_CHUNK):
        await stream.write(piece)
    stream.finish()


async def _from_stream(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while piece := await stream.read():
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _read_all(stream: Stream) -> str:
    whole = b""
    while piece := await stream.read():
        whole = (whole + piece)[:4096]
    return whole.decode("utf-8", "replace").strip()


class _Handshake(asyncio.Protocol):
    """The answer to the upgrade, up to its empty line."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received or len(self._received) > _MAX_HEAD:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self.head.done():
            self.head.set_result(self._received)


async def connect(socket: str, path: str) -> Connection:
    """A SPDY connection to the kubelet's ``path``. Raises CommandError with its answer."""
    loop = asyncio.get_running_loop()
    try:
        transport, handshake = await loop.create_unix_connection(_Handshake, socket)
    except (FileNotFoundError, ConnectionRefusedError):
        raise not_running(socket) from None
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        f"X-Stream-Protocol-Version: {PROTOCOL}",
        "Content-Length: 0",
    ]
    transport.write("\r\n".join([*lines, "", ""]).encode())
    head, _, rest = (await handshake.head).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        transport.close()
        reason = rest.decode("utf-8", "replace").strip() or head.split(b"\r\n")[0].decode("latin-1")
        raise CommandError(f"port-forward: {reason}")
    carrier = TransportCarrier(transport)
    carrier.connection = Connection(carrier, Stream.reset, server=False)
    transport.set_protocol(carrier)
    if rest:
        carrier.data_received(rest)
    return carrier.connection

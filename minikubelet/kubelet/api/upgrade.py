"""exec, attach, port-forward: upgraded connections handed on to the runtime's streaming server, byte by byte.

What the two say to each other (SPDY/3.1, WebSocket with any subprotocol) is not looked at, as in upstream's
kubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from minikubelet.base import clock
from minikubelet.base.errors import Code, NodeError, invalid

_CONNECT = 10.0
_ANSWER = 30.0
"""Seconds that the runtime gets for its answer."""
_CHUNK = 64 * 1024
_MAX_HEAD = 32 * 1024
_MAX_BODY = 64 * 1024
_PROTOCOLS = ("spdy/3.1", "websocket")
_PASSED = ("connection", "upgrade", "x-stream-protocol-version", "content-length", "origin", "user-agent")
_LINGER = 10.0
"""Seconds that the runtime gets to end a session whose client has gone."""


class Taken(web.StreamResponse):
    """A response that was sent by hand: aiohttp must not write another."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """See :class:`web.StreamResponse`."""
        return None

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """See :class:`web.StreamResponse`."""
        return


def check_upgrade(request: web.Request) -> None:
    """Raises NodeError INVALID_ARGUMENT unless the client asks for a protocol that can be handed on."""
    wanted = request.headers.get("Upgrade", "").lower()
    if not wanted or "upgrade" not in request.headers.get("Connection", "").lower():
        raise NodeError(Code.INVALID_ARGUMENT, "Upgrade request required")
    if wanted not in _PROTOCOLS:
        raise NodeError(Code.INVALID_ARGUMENT, "unable to upgrade: SPDY/3.1 or WebSocket is required")


async def hand_on(request: web.Request, url: str, idle: float) -> web.StreamResponse:
    """Connect the client with ``url`` until either has ended, or nothing has come for ``idle`` seconds.

    Raises NodeError UNAVAILABLE when the streaming server can't be reached.
    """
    reader, writer = await _connect(url)
    try:
        writer.write(_head(request, url))
        async with asyncio.timeout(_ANSWER):
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            return await _refused(reader, head, status)
        await _join(request, head, reader, writer, idle)
        return Taken()
    except (OSError, ValueError, IndexError, TimeoutError, EOFError, asyncio.LimitOverrunError) as exc:
        raise NodeError(Code.UNAVAILABLE, f"the runtime's streaming server: {exc!r}") from exc
    finally:
        writer.close()


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        raise invalid("url", f"the runtime's streaming URL {url!r} is not one")
    context = None
    if secure:  # the runtime's certificate is its own; it was named over the runtime's socket
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(_CONNECT):
            port = parts.port or (443 if secure else 80)
            return await asyncio.open_connection(parts.hostname, port, limit=_MAX_HEAD, ssl=context)
    except (OSError, TimeoutError) as exc:
        raise NodeError(Code.UNAVAILABLE, f"the runtime's streaming server: {exc!r}") from exc


def _head(request: web.Request, url: str) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [
        f"{name}: {value}"
        for name, value in request.headers.items()
        if name.lower() in _PASSED or name.lower().startswith("sec-websocket-")
    ]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def _refused(reader: asyncio.StreamReader, head: bytes, status: int) -> web.Response:
    """What the streaming server says instead of upgrading."""
    body = b""
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = min(int(value), _MAX_BODY)
    with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_ANSWER):
            body = await reader.readexactly(length)
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return web.Response(status=status if 400 <= status < 600 else 502, body=body, headers=headers)


async def _join(
    request: web.Request,
    head: bytes,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    idle: float,
) -> None:
    """Send the runtime's answer to the client, then whatever comes, both ways."""
    loop = asyncio.get_running_loop()
    transport = request.transport
    if not isinstance(transport, asyncio.Transport) or transport.is_closing():
        return
    client = asyncio.StreamReader(_CHUNK, loop)
    protocol = asyncio.StreamReaderProtocol(client, loop=loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    out = asyncio.StreamWriter(transport, protocol, client, loop)
    out.write(head)
    activity = _Activity()
    to_runtime = asyncio.create_task(_pump(client, writer, activity))
    to_client = asyncio.create_task(_pump(reader, out, activity))
    silence = asyncio.create_task(activity.until_silent(idle))
    try:
        # The runtime's end is the session's end. The client's is passed on, and the runtime then ends too.
        ends = {to_runtime, to_client, silence}
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if done == {to_runtime}:
            await asyncio.wait({to_client}, timeout=_LINGER)
    finally:
        for task in (to_runtime, to_client, silence):
            task.cancel()
        await asyncio.gather(to_runtime, to_client, silence, return_exceptions=True)
        out.close()


class _Activity:
    """When something was last said."""

    def __init__(self) -> None:
        self.last = clock.monotonic()

    async def until_silent(self, idle: float) -> None:
        """Until nothing has been said for ``idle`` seconds."""
        left = idle
        while left > 0:
            await asyncio.sleep(left)  # an event for every block would cost more
            left = self.last + idle - clock.monotonic()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, activity: _Activity) -> None:
    try:
        while data := await source.read(_CHUNK):
            activity.last = clock.monotonic()
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except OSError:
        # One side has gone: the other is told by the end of its connection.
        if target.can_write_eof():
            with contextlib.suppress(OSError):
                target.write_eof()

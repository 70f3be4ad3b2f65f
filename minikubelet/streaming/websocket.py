"""Exec and attach over WebSocket: channel.k8s.io subprotocols (first byte of a message = channel).

v5 adds channel 255: a message ``[255, n]`` closes channel n (KEP-4006). The base64 variants send text
whose first character is the channel's digit.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from typing import Any

from aiohttp import WSMsgType, web

from minikubelet.streaming.remote_command import Channels
from minikubelet.streaming.watch import LINGER

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
MAX_MESSAGE = 1 << 20
CHUNK = 32 * 1024
_NUMBER = {"stdout": STDOUT, "stderr": STDERR}


def accepts(request: web.Request, protocols: tuple[str, ...]) -> bool:
    """Whether a protocol fits, or the client names none (then it is the oldest, ``channel.k8s.io``)."""
    offered = [
        name.strip()
        for value in request.headers.getall("Sec-WebSocket-Protocol", [])
        for name in value.split(",")
    ]
    return not offered or any(name in protocols for name in offered)


def is_websocket(request: web.Request) -> bool:
    """Whether the client asks for a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


class WebSocketChannels(Channels):
    """The channels of one WebSocket; it reads until :meth:`close`."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        super().__init__()
        self._touch()
        protocol = socket.ws_protocol or ""
        self._socket = socket
        self._base64 = "base64" in protocol
        self._v5 = protocol.startswith("v5.")
        self._json_status = protocol.startswith(("v4.", "v5."))
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)
        self._resize: asyncio.Queue[bytes] = asyncio.Queue(maxsize=64)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Sort incoming messages until the client closes or vanishes."""
        try:
            async for message in self._socket:
                self._touch()
                data = self._decode(message.type, message.data)
                if data:
                    await self._sort(data[0], data[1:])
        finally:
            self.gone.set()
            for queue in (self._stdin, self._resize):
                while queue.full():
                    queue.get_nowait()
                queue.put_nowait(b"")

    def _touch(self) -> None:
        self.last_activity = asyncio.get_running_loop().time()

    def _decode(self, kind: WSMsgType, data: Any) -> bytes:
        if kind is WSMsgType.BINARY and not self._base64:
            return bytes(data)
        if kind is WSMsgType.TEXT and self._base64 and data[:1].isdigit():
            with contextlib.suppress(binascii.Error):
                return bytes([int(data[0])]) + base64.b64decode(data[1:], validate=True)
        return b""

    async def _sort(self, channel: int, data: bytes) -> None:
        if channel == STDIN and data:
            await self._stdin.put(data)
        elif channel == RESIZE and data:
            await self._resize.put(data)
        elif channel == CLOSE and self._v5 and data[:1] == bytes([STDIN]):
            await self._stdin.put(b"")

    async def read_stdin(self) -> bytes:
        return await self._stdin.get()

    async def read_resize(self) -> bytes:
        return await self._resize.get()

    async def write(self, channel: str, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            await self._send(_NUMBER[channel], data[start : start + CHUNK])

    async def announce(self, channel: int) -> None:
        """An empty message: tells the client that the session is open."""
        await self._send(channel, b"")

    async def send_status(self, status: dict[str, Any]) -> None:
        if self._json_status:
            await self._send(ERROR, json.dumps(status).encode())
        elif status["status"] != "Success":
            await self._send(ERROR, status["message"].encode())

    async def _send(self, channel: int, data: bytes) -> None:
        if self._socket.closed or self.gone.is_set():
            raise ConnectionResetError("the WebSocket is closed")
        if self._base64:
            await self._socket.send_str(str(channel) + base64.b64encode(data).decode())
        else:
            await self._socket.send_bytes(bytes([channel]) + data)
        self._touch()

    async def close(self) -> None:
        await close_socket(self._socket, self._reader)


async def close_socket(socket: web.WebSocketResponse, reader: asyncio.Task[None]) -> None:
    """Say goodbye and wait for the client's, so that it can read what it has not yet.

    The reader ends first: aiohttp doesn't wait while somebody else receives.
    """
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    with contextlib.suppress(ConnectionError, RuntimeError):
        await socket.close()


def new_socket(protocols: tuple[str, ...] = PROTOCOLS) -> web.WebSocketResponse:
    """A WebSocket response with our limits.

    No heartbeat: its answer waits behind stdin that a program does not read, and would end a session that
    is all right. ``watch_peer`` sees clients that have gone.
    """
    return web.WebSocketResponse(
        protocols=protocols, max_msg_size=MAX_MESSAGE, compress=False, timeout=LINGER
    )

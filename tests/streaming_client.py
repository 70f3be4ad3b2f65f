"""A lean blocking client of streaming URLs, for large transfers: SPDY/3.1 and WebSocket, any runtime's.

It spends as little as it can on each byte, so that what is measured through it is the server: whole blocks
are framed once and sent again and again, and what arrives is counted or hashed where it lies.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from minikubelet.streaming import spdy_frames as spdy
from minikubelet.streaming.spdy_headers import HeaderEncoder

FRAME = 32 * 1024
"""Payload of one frame or message, as client-go sends it."""
_BUFFER = 1 << 20
SILENCE = 60.0
"""Seconds in which something has to come."""

Sink = Callable[[int, memoryview], None]
"""Called with a stream (channel) and bytes of it; the bytes are gone after the call."""


class Refused(Exception):
    """The server did not upgrade; the message is its answer."""


class Client:
    """One upgraded connection; a context manager that closes it. Over https any certificate is taken."""

    def __init__(self, url: str, headers: dict[str, str], receive_buffer: int = 0) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(0.2)
        self.socket.connect((parts.hostname or "", parts.port or 0))
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket.settimeout(30)
            self.socket = context.wrap_socket(self.socket)
            self.socket.settimeout(0.2)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        head = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", *lines, "", ""]
        self.send("\r\n".join(head).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                more = self.socket.recv(1)
            except TimeoutError:
                continue
            if not more:
                raise Refused(answer.decode())
            answer += more
        if not answer.startswith(b"HTTP/1.1 101"):
            raise Refused(answer.decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it, or less once :meth:`reset` is called. Raises OSError."""
        view = memoryview(data)
        while view and not self.vanishing:
            try:
                view = view[self.socket.send(view) :]
            except TimeoutError:
                continue

    def reset(self, sender: Sender | None = None) -> None:
        """Vanish: the kernel answers with RST whatever still comes."""
        self.vanishing = True
        if sender is not None:
            sender.join()  # or its send(2) would keep the socket open
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self, sink: Sink) -> None:
        """Hand over what comes until the connection, or the session on it, has ended."""
        buffer = bytearray(_BUFFER)
        view = memoryview(buffer)
        filled, heard = 0, time.monotonic()
        while not self.ended:
            try:
                count = self.socket.recv_into(view[filled:])
            except TimeoutError as exc:
                if time.monotonic() - heard > SILENCE:
                    raise TimeoutError(f"nothing came for {SILENCE:.0f} s") from exc
                continue
            if not count:
                return
            heard = time.monotonic()
            filled += count
            used = self._take(view[:filled], sink)
            view[: filled - used] = view[used:filled]
            filled -= used

    ended = False
    vanishing = False
    half_closes = True

    def framed(self, stream: int, data: bytes) -> bytes:
        """``data`` cut into frames of one stream."""
        return b"".join(
            self.frame(stream, data[start : start + FRAME]) for start in range(0, len(data), FRAME)
        )

    def frame(self, stream: int, data: bytes) -> bytes:
        raise NotImplementedError

    def finish(self, stream: int) -> None:
        """Half-close a stream."""
        raise NotImplementedError

    def _take(self, view: memoryview, sink: Sink) -> int:
        """Hand over the whole frames in ``view``; how many bytes they were."""
        raise NotImplementedError


class SpdyClient(Client):
    """Streams are numbered 1, 3, 5… in the order of :meth:`open`."""

    def __init__(self, url: str, protocol: str = "v4.channel.k8s.io", receive_buffer: int = 0) -> None:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "SPDY/3.1",
            "X-Stream-Protocol-Version": protocol,
            "Content-Length": "0",
        }
        super().__init__(url, headers, receive_buffer)
        self._encoder = HeaderEncoder()
        self._next = 1
        self.open_streams: set[int] = set()

    def open(self, **headers: str) -> int:
        number = self._next
        self._next += 2
        self.open_streams.add(number)
        self.send(spdy.syn_stream(number, self._encoder.encode(headers)))
        return number

    def frame(self, stream: int, data: bytes) -> bytes:
        return spdy.data(stream, data)

    def finish(self, stream: int) -> None:
        self.send(spdy.data(stream, b"", fin=True))

    def _take(self, view: memoryview, sink: Sink) -> int:
        position = 0
        while len(view) - position >= 8:
            first, second = struct.unpack_from(">II", view, position)
            end = position + 8 + (second & 0xFFFFFF)
            if end > len(view):
                break
            if not first >> 31:
                sink(first, view[position + 8 : end])
                if second >> 24 & spdy.FLAG_FIN:
                    self.open_streams.discard(first)
            elif first & 0xFFFF == spdy.RST_STREAM:
                self.open_streams.discard(struct.unpack_from(">I", view, position + 8)[0])
            elif first & 0xFFFF == spdy.GOAWAY:
                self.ended = True
            position = end
        self.ended = self.ended or not self.open_streams
        return position


class WebSocketClient(Client):
    """Channels by number; messages are masked with zero, which leaves them as they are (RFC 6455, 5.3)."""

    def __init__(self, url: str, protocol: str = "v5.channel.k8s.io", receive_buffer: int = 0) -> None:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Origin": "http://localhost",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": protocol,
        }
        super().__init__(url, headers, receive_buffer)
        self.half_closes = protocol.startswith("v5.")

    def frame(self, stream: int, data: bytes) -> bytes:
        return _message(bytes([stream]) + data)

    def finish(self, stream: int) -> None:
        self.send(_message(bytes([255, stream])))

    def _take(self, view: memoryview, sink: Sink) -> int:
        position = 0
        while len(view) - position >= 2:
            length, start = view[position + 1], position + 2
            if length == 126 and len(view) - start >= 2:
                (length,), start = struct.unpack_from(">H", view, start), start + 2
            elif length == 127 and len(view) - start >= 8:
                (length,), start = struct.unpack_from(">Q", view, start), start + 8
            elif length > 125:
                break
            if start + length > len(view):
                break
            opcode = view[position] & 15
            if opcode == 8:
                self.ended = True
            elif opcode == 2 and length:
                sink(view[start], view[start + 1 : start + length])
            position = start + length
        return position


def _message(data: bytes, opcode: int = 2) -> bytes:
    length = len(data)
    size = bytes([0x80 | length]) if length < 126 else bytes([0xFE]) + struct.pack(">H", length)
    return bytes([0x80 | opcode]) + size + bytes(4) + data


class Sender(threading.Thread):
    """Sends ``block`` over and over, ``size`` bytes in all, and half-closes the stream if it can be."""

    def __init__(self, client: Client, stream: int, block: bytes, size: int) -> None:
        super().__init__(name="sender", daemon=True)
        self.error: OSError | None = None
        self._client = client
        self._stream = stream
        self._pieces = _pieces(block, size)
        self._framed = client.framed(stream, block)
        self._block = block

    def run(self) -> None:
        try:
            for piece in self._pieces:
                whole = len(piece) == len(self._block)
                self._client.send(self._framed if whole else self._client.framed(self._stream, piece))
                if self._client.vanishing:
                    return
            if self._client.half_closes:
                self._client.finish(self._stream)
        except OSError as exc:
            self.error = exc


def _pieces(block: bytes, size: int) -> Iterator[bytes]:
    while size >= len(block):
        yield block
        size -= len(block)
    if size:
        yield block[:size]


def open_exec(client: Client, *, stdout: bool = True) -> tuple[int, int]:
    """Open the streams of an exec with stdin; the numbers of stdin and stdout."""
    if isinstance(client, SpdyClient):
        client.open(streamtype="error")
        stdin = client.open(streamtype="stdin")
        return stdin, client.open(streamtype="stdout") if stdout else -1
    return 0, 1


def open_forward(client: Client, port: int) -> tuple[int, int]:
    """Open one forwarded connection; the numbers of its data stream, to send and to receive."""
    if isinstance(client, SpdyClient):
        error = client.open(streamtype="error", port=str(port), requestid="0")
        client.finish(error)
        data = client.open(streamtype="data", port=str(port), requestid="0")
        return data, data
    return 0, 0

"""ttrpc (github.com/containerd/ttrpc, PROTOCOL.md): unary calls over one logical connection.

A message has a header of ten bytes (length and stream number, four bytes each, big endian; type; flags) and a
protobuf Request or Response behind it. A client numbers its streams 1, 3, 5….
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import struct
from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.message import DecodeError, Message

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import ttrpc_pb2
from minikubelet.nri.multiplex import BrokenTrunk

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 4 << 20
_HEADER = struct.Struct("!IIBB")
_REQUEST, _RESPONSE = 1, 2
_UNDER_WAY = 16
"""Requests of one client that are handled at a time; more of them are a fault."""
_INTERNAL = Code.INTERNAL.value


class CallFailed(Exception):
    """The other side answered with an error; ``code`` is google.rpc.Code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Framing:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The messages that are complete now: stream, type, body. Raises BrokenTrunk."""
        self._pending += data
        found = []
        while len(self._pending) >= _HEADER.size:
            length, stream, kind, _flags = _HEADER.unpack_from(self._pending)
            if length > LONGEST_MESSAGE:
                raise BrokenTrunk(f"a message of {length} bytes; {LONGEST_MESSAGE} are allowed")
            end = _HEADER.size + length
            if len(self._pending) < end:
                break
            found.append((stream, kind, bytes(self._pending[_HEADER.size : end])))
            del self._pending[:end]
        return found


def _frame(stream: int, kind: int, body: bytes) -> bytes:
    return _HEADER.pack(len(body), stream, kind, 0) + body


class Client:
    """Calls over ``send``; feed it what comes back through ``receive``."""

    def __init__(self, send: Callable[[bytes], None], service: str) -> None:
        self._send = send
        self._service = service
        self._framing = _Framing()
        self._streams = itertools.count(1, 2)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}

    async def call(self, method: str, request: Message, seconds: float) -> bytes:
        """The answer's bytes. Raises CallFailed, TimeoutError, BrokenTrunk, ValueError (too long)."""
        body = ttrpc_pb2.Request(
            service=self._service,
            method=method,
            payload=request.SerializeToString(),
            timeout_nano=int(seconds * 1e9),
        ).SerializeToString()
        if len(body) > LONGEST_MESSAGE:
            raise ValueError(f"{method}: a message of {len(body)} bytes; {LONGEST_MESSAGE} are allowed")
        stream = next(self._streams)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = answer
        try:
            self._send(_frame(stream, _REQUEST, body))
            return await asyncio.wait_for(answer, seconds)
        finally:
            del self._waiting[stream]

    def receive(self, data: bytes) -> None:
        """Raises BrokenTrunk."""
        for stream, kind, body in self._framing.feed(data):
            if kind != _RESPONSE:
                raise BrokenTrunk(f"a message of type {kind} where answers come")
            answer = self._waiting.get(stream)
            if answer is None or answer.done():
                continue  # too late
            try:
                response = ttrpc_pb2.Response.FromString(body)
            except DecodeError as exc:
                raise BrokenTrunk("an answer that is no ttrpc.Response") from exc
            if response.status.code:
                answer.set_exception(CallFailed(response.status.code, response.status.message))
            else:
                answer.set_result(response.payload)

    def close(self) -> None:
        """Calls under way fail."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(BrokenTrunk("the connection has ended"))


Handler = Callable[[bytes], Awaitable[Message]]


class Server:
    """Answers calls of ``service``: ``methods`` by name. ``broken`` is told of faults while answering."""

    def __init__(self, send: Callable[[bytes], None], service: str, methods: Mapping[str, Handler]) -> None:
        self._send = send
        self._service = service
        self._methods = methods
        self._framing = _Framing()
        self._last = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, data: bytes) -> None:
        """Raises BrokenTrunk."""
        for stream, kind, body in self._framing.feed(data):
            if kind != _REQUEST:
                raise BrokenTrunk(f"a message of type {kind} where requests come")
            if stream % 2 == 0 or stream <= self._last:
                raise BrokenTrunk(f"stream {stream} after {self._last}")
            if len(self._tasks) >= _UNDER_WAY:
                raise BrokenTrunk(f"more than {_UNDER_WAY} requests at a time")
            self._last = stream
            task = asyncio.get_running_loop().create_task(self._answer(stream, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: int, body: bytes) -> None:
        response = ttrpc_pb2.Response()
        try:
            request = ttrpc_pb2.Request.FromString(body)
            handler = self._methods.get(request.method) if request.service == self._service else None
            if handler is None:
                text = f"{request.service}/{request.method}"[:200]
                raise NodeError(Code.UNIMPLEMENTED, f"no method {text!r}")
            response.payload = (await handler(request.payload)).SerializeToString()
        except DecodeError as exc:
            response.status.code = Code.INVALID_ARGUMENT.value
            response.status.message = str(exc)
        except NodeError as exc:
            response.status.code = exc.code.value
            response.status.message = str(exc)
        except Exception:
            log.exception("a plugin's request failed")
            response.status.code = _INTERNAL
            response.status.message = "internal error"
        try:
            self._send(_frame(stream, _RESPONSE, response.SerializeToString()))
        except BrokenTrunk as exc:
            log.debug("an answer can't be sent: %s", exc)

    def close(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()

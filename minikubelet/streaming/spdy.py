"""SPDY/3.1 connections, server and client side, over any carrier of bytes.

Kubernetes' SPDY peers keep no flow-control windows; TCP's is the only back pressure. So a stream whose
reader stays behind pauses the whole carrier, as it does there, and memory stays bounded: by stream, and by
connection, as a client may open thousands. What a peer's frames make us answer is bounded, too: a peer that
asks on and on (PING, streams beyond the limit) and reads no answer is let go.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from minikubelet.streaming import spdy_frames as frames
from minikubelet.streaming.spdy_headers import HeaderDecoder, HeaderEncoder, HeaderError

CHUNK = 32 * 1024
HIGH_WATER = 256 * 1024
"""Unread bytes of one stream at which the carrier is paused."""
MAX_HELD = 16 * HIGH_WATER
"""The same for all streams of a connection together."""
MAX_OWED = 256 * 1024
"""Bytes of answers that may wait for a peer that doesn't read."""
MAX_STREAMS = 4096
_CHUNK_COST = 64
"""Bytes that a chunk takes besides its content."""


class Carrier(Protocol):
    """What moves the bytes: a TCP transport, or a WebSocket with SPDY tunnelled through it."""

    def send(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def full(self) -> bool: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Stream:
    """One bidirectional stream."""

    def __init__(self, connection: Connection, stream_id: int, headers: dict[str, str]) -> None:
        self.id = stream_id
        self.headers = headers
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._ended = False
        self._finished = False
        self._wake = asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes; empty at the end (FIN, reset or lost connection)."""
        while not self._chunks:
            if self._ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        chunk = self._chunks.popleft()
        self._hold(-len(chunk) - _CHUNK_COST)
        return chunk

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the carrier is full. Raises ConnectionError when the stream is closed."""
        view = memoryview(data)
        while view:
            if self._finished or self._connection.lost.is_set():
                raise ConnectionResetError(f"stream {self.id} is closed")
            self._connection.carrier.send(frames.data(self.id, view[:CHUNK]))
            view = view[CHUNK:]
            self._connection.touch()
            await self._connection.carrier.drain()

    def finish(self) -> None:
        """Close our direction (half-close); idempotent."""
        if not self._finished and not self._connection.lost.is_set():
            self._connection.carrier.send(frames.data(self.id, b"", fin=True))
        self._finished = True
        self._connection.forget_if_done(self)

    def reset(self) -> None:
        """End both directions at once."""
        if not self._connection.lost.is_set():
            self._connection.carrier.send(frames.rst_stream(self.id, frames.RST_CANCEL))
        self.abort()

    @property
    def done(self) -> bool:
        """Whether both directions are closed."""
        return self._finished and self._ended

    def feed(self, data: bytes) -> None:
        """Bytes from the peer (called by the connection)."""
        if data and not self._ended:
            self._chunks.append(data)
            self._hold(len(data) + _CHUNK_COST)
            self._wake.set()

    def end(self) -> None:
        """The peer has closed its direction (called by the connection)."""
        self._ended = True
        self._wake.set()
        self._connection.forget_if_done(self)

    def abort(self) -> None:
        """Both directions are closed; nobody wants what is unread (called by the connection)."""
        self._chunks.clear()
        self._hold(-self._unread)
        self._finished = True
        self.end()

    def _hold(self, change: int) -> None:
        """Keep the books of unread bytes, the stream's and the connection's."""
        self._unread += change
        self._connection.hold(self, change, over=self._unread > HIGH_WATER)


class Connection:
    """One SPDY session: feed it bytes, get streams."""

    def __init__(self, carrier: Carrier, on_stream: Callable[[Stream], None], *, server: bool = True) -> None:
        self.carrier = carrier
        self.lost = asyncio.Event()
        self.touch()
        self._on_stream = on_stream
        self._server = server
        self._parser = frames.FrameParser()
        self._encoder = HeaderEncoder()
        self._decoder = HeaderDecoder()
        self._streams: dict[int, Stream] = {}
        self._held = 0
        self._behind: set[int] = set()
        self._paused = False
        self._owed = 0
        self._next_id = 2 if server else 1
        self._last_peer_id = 0
        self._ping_id = 0 if server else -1

    def feed(self, data: bytes) -> None:
        """Bytes from the carrier. A protocol error closes the connection, nothing is raised."""
        if self.lost.is_set():
            return
        self.touch()
        try:
            for frame in self._parser.feed(data):
                if isinstance(frame, frames.DataFrame):
                    self._data(frame)
                else:
                    self._control(frame)
        except (frames.FrameError, HeaderError):
            self.close()

    async def ping(self) -> None:
        """Send a PING; the answer means nothing to us."""
        if not self.lost.is_set():
            self._ping_id += 2
            self.carrier.send(frames.control(frames.PING, struct.pack(">I", self._ping_id & 0x7FFFFFFF)))

    def touch(self) -> None:
        """Something has moved, either way."""
        self.last_activity = asyncio.get_running_loop().time()

    def open(self, headers: dict[str, str]) -> Stream:
        """Open a stream of our own."""
        stream = Stream(self, self._next_id, headers)
        self._next_id += 2
        self._streams[stream.id] = stream
        self.carrier.send(frames.syn_stream(stream.id, self._encoder.encode(headers)))
        return stream

    def refuse(self, stream: Stream) -> None:
        """Refuse a peer's stream (bad headers)."""
        self._streams.pop(stream.id, None)
        self.carrier.send(frames.rst_stream(stream.id, frames.RST_REFUSED_STREAM))

    def close(self) -> None:
        """Say GOAWAY, close the carrier, end all streams; idempotent."""
        if not self.lost.is_set():
            self.carrier.send(frames.goaway(self._last_peer_id))
            self.carrier.close()
        self.connection_lost()

    def connection_lost(self) -> None:
        """The carrier is gone: all streams end."""
        self.lost.set()
        for stream in list(self._streams.values()):
            stream.end()
        self._streams.clear()

    def hold(self, stream: Stream, change: int, *, over: bool) -> None:
        """A stream has more unread bytes, or fewer: stop reading from the carrier, or go on."""
        self._held += change
        if over:
            self._behind.add(stream.id)
        else:
            self._behind.discard(stream.id)
        late = bool(self._behind) or self._held > MAX_HELD
        if late != self._paused and not self.lost.is_set():
            self._paused = late
            if late:
                self.carrier.pause()
            else:
                self.carrier.resume()

    def forget_if_done(self, stream: Stream) -> None:
        """Drop a stream that is closed both ways."""
        if stream.done:
            self._streams.pop(stream.id, None)

    def _answer(self, data: bytes) -> None:
        """Send what a peer's frame calls for. Raises FrameError when it reads no answers."""
        self._owed = self._owed + len(data) if self.carrier.full() else 0
        if self._owed > MAX_OWED:
            raise frames.FrameError("the peer reads no answers")
        self.carrier.send(data)

    def _data(self, frame: frames.DataFrame) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            if frame.stream_id > self._last_peer_id:
                self._answer(frames.rst_stream(frame.stream_id, frames.RST_INVALID_STREAM))
            return
        stream.feed(frame.payload)
        if frame.fin:
            stream.end()

    def _control(self, frame: frames.ControlFrame) -> None:
        if frame.kind == frames.SYN_STREAM:
            self._syn_stream(frame)
        elif frame.kind in (frames.SYN_REPLY, frames.HEADERS):
            headers = self._decoder.decode(frame.payload[4:])
            stream = self._streams.get(frame.number())
            if stream is not None:
                stream.headers.update(headers)
                if frame.fin:
                    stream.end()
        elif frame.kind == frames.RST_STREAM:
            stream = self._streams.pop(frame.number(), None)
            if stream is not None:
                stream.abort()
        elif frame.kind == frames.PING:
            if frame.number() % 2 == (1 if self._server else 0):
                self._answer(frames.control(frames.PING, frame.payload[:4]))
        elif frame.kind == frames.GOAWAY:
            frame.number()
        elif frame.kind not in (frames.SETTINGS, frames.WINDOW_UPDATE):
            raise frames.FrameError(f"control frame of unknown kind {frame.kind}")

    def _syn_stream(self, frame: frames.ControlFrame) -> None:
        stream_id = frame.number()
        headers = self._decoder.decode(frame.payload[10:])
        if stream_id <= self._last_peer_id or stream_id % 2 != (1 if self._server else 0):
            raise frames.FrameError(f"stream ID {stream_id} after {self._last_peer_id}")
        self._last_peer_id = stream_id
        if len(self._streams) >= MAX_STREAMS:
            self._answer(frames.rst_stream(stream_id, frames.RST_REFUSED_STREAM))
            return
        stream = Stream(self, stream_id, headers)
        self._streams[stream_id] = stream
        self._answer(frames.syn_reply(stream_id, self._encoder.encode({})))
        if frame.fin:
            stream.end()
        self._on_stream(stream)

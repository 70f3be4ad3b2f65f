"""SPDY/3.1 frames as bytes (SPDY Protocol Draft 3.1, section 2.2 and 2.6). No I/O here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

VERSION = 3
FLAG_FIN = 0x01
MAX_FRAME = 1 << 20
"""Largest payload taken from a peer; Kubernetes clients send 32 KiB at a time."""

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9

RST_PROTOCOL_ERROR = 1
RST_INVALID_STREAM = 2
RST_REFUSED_STREAM = 3
RST_CANCEL = 5


class FrameError(ValueError):
    """Bytes that are no SPDY/3.1 frame, or one over the limits."""


@dataclass(frozen=True)
class DataFrame:
    stream_id: int
    payload: bytes
    fin: bool


@dataclass(frozen=True)
class ControlFrame:
    kind: int
    flags: int
    payload: bytes

    @property
    def fin(self) -> bool:
        return bool(self.flags & FLAG_FIN)

    def number(self, offset: int = 0) -> int:
        """The 31-bit number at ``offset`` of the payload (stream, ping ID). Raises :class:`FrameError`."""
        if len(self.payload) < offset + 4:
            raise FrameError(f"control frame {self.kind} of {len(self.payload)} bytes is too short")
        (value,) = struct.unpack_from(">I", self.payload, offset)
        return int(value) & 0x7FFFFFFF


Frame = DataFrame | ControlFrame


class FrameParser:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now. Raises :class:`FrameError`; the connection is lost then."""
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= 8:
                first, second = struct.unpack_from(">II", self._buffer, position)
                length = second & 0xFFFFFF
                if length > MAX_FRAME:
                    raise FrameError(f"frame of {length} bytes is over the limit of {MAX_FRAME}")
                if len(self._buffer) - position - 8 < length:
                    break
                payload = bytes(self._buffer[position + 8 : position + 8 + length])
                position += 8 + length
                yield _frame(first, second >> 24, payload)
        finally:
            del self._buffer[:position]


def _frame(first: int, flags: int, payload: bytes) -> Frame:
    if not first & 0x80000000:
        return DataFrame(first, payload, bool(flags & FLAG_FIN))
    version = (first >> 16) & 0x7FFF
    if version != VERSION:
        raise FrameError(f"SPDY version {version} instead of {VERSION}")
    return ControlFrame(first & 0xFFFF, flags, payload)


def data(stream_id: int, payload: bytes | memoryview, *, fin: bool = False) -> bytes:
    """A data frame; ``fin`` closes this direction of the stream."""
    return struct.pack(">II", stream_id, (FLAG_FIN if fin else 0) << 24 | len(payload)) + payload


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """A control frame."""
    return struct.pack(">II", 0x80000000 | VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def syn_stream(stream_id: int, block: bytes, *, fin: bool = False) -> bytes:
    """Open a stream with a compressed header block."""
    return control(SYN_STREAM, struct.pack(">IIBB", stream_id, 0, 0, 0) + block, FLAG_FIN if fin else 0)


def syn_reply(stream_id: int, block: bytes) -> bytes:
    """Accept a stream."""
    return control(SYN_REPLY, struct.pack(">I", stream_id) + block)


def rst_stream(stream_id: int, status: int) -> bytes:
    """End a stream at once, both ways."""
    return control(RST_STREAM, struct.pack(">II", stream_id, status))


def goaway(last_stream_id: int) -> bytes:
    """No further streams: the connection is about to close (status OK)."""
    return control(GOAWAY, struct.pack(">II", last_stream_id, 0))

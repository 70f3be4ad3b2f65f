"""Several logical connections over one socket, as github.com/containerd/nri's pkg/net/multiplex frames them.

A frame is a connection's number and the length of what follows, both four bytes, big endian. There is no
handshake: both sides know which numbers they use.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

PLUGIN_SERVICE = 1
"""Requests of the runtime to the plugin."""
RUNTIME_SERVICE = 2
"""Requests of the plugin to the runtime."""
LONGEST_FRAME = (4 << 20) + 10
"""The longest ttrpc message with its header."""

_HEADER = struct.Struct("!II")
_FIRST_FRAME = 4096
"""Go's plugins read through a buffer of this size and refuse a frame that is longer than what they have room
for: a message's first frame must fit it, the rest is read in one go (bufio.Reader)."""
_SEND_LIMIT = 16 << 20
"""Bytes a plugin may leave unread before it is let go."""


class BrokenTrunk(Exception):
    """The other side doesn't keep to the protocol."""


class Trunk:
    """One socket. ``receivers`` get the bytes of each logical connection as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.receivers: dict[int, Callable[[bytes], None]] = {}

    async def run(self) -> None:
        """Read frames until the other side has gone. Raises BrokenTrunk, OSError."""
        while True:
            try:
                connection, length = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
                if length > LONGEST_FRAME:
                    raise BrokenTrunk(f"a frame of {length} bytes; {LONGEST_FRAME} are allowed")
                data = await self._reader.readexactly(length)
            except asyncio.IncompleteReadError as exc:
                if exc.partial:
                    raise BrokenTrunk("the connection ended within a frame") from exc
                return
            receiver = self.receivers.get(connection)
            if receiver is not None:  # frames of unknown connections are dropped, as upstream does
                receiver(data)

    def send(self, connection: int, message: bytes) -> None:
        """Send one whole message. Raises BrokenTrunk when the other side doesn't read."""
        if self._writer.is_closing():
            raise BrokenTrunk("the connection is closed")
        if self._writer.transport.get_write_buffer_size() > _SEND_LIMIT:
            raise BrokenTrunk(f"more than {_SEND_LIMIT} bytes are unread")
        for piece in (message[:_FIRST_FRAME], message[_FIRST_FRAME:]):
            if piece:
                self._writer.write(_HEADER.pack(connection, len(piece)) + piece)

    def close(self) -> None:
        """Close the socket; ``run`` ends."""
        self._writer.close()

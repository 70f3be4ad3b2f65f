"""Exec and attach over SPDY: one stream a channel, named by the header ``streamtype``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from minikubelet.streaming.remote_command import Channels
from minikubelet.streaming.spdy import Connection, Stream

PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
CREATION_TIMEOUT = 30.0
"""Seconds a client has to open all its streams."""
_TYPES = ("error", "stdin", "stdout", "stderr", "resize")


class SpdyChannels(Channels):
    """Collects the streams that a client opens."""

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.streams: dict[str, Stream] = {}
        self._protocol = protocol or "channel.k8s.io"
        self._arrived = asyncio.Event()
        self._connection: Connection | None = None

    def add(self, stream: Stream) -> None:
        """A stream was opened by the client."""
        kind = stream.headers.get("streamtype", "")
        if kind in _TYPES and kind not in self.streams:
            self.streams[kind] = stream
            self._arrived.set()
        else:
            stream.reset()

    async def wait_for(self, connection: Connection, wanted: set[str], tty: bool) -> bool:
        """Wait for the error stream and the wanted ones (with a terminal the resize stream too from v3 on).

        False when they don't come in time or the client goes.
        """
        self._connection = connection
        expected = {"error", *wanted}
        if tty and self._protocol[:2] in ("v4", "v3"):
            expected.add("resize")
        lost = asyncio.create_task(self._watch(connection))
        try:
            async with asyncio.timeout(CREATION_TIMEOUT):
                while not expected <= self.streams.keys() and not self.gone.is_set():
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return False
        finally:
            self._watcher = lost
        return not self.gone.is_set()

    async def _watch(self, connection: Connection) -> None:
        await connection.lost.wait()
        self.gone.set()
        self._arrived.set()

    async def read_stdin(self) -> bytes:
        stream = self.streams.get("stdin")
        return await stream.read() if stream else b""

    async def read_resize(self) -> bytes:
        stream = self.streams.get("resize")
        return await stream.read() if stream else b""

    async def write(self, channel: str, data: bytes) -> None:
        stream = self.streams.get(channel)
        if stream is not None:
            await stream.write(data)

    async def send_status(self, status: dict[str, Any]) -> None:
        for name in ("stdout", "stderr"):
            if name in self.streams:
                self.streams[name].finish()
        if self._protocol.startswith("v4."):
            await self.streams["error"].write(json.dumps(status).encode())
        elif status["status"] != "Success":
            await self.streams["error"].write(status["message"].encode())
        self.streams["error"].finish()

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            await self._watcher

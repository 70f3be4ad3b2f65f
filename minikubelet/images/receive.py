"""Bodies of registries' answers on their way into memory or into a file."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

import aiohttp

from minikubelet.images.blobs import Ingest
from minikubelet.images.documents import bad_content
from minikubelet.images.patience import Unreachable
from minikubelet.images.transport import explain

FLUSH = 1 << 20
"""Bytes that are collected before a thread writes and hashes them."""


class Sink:
    """Collects chunks and hands them to a thread, one hand-over at a time."""

    def __init__(self, ingest: Ingest, progress: Callable[[], None]) -> None:
        self._ingest = ingest
        self._progress = progress
        self._chunks: list[bytes] = []
        self._size = 0
        self._total = ingest.offset
        self._writing: asyncio.Future[None] | None = None

    async def add(self, chunk: bytes) -> None:
        """Take the next piece. Raises NodeError(FAILED_PRECONDITION) for more than was promised, OSError."""
        self._total += len(chunk)
        if self._total > self._ingest.size:
            raise bad_content(f"more than the {self._ingest.size} bytes of {self._ingest.digest}")
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size >= FLUSH:
            await self._hand_over()

    async def flush(self) -> None:
        """Have everything written. Raises OSError."""
        await self._hand_over()
        await self._written()

    async def _hand_over(self) -> None:
        await self._written()
        chunks, self._chunks, self._size = self._chunks, [], 0
        if chunks:
            write = functools.partial(self._ingest.write, chunks)
            self._writing = asyncio.get_running_loop().run_in_executor(None, write)

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            # A thread can't be stopped: even a cancelled download waits for its last write.
            await finish(writing)
            self._ingest.announce()
            self._progress()


async def finish(future: asyncio.Future[None]) -> None:
    """Wait for a thread's work; being cancelled comes into force when that has ended."""
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


async def some(response: aiohttp.ClientResponse) -> bytes:
    """The next piece of a body, empty at its end. Raises Unreachable."""
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise Unreachable(explain(exc)) from exc


async def read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """A whole body. Raises Unreachable, NodeError(FAILED_PRECONDITION) above ``limit`` bytes."""
    parts: list[bytes] = []
    size = 0
    while chunk := await some(response):
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise bad_content(f"content larger than {limit} bytes")
    return b"".join(parts)


def bytes_to_skip(response: aiohttp.ClientResponse, start: int) -> int:
    """A server without ranges sends all again; one that sends another range is not understood."""
    if response.status == 200:
        return start
    content_range = response.headers.get("Content-Range", "")
    if not content_range.startswith(f"bytes {start}-"):
        raise Unreachable(f"answer with the range {content_range[:60]!r} to bytes={start}-", status=400)
    return 0

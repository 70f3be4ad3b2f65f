"""Compressed layer in, uncompressed chunks out: gzip, zstd or plain by magic number, bounded and hashed.

Runs in the unpacker process; nothing here trusts its input. RFC 1952 (gzip), RFC 8878 (zstd).
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, cast

CHUNK = 1 << 20
"""Bytes of a plain chunk at most; with QUEUE this bounds the memory of a stream."""
QUEUE = 4
READ = 256 << 10
MAX_ZSTD_WINDOW = 1 << 27
"""128 MiB: what ``zstd --long=27`` needs; larger windows are refused (they are memory, not data)."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

Read = Callable[[int], bytes]


class StreamError(Exception):
    """The stream is damaged, truncated, or grows beyond its bounds; the message says which."""


@dataclass(frozen=True)
class Bounds:
    """How far a stream may grow."""

    plain: int = 64 << 30
    """Bytes after decompression."""
    free_ratio: int = 1 << 30
    """Below this many plain bytes any ratio is accepted."""
    ratio: int = 100
    """Above, plain bytes for each compressed one."""

    def check(self, compressed: int, plain: int) -> None:
        """Raise StreamError once the figures are out of bounds."""
        if plain > self.plain:
            raise StreamError(f"layer unpacks to more than {self.plain} bytes")
        if plain > self.free_ratio and plain > compressed * self.ratio:
            raise StreamError(f"layer unpacks to more than {self.ratio} times its size")


class GrowingFile:
    """A file of a known final size that another process still appends to.

    ``wake_fd`` is a pipe: a byte in it means that the file may have grown, its end that nothing more comes.
    """

    def __init__(self, fd: int, size: int, wake_fd: int) -> None:
        self._fd = fd
        self._size = size
        self._wake_fd = wake_fd
        self._available = 0
        self.offset = 0

    def read(self, length: int) -> bytes:
        """Up to ``length`` bytes; empty at the end; blocks for more. Raises StreamError if cut off."""
        while self.offset >= self._available and self.offset < self._size:
            self._available = min(os.fstat(self._fd).st_size, self._size)
            if self.offset < self._available:
                break
            if not os.read(self._wake_fd, 4096):
                self._available = min(os.fstat(self._fd).st_size, self._size)
                if self.offset >= self._available:
                    raise StreamError("download was given up")
        data = os.pread(self._fd, min(length, self._available - self.offset), self.offset)
        self.offset += len(data)
        return data


def decompress(read: Read) -> Iterator[bytes]:
    """Chunks of at most ``CHUNK`` plain bytes, the format told by the first bytes as containerd does."""
    head = b""
    while len(head) < 4:
        more = read(READ)
        if not more:
            break
        head += more
    if head.startswith(GZIP_MAGIC):
        return _gunzip(head, read)
    if head.startswith(ZSTD_MAGIC) or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return _unzstd(head, read)
    return _plain(head, read)


def _plain(head: bytes, read: Read) -> Iterator[bytes]:
    while head:
        yield head
        head = read(CHUNK)


def _gunzip(head: bytes, read: Read) -> Iterator[bytes]:
    from isal import igzip_lib

    damaged = cast("type[Exception]", igzip_lib.IsalError)
    data = head
    while data:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        try:
            while not member.eof:
                chunk = member.decompress(data, CHUNK)
                if chunk:
                    yield chunk
                data = b""
                if member.needs_input and not member.eof:
                    data = read(READ)
                    if not data:
                        raise StreamError("gzip stream is truncated")
        except damaged as exc:
            raise StreamError(f"gzip stream is damaged: {exc}") from None
        data = _skip_padding(member.unused_data, read)


def _skip_padding(data: bytes, read: Read) -> bytes:
    """What follows a gzip member: the next one, or zeros to the end (tapes pad with them)."""
    data = data or read(READ)
    while data and not data.strip(b"\0"):
        data = read(READ)
    if data and not data.startswith(GZIP_MAGIC[: len(data)]):
        raise StreamError("gzip stream is followed by something else")
    return data


def _unzstd(head: bytes, read: Read) -> Iterator[bytes]:
    import zstandard

    class Source:
        def __init__(self) -> None:
            self.head = head

        def read(self, size: int = -1) -> bytes:
            data, self.head = self.head, b""
            return data or read(READ)

    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    try:
        with decompressor.stream_reader(
            cast("IO[bytes]", Source()), read_size=READ, read_across_frames=True
        ) as reader:
            while chunk := reader.read(CHUNK):
                yield chunk
    except zstandard.ZstdError as exc:
        raise StreamError(f"zstd stream is damaged: {exc}") from None


class HashedChunks:
    """Plain chunks made and hashed in a thread of their own; iterate, then ask for :attr:`digest`.

    Decompression and SHA-256 run without the interpreter lock, so they overlap with the extraction.
    """

    def __init__(self, source: GrowingFile, algorithm: str = "sha256", bounds: Bounds | None = None) -> None:
        self._source = source
        self._bounds = bounds or Bounds()
        self._hash = hashlib.new(algorithm)
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(QUEUE)
        self._stop = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.plain_size = 0

    def __iter__(self) -> Iterator[bytes]:
        self._thread.start()
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
        self._thread.join()

    @property
    def digest(self) -> str:
        """``ALGORITHM:HEX`` of all plain bytes; only right after the iteration ended."""
        return f"{self._hash.name}:{self._hash.hexdigest()}"

    def stop(self) -> None:
        """End the thread early; the iterator must not be used again."""
        self._stop = True
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _work(self) -> None:
        try:
            for chunk in decompress(self._source.read):
                self._hash.update(chunk)
                self.plain_size += len(chunk)
                self._bounds.check(self._source.offset, self.plain_size)
                self._queue.put(chunk)
                if self._stop:
                    return
            self._queue.put(None)
        except Exception as exc:
            self._queue.put(exc)

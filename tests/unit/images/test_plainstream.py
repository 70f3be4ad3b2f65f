"""Decompression: formats, damage, bombs, and blobs that are still arriving."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from minikubelet.images.plainstream import CHUNK, Bounds, GrowingFile, HashedChunks, StreamError, decompress

TEXT = b"some text that compresses " * 5000


def reader(data: bytes, step: int = 1 << 20) -> Callable[[int], bytes]:
    position = 0

    def read(length: int) -> bytes:
        nonlocal position
        part = data[position : position + min(length, step)]
        position += len(part)
        return part

    return read


def plain(data: bytes, step: int = 1 << 20) -> bytes:
    pieces = list(decompress(reader(data, step)))
    assert all(0 < len(piece) <= CHUNK for piece in pieces)
    return b"".join(pieces)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [TEXT, gzip.compress(TEXT), zstd(TEXT), gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:]),
     zstd(TEXT[:99]) + zstd(TEXT[99:]), gzip.compress(TEXT) + bytes(3000),
     b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd(TEXT),
     zstd(TEXT[:9]) + b"\x51\x2a\x4d\x18\x02\0\0\0xx" + zstd(TEXT[9:])],
    ids=["plain", "gzip", "zstd", "gzip members", "zstd frames", "gzip padding", "zstd skippable",
         "zstd between"],
)  # fmt: skip
def test_formats(data: bytes, step: int) -> None:
    assert plain(data, step) == TEXT


def test_empty_and_tiny() -> None:
    assert plain(b"") == b""
    assert plain(b"ab") == b"ab"
    assert plain(gzip.compress(b"")) == b""
    assert plain(zstd(b"")) == b""


def test_truncated_gzip() -> None:
    data = gzip.compress(random.Random(5).randbytes(300_000))
    for cut in (5, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(StreamError):
            plain(data[:cut])


def test_truncated_zstd_is_never_taken_for_the_whole() -> None:
    """The library doesn't tell; the DiffID does."""
    content = random.Random(5).randbytes(300_000)
    data = zstd(content)
    for cut in (5, 20, len(data) // 2, len(data) - 1):
        try:
            assert plain(data[:cut]) != content
        except StreamError:
            pass


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_damaged_streams(compress: Callable[[bytes], bytes]) -> None:
    source = random.Random(6)
    good = compress(source.randbytes(5000) + TEXT)
    for _ in range(300):
        data = bytearray(good)
        data[source.randrange(4, len(data))] ^= 1 << source.randrange(8)
        try:
            plain(bytes(data))
        except StreamError:
            pass


def test_gzip_with_something_behind() -> None:
    with pytest.raises(StreamError, match="followed"):
        plain(gzip.compress(TEXT) + b"garbage")
    with pytest.raises(StreamError, match="followed"):
        plain(gzip.compress(TEXT) + bytes(10) + b"garbage")


def test_huge_zstd_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(StreamError, match="zstd"):
        plain(data)


def test_raw_deflate_is_not_taken_for_gzip() -> None:
    assert plain(zlib.compress(b"abc")) == zlib.compress(b"abc")


def stream(tmp_path: Path, data: bytes, size: int | None = None) -> tuple[GrowingFile, int]:
    path = tmp_path / "blob"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    wake, feed = os.pipe()
    return GrowingFile(fd, len(data) if size is None else size, wake), feed


def test_digest_and_size(tmp_path: Path) -> None:
    source, _ = stream(tmp_path, gzip.compress(TEXT))
    hashed = HashedChunks(source)
    assert b"".join(hashed) == TEXT
    assert hashed.digest == "sha256:" + hashlib.sha256(TEXT).hexdigest()
    assert hashed.plain_size == len(TEXT)


def test_growing_file(tmp_path: Path) -> None:
    data = gzip.compress(random.Random(7).randbytes(3 << 20))
    source, feed = stream(tmp_path, b"", len(data))

    def arrive() -> None:
        with open(tmp_path / "blob", "ab", buffering=0) as file:
            for start in range(0, len(data), 100_000):
                file.write(data[start : start + 100_000])
                os.write(feed, b"\0")
        os.close(feed)

    thread = threading.Thread(target=arrive)
    thread.start()
    assert b"".join(HashedChunks(source)) == gzip.decompress(data)
    thread.join()


def test_download_that_is_given_up(tmp_path: Path) -> None:
    source, feed = stream(tmp_path, gzip.compress(TEXT)[:50], 10_000)
    os.close(feed)
    with pytest.raises(StreamError, match="given up"):
        list(HashedChunks(source))


def test_bytes_beyond_the_size_are_not_read(tmp_path: Path) -> None:
    source, _ = stream(tmp_path, b"abcdef", 3)
    assert b"".join(HashedChunks(source)) == b"abc"


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_bombs_stop_early(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    source, _ = stream(tmp_path, compress(bytes(64 << 20)))
    seen = 0
    with pytest.raises(StreamError, match="times its size"):
        for chunk in HashedChunks(source, bounds=Bounds(free_ratio=4 << 20, ratio=20)):
            seen += len(chunk)
    assert seen <= 5 << 20


def test_absolute_bound(tmp_path: Path) -> None:
    source, _ = stream(tmp_path, bytes(8 << 20))
    with pytest.raises(StreamError, match="more than 3000000 bytes"):
        list(HashedChunks(source, bounds=Bounds(plain=3_000_000)))


def test_stop_ends_the_thread(tmp_path: Path) -> None:
    source, _ = stream(tmp_path, gzip.compress(bytes(64 << 20)))
    hashed = HashedChunks(source)
    next(iter(hashed))
    hashed.stop()
    assert not any(thread.name.startswith("Thread") and thread.is_alive() for thread in [hashed._thread])

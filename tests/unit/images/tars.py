"""Tar archives written byte by byte, so that they can be wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from minikubelet.images.extract import Report, extract

BLOCK = 512


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: bytes | int = 0,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    major: bytes = b"0000000\0",
    minor: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    prefix: bytes = b"",
) -> bytes:
    """One header block; fields as raw bytes."""
    length = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(
        name.ljust(100, b"\0")[:100] + mode + uid + b"0000000\0" + length + mtime + b" " * 8 + kind
        + link.ljust(100, b"\0")[:100] + magic + bytes(64) + major + minor + prefix.ljust(155, b"\0")
    )  # fmt: skip
    block += bytes(BLOCK - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pad(data: bytes) -> bytes:
    """``data`` in whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: bytes) -> bytes:
    """A regular file."""
    return header(name, size=len(data), **fields) + pad(data)


def directory(name: bytes) -> bytes:
    return header(name, kind=b"5", mode=b"0000755\0")


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, kind=b"2", link=target)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, kind=b"1", link=target)


def record(key: bytes, value: bytes) -> bytes:
    """One pax record with its length right."""
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest)
    while len(b"%d" % size) + len(rest) != size:
        size = len(b"%d" % size) + len(rest)
    return b"%d" % size + rest


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    """A pax header with these records."""
    return header(b"pax", kind=kind, size=len(records)) + pad(records)


END = bytes(1024)


def chunks(data: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def unpack(data: bytes, folder: Path, size: int = 1 << 20) -> Report:
    """Extract ``data``, fed in pieces of ``size``, into ``folder``."""
    folder.mkdir(exist_ok=True)
    fd = os.open(folder, os.O_PATH)
    try:
        return extract(chunks(data, size), fd)
    finally:
        os.close(fd)


def listing(folder: Path) -> dict[str, str]:
    """What is under ``folder``: a letter for the kind, and content or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"l {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "d"
        elif path.is_file():
            found[name] = f"f {path.read_bytes().decode('utf-8', 'replace')}"
        else:
            found[name] = "c" if path.is_char_device() else "?"
    return found

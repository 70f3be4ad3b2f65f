"""Tar headers: ustar, GNU long names, pax. Bytes in, :class:`Entry` out; no file is touched here.

Sources: POSIX.1-2024 pax(1), tar(5) of libarchive, and for what is ambiguous Go's archive/tar, which
made and unpacks most images. Sparse files are refused (no image builder writes them).
"""

from __future__ import annotations

import base64
import functools
import re
import struct
import urllib.parse
from collections.abc import Callable

BLOCK = 512
MAX_EXTENSION = 1 << 20
"""Bytes of one pax header or GNU long name."""
MAX_XATTRS = 256
MAX_ID = (1 << 32) - 2
"""Largest uid or gid; the next one means "leave it" to chown(2)."""
MAX_TIME = 1 << 33
"""Seconds; what lies outside becomes the epoch (ext4 ends in 2446)."""

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_HEADER_ONLY = frozenset({HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO})
_KNOWN = _HEADER_ONLY | {REGULAR}
_ZEROS = bytes(BLOCK)
_PAX_TIME = re.compile(rb"(-?)(\d{1,18})(?:\.(\d*))?\Z")

ReadExact = Callable[[int], bytes]


class TarError(Exception):
    """The archive is malformed or holds what is not supported; the message says what."""


class Entry:
    """One member. ``name`` and ``linkname`` are raw bytes as the archive has them."""

    __slots__ = (
        "gid",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self) -> None:
        self.name = b""
        self.linkname = b""
        self.type = REGULAR
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.mtime_ns = 0
        self.major = 0
        self.minor = 0
        self.xattrs: dict[str, bytes] | None = None


@functools.lru_cache(maxsize=4096)
def number(field: bytes) -> int:
    """A numeric field: octal text, or base 256 where the top bit is set (GNU). Raises TarError."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        value -= 1 << (bits - 1)
        if field[0] & 0x40:
            value -= 1 << (bits - 1)
        return value
    text = field.strip(b" \0")
    if not text:
        return 0
    text = text.partition(b"\0")[0].rstrip(b" ")
    if not text.isdigit():
        raise TarError(f"bad number {field[:16]!r} in a header")
    try:
        return int(text, 8)
    except ValueError:
        raise TarError(f"bad number {field[:16]!r} in a header") from None


class HeaderReader:
    """Reads entries one after the other; the caller consumes ``entry.size`` bytes and padding in between."""

    def __init__(self, read: ReadExact) -> None:
        """``read(n)`` returns exactly n bytes, or empty bytes at the end of the stream."""
        self._read = read

    def next(self) -> Entry | None:
        """The next entry; None at the end of the archive. Raises TarError."""
        pax: dict[bytes, bytes] | None = None
        long_name: bytes | None = None
        long_link: bytes | None = None
        while True:
            block = self._read(BLOCK)
            if not block or block == _ZEROS:
                if pax is not None or long_name is not None or long_link is not None:
                    raise TarError("archive ends after an extension header")
                return None
            fields = _HEADER.unpack(block)
            kind = fields[7]
            _verify(block, fields[6])
            if kind == b"x":
                pax = parse_pax(self._extension(fields[4]))
            elif kind == b"g":
                self._extension(fields[4])
            elif kind == b"L":
                long_name = self._extension(fields[4]).partition(b"\0")[0]
            elif kind == b"K":
                long_link = self._extension(fields[4]).partition(b"\0")[0]
            else:
                entry = _entry(fields)
                if long_name is not None:
                    entry.name = long_name
                if long_link is not None:
                    entry.linkname = long_link
                if pax:
                    _apply_pax(entry, pax)
                return _checked(entry)

    def _extension(self, size_field: bytes) -> bytes:
        size = number(size_field)
        if not 0 <= size <= MAX_EXTENSION:
            raise TarError(f"an extension header of {size} bytes")
        if not size:
            return b""
        data = self._read(-(-size // BLOCK) * BLOCK)
        if not data:
            raise TarError("archive is truncated")
        return data[:size]


def _verify(block: bytes, field: bytes) -> None:
    """The checksum counts its own field as blanks; some old writers summed signed bytes."""
    expected = number(field)
    total = sum(block) - sum(block[148:156]) + 256
    if total != expected:
        high = sum(1 for byte in block[:148] + block[156:] if byte > 127)
        if total - 256 * high != expected:
            raise TarError("header checksum is wrong")


def _entry(fields: tuple[bytes, ...]) -> Entry:
    (name, mode, uid, gid, size, mtime, _, kind, link, magic, _, _, major, minor, prefix) = fields
    entry = Entry()
    entry.name = name.partition(b"\0")[0]
    entry.linkname = link.partition(b"\0")[0]
    entry.type = REGULAR if kind in (b"\0", b"7") else kind
    entry.mode = number(mode) & 0o7777
    entry.uid = number(uid)
    entry.gid = number(gid)
    entry.size = number(size)
    entry.mtime_ns = number(mtime) * 1_000_000_000
    if magic[:6] == b"ustar\0" and prefix[0]:
        entry.name = prefix.partition(b"\0")[0] + b"/" + entry.name
    if kind in (b"3", b"4"):
        entry.major = number(major)
        entry.minor = number(minor)
    return entry


def _checked(entry: Entry) -> Entry:
    kind = entry.type
    if kind == REGULAR and entry.name.endswith(b"/"):
        entry.type = kind = DIRECTORY  # the V7 way to say so
    if kind not in _KNOWN:
        word = "sparse file" if kind == b"S" else f"entry of type {kind!r}"
        raise TarError(f"{word} {_show(entry.name)} is not supported")
    if kind in _HEADER_ONLY:
        entry.size = 0  # as Go's archive/tar: such entries have no data, whatever the field says
    if entry.size < 0:
        raise TarError(f"{_show(entry.name)} has the negative size {entry.size}")
    if not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
        raise TarError(f"{_show(entry.name)} has the impossible owner {entry.uid}:{entry.gid}")
    if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
        raise TarError(f"{_show(entry.name)} has the impossible device number {entry.major}:{entry.minor}")
    if not -MAX_TIME < entry.mtime_ns // 1_000_000_000 < MAX_TIME:
        entry.mtime_ns = 0
    return entry


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Records ``LENGTH KEY=VALUE\\n`` of a pax header; the last of equal keys counts. Raises TarError."""
    records: dict[bytes, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        blank = data.find(b" ", position, position + 9)
        digits = data[position:blank] if blank > 0 else b""
        if not digits.isdigit():
            raise TarError("a pax record has no length")
        stop = position + int(digits)
        equals = data.find(b"=", blank, stop)
        if stop > end or stop <= blank + 1 or data[stop - 1] != 0x0A or equals < 0:
            raise TarError("a pax record is malformed")
        records[data[blank + 1 : equals]] = data[equals + 1 : stop - 1]
        position = stop
    return records


def _apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    xattrs: dict[str, bytes] = {}
    for key, value in pax.items():
        if key == b"path":
            entry.name = _pax_path(value)
        elif key == b"linkpath":
            entry.linkname = _pax_path(value)
        elif key == b"size":
            entry.size = _pax_number(value)
        elif key == b"uid":
            entry.uid = _pax_number(value)
        elif key == b"gid":
            entry.gid = _pax_number(value)
        elif key == b"mtime":
            entry.mtime_ns = _pax_time(value)
        elif key.startswith(b"SCHILY.xattr."):
            xattrs[_xattr_name(key[13:])] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            name = _xattr_name(urllib.parse.unquote_to_bytes(key[17:]))
            xattrs.setdefault(name, _base64(value))
        elif key.startswith(b"GNU.sparse."):
            raise TarError(f"sparse file {_show(entry.name)} is not supported")
    if len(xattrs) > MAX_XATTRS:
        raise TarError(f"{_show(entry.name)} has more than {MAX_XATTRS} extended attributes")
    entry.xattrs = xattrs or None


def _pax_path(value: bytes) -> bytes:
    if b"\0" in value:
        raise TarError(f"a name with a NUL byte: {_show(value)}")
    return value


def _pax_number(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise TarError(f"bad number {value[:32]!r} in a pax header")
    return int(value)


def _pax_time(value: bytes) -> int:
    match = _PAX_TIME.match(value)
    if not match:
        raise TarError(f"bad time {value[:32]!r} in a pax header")
    fraction = (match[3] or b"")[:9].ljust(9, b"0")
    total = int(match[2]) * 1_000_000_000 + int(fraction)
    return -total if match[1] else total


def _xattr_name(name: bytes) -> str:
    if not name or len(name) > 255 or b"\0" in name:
        raise TarError(f"bad extended attribute name {name[:64]!r}")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise TarError(f"bad extended attribute name {name[:64]!r}") from None


def _base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except ValueError:
        raise TarError("a LIBARCHIVE.xattr value is not base64") from None


def _show(name: bytes) -> str:
    return repr(name[:200].decode("utf-8", "backslashreplace"))

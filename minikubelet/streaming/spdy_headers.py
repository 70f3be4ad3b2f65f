"""SPDY/3.1 header blocks: name/value pairs behind zlib with a preset dictionary.

Layout and dictionary: SPDY Protocol Draft 3.1, section 2.6.10. One compressor and one decompressor
serve all blocks of a connection, in order.
"""

from __future__ import annotations

import struct
import zlib

MAX_BLOCK = 64 * 1024
"""Most bytes one decompressed block may have; Kubernetes' headers need some hundred."""

_WORDS = (
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
)
_TAIL_WORDS = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = b"".join(struct.pack(">I", len(word)) + word.encode() for word in (*_WORDS, *_TAIL_WORDS))
    return words + _TAIL.encode()


DICTIONARY = _dictionary()


class HeaderError(ValueError):
    """A header block that breaks the format or its limits."""


class HeaderEncoder:
    """Compresses header blocks of one direction."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(level=6, wbits=11, memLevel=5, zdict=DICTIONARY)

    def encode(self, headers: dict[str, str]) -> bytes:
        """One block; names are lower-cased as the protocol wants."""
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts.append(struct.pack(">I", len(text)) + text)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderDecoder:
    """Decompresses header blocks of one direction; bounded by :data:`MAX_BLOCK`."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def decode(self, block: bytes) -> dict[str, str]:
        """The headers of one block; values joined by NUL stay as they are. Raises :class:`HeaderError`."""
        try:
            plain = self._zlib.decompress(block, MAX_BLOCK)
        except zlib.error as exc:
            raise HeaderError(f"header block: {exc}") from exc
        if self._zlib.unconsumed_tail:
            raise HeaderError(f"header block over {MAX_BLOCK} bytes")
        return _parse(plain)


def _parse(plain: bytes) -> dict[str, str]:
    try:
        (count,) = struct.unpack_from(">I", plain, 0)
        position = 4
        headers: dict[str, str] = {}
        for _ in range(count):
            name, position = _text(plain, position)
            value, position = _text(plain, position)
            if not name or name in headers:
                raise HeaderError(f"header name {name!r} is empty or repeated")
            headers[name] = value
    except (struct.error, UnicodeDecodeError) as exc:
        raise HeaderError(f"header block: {exc}") from exc
    return headers


def _text(plain: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", plain, position)
    end = position + 4 + length
    if end > len(plain):
        raise HeaderError("header block ends inside a string")
    return plain[position + 4 : end].decode(), end

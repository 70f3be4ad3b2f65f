"""A reader of one HTTP/1.x response, with hard limits: enough for probes and hooks, nothing more."""

from __future__ import annotations

BODY_LIMIT = 10 * 1024
"""Bytes of a body that are kept; upstream's limit for probes."""
HEAD_LIMIT = 256 * 1024


class BadResponse(Exception):
    """What came is not an HTTP/1.x response."""


class ResponseReader:
    """Fed with bytes as they come; ``done`` once nothing more is needed."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.done = False
        self._buffer = b""
        self._in_body = False
        self._chunked = False
        self._chunk = 0
        self._remaining: int | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises BadResponse."""
        self._buffer += data
        while not self._in_body:
            end, gap = self._head_end()
            if end < 0:
                if len(self._buffer) > HEAD_LIMIT:
                    raise BadResponse("response headers exceed the limit")
                if len(self._buffer) >= 5 and not self._buffer.startswith(b"HTTP/"):
                    raise BadResponse(_malformed("response", self._buffer))
                return
            head, self._buffer = self._buffer[:end], self._buffer[end + gap :]
            self._parse_head(head)
        self._feed_body()

    def finish(self) -> None:
        """The peer closed. Raises EOFError when the response isn't complete, as Go's client does."""
        if self.done:
            return
        if not self._in_body or self._chunked or self._remaining is not None:
            raise EOFError("unexpected EOF" if self._in_body or self._buffer else "EOF")
        self.done = True

    @property
    def has_head(self) -> bool:
        """Whether status and headers are there."""
        return self._in_body

    def _head_end(self) -> tuple[int, int]:
        end = self._buffer.find(b"\r\n\r\n")
        bare = self._buffer.find(b"\n\n")
        if bare >= 0 and (end < 0 or bare < end):
            return bare, 2
        return end, 4

    def _parse_head(self, head: bytes) -> None:
        lines = head.decode("latin-1").splitlines()
        self.status = _status(lines[0] if lines else "")
        self.headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadResponse(_malformed("MIME header line", line.encode("latin-1")))
            self.headers.setdefault(name.lower(), value.strip())
        if 100 <= self.status < 200:
            if self.status == 101:
                raise BadResponse("unexpected 101 Switching Protocols")
            return
        self._in_body = True
        self._frame()

    def _frame(self) -> None:
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self._chunked, self._remaining = False, 0
        elif not self._chunked and length is not None:
            if not (length.isascii() and length.isdigit()):
                raise BadResponse(f"bad Content-Length {length!r}")
            self._remaining = int(length)

    def _feed_body(self) -> None:
        if self._chunked:
            self._feed_chunks()
        else:
            data, self._buffer = self._buffer, b""
            if self._remaining is not None:
                data = data[: self._remaining]
                self._remaining -= len(data)
            self.body += data[: BODY_LIMIT - len(self.body)]
            self.done = self._remaining == 0
        # More than the limit is cut off without an error, and the connection with it.
        self.done = self.done or len(self.body) >= BODY_LIMIT

    def _feed_chunks(self) -> None:
        while not self.done and len(self.body) < BODY_LIMIT:
            if self._chunk == 0:
                line, newline, rest = self._buffer.partition(b"\n")
                if not newline:
                    if len(line) > 4096:
                        raise BadResponse("chunk line too long")
                    return
                self._buffer = rest
                size = _chunk_size(line)
                if size == 0:
                    self.done = True
                    return
                self._chunk = size + 2
            data = self._buffer[: self._chunk]
            if not data:
                return
            self._buffer = self._buffer[len(data) :]
            # The last two bytes of a chunk are its line end.
            self.body += data[: max(self._chunk - 2, 0)]
            self._chunk -= len(data)
        self.body = self.body[:BODY_LIMIT]


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";")[0].strip()
    try:
        if not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise ValueError
        return int(digits, 16)
    except ValueError:
        raise BadResponse(_malformed("chunk size", line)) from None


def _status(line: str) -> int:
    version, _, rest = line.partition(" ")
    code = rest.split(" ")[0]
    if not version.startswith("HTTP/1.") or len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise BadResponse(_malformed("response", line.encode("latin-1")))
    return int(code)


def _malformed(what: str, data: bytes) -> str:
    shown = data[:60].decode("latin-1").encode("unicode_escape").decode("ascii")
    return f'malformed HTTP {what} "{shown}"'

"""Text in double quotes as Go writes it (strconv.Quote)."""

from __future__ import annotations

_SHORT = {
    "\\": "\\\\",
    '"': '\\"',
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str) -> str:
    """``text`` in quotes; what can't be printed is escaped."""
    return '"' + "".join(_SHORT.get(char) or _shown(char) for char in text) + '"'


def _shown(char: str) -> str:
    code = ord(char)
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte that is no UTF-8, as os.fsdecode makes it
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

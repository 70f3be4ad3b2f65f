"""Go's literals: quoted strings and characters, there and back, and numbers (Go's strconv)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from minikubelet.cli.go_template.values import decoded, encoded

_LETTERS = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_SHORT = {chr(code): letter for letter, code in _LETTERS.items()}
_ESCAPE = re.compile(
    r"\\(?:x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<o>[0-7]{3})|(?P<c>[abfnrtv\\'\"]))"
)
_WHOLE = re.compile(r"([+-]?)(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0)\Z")
_FLOAT = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?\Z")
_HEX_FLOAT = re.compile(r"([+-]?)0[xX]([0-9a-fA-F_]*)\.?([0-9a-fA-F_]*)[pP]([+-]?[0-9]+)\Z")
_LONE_UNDERSCORE = re.compile(r"(?<![0-9a-fA-FxXbBoO_])_|__|_(?![0-9a-fA-F])")


def unquote(text: str) -> str:
    """The string that a literal in ``"`` or backquotes means. Raises ValueError."""
    if text[0] == "`":
        return text[1:-1].replace("\r", "")
    return decoded(b"".join(_units(text[1:-1], '"')))


def unquote_char(text: str) -> int:
    """The code of ``'x'``. Raises ValueError."""
    inside = text[1:-1]
    if not inside or inside == "'":
        raise ValueError("invalid syntax")
    match = _ESCAPE.match(inside)
    if len(inside) != (match.end() if match else 1):
        raise ValueError(
            f"malformed character constant: {text}" if match or inside[0] != "\\" else "invalid syntax"
        )
    if match is None and inside != "\\":
        return ord(inside)
    if match is not None and (code := match["x"] or match["o"]):
        return _code(code, 16 if match["x"] else 8, 255)
    return ord(decoded(b"".join(_units(inside, "'"))))


def _units(inside: str, quote: str) -> list[bytes]:
    """The bytes of a literal's pieces."""
    found, at = [], 0
    while at < len(inside):
        if inside[at] != "\\":
            found.append(encoded(inside[at]))
            at += 1
            continue
        match = _ESCAPE.match(inside, at)
        if match is None or (match["c"] in ("'", '"') and match["c"] != quote):
            raise ValueError("invalid syntax")
        at = match.end()
        if code := match["x"] or match["o"]:
            found.append(bytes([_code(code, 16 if match["x"] else 8, 255)]))
        elif code := match["u"] or match["U"]:
            found.append(encoded(chr(_code(code, 16, 0x10FFFF))))
        else:
            found.append(bytes([_LETTERS.get(match["c"]) or ord(match["c"])]))
    return found


def _code(digits: str, base: int, most: int) -> int:
    code = int(digits, base)
    if code > most or (most > 255 and 0xD800 <= code < 0xE000):
        raise ValueError("invalid syntax")
    return code


def quote(text: str, mark: str = '"', *, ascii_only: bool = False) -> str:
    """A literal for the string, as Go's ``%q`` writes it."""
    return mark + "".join(_escaped(each, mark, ascii_only) for each in text) + mark


def _escaped(char: str, mark: str, ascii_only: bool) -> str:
    code = ord(char)
    if char in (mark, "\\"):
        return f"\\{char}"
    if char.isprintable() and not (ascii_only and code > 126):
        return char
    if char in _SHORT:
        return f"\\{_SHORT[char]}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def can_backquote(text: str) -> bool:
    """Whether it may stand between backquotes as it is."""
    return not re.search("[\0-\x08\x0a-\x1f`\x7f\ufeff\udc80-\udcff]", text)


def unicode_name(char: str) -> str:
    """``U+0040 '@'``, as ``%#U`` has it."""
    return f"U+{ord(char):04X}" + (f" '{char}'" if char.isprintable() else "")


@dataclass(frozen=True)
class Number:
    """What a number can be taken for; None for what it can't."""

    whole: int | None
    """Also above int64."""
    fraction: float | None
    imaginary: complex | None = None


def number(text: str) -> Number:
    """A number's value. Raises ValueError with Go's words."""
    if text.endswith("i"):
        return Number(None, None, _complex(text))
    whole = _whole(text)
    if whole is not None and -(1 << 63) <= whole < 1 << 64:
        return Number(whole, float(whole))
    fraction = _float(text)
    if fraction is None:
        raise ValueError(f"illegal number syntax: {quote(text)}")
    if not re.search("[.eEpP]", text):
        raise ValueError(f"integer overflow: {quote(text)}")
    whole = int(fraction) if fraction.is_integer() and abs(fraction) < 1 << 63 else None
    return Number(whole, fraction)


def _whole(text: str) -> int | None:
    match = _WHOLE.match(text)
    if match is None or _LONE_UNDERSCORE.search(text):
        return None
    digits = match[2].lower().replace("_", "")
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if digits[0] == "0" else 10)
    value = int(digits[2:] if digits[1:2].isalpha() else digits, base)
    return -value if match[1] == "-" else value


def _float(text: str) -> float | None:
    if _LONE_UNDERSCORE.search(text):
        return None
    try:
        if match := _HEX_FLOAT.match(text):
            return float.fromhex(f"{match[1]}0x{match[2]}.{match[3]}p{match[4]}".replace("_", ""))
        value = float(text.replace("_", "")) if _FLOAT.match(text) else None
    except (ValueError, OverflowError):
        return None
    return None if value in (float("inf"), float("-inf")) else value


def _complex(text: str) -> complex:
    """``1+2i``, ``2i``."""
    split = max(text.rfind("+"), text.rfind("-"))
    if split > 0 and text[split - 1] in "eEpP":
        split = max(text.rfind("+", 0, split), text.rfind("-", 0, split))
    real = _float(text[:split]) if split > 0 else 0.0
    imaginary = _float(text[max(split, 0) : -1])
    if real is None or imaginary is None:
        raise ValueError(
            "syntax error scanning complex number" if split > 0 else f"illegal number syntax: {quote(text)}"
        )
    return complex(real, imaginary)

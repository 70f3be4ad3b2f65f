"""How Go prints values: ``%v`` and the other verbs (Go's fmt), with flags, width and precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from minikubelet.cli.go_template import quoting
from minikubelet.cli.go_template.values import Byte, encoded, is_whole, type_of

_REPLACEMENT = "\ufffd"
_BASES = {"v": "d", "d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}


@dataclass(frozen=True)
class Layout:
    """What stands between ``%`` and the verb."""

    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None
    literal: bool = False
    """``%#v``: as Go's source has it."""

    def pad(self, text: str, *, zeros: bool = True) -> str:
        """As wide as asked for."""
        missing = (self.width or 0) - len(text)
        if missing <= 0:
            return text
        if self.minus:
            return text + " " * missing
        return ("0" if self.zero and zeros else " ") * missing + text


_PLAIN = Layout()


def text_of(value: Any) -> str:
    """As ``{{.}}`` shows it; None for nil."""
    return formatted(value, "v", _PLAIN)


def formatted(value: Any, verb: str, layout: Layout) -> str:
    """One value by one verb; a verb that isn't the value's is said in the text, as in Go."""
    if value is None:
        return layout.pad("<nil>") if verb in "Tv" else f"%!{verb}(<nil>)"
    if verb == "w":  # is for errors
        return _bad(value, verb, layout)
    if verb == "T":
        return layout.pad(_cut(type_of(value), layout))
    found: str | None
    if isinstance(value, dict | list):
        return _collection(value, verb, layout) if verb != "p" else _bad(value, verb, layout)
    if isinstance(value, bool):
        found = layout.pad("true" if value else "false") if verb in "tv" else None
    elif is_whole(value):
        found = _whole(value, verb, layout)
    elif isinstance(value, float):
        found = _fraction(value, verb, layout)
    elif isinstance(value, complex):
        found = _complex(value, verb, layout)
    else:
        found = _string(value, verb, layout)
    return found if found is not None else _bad(value, verb, layout)


def _bad(value: Any, verb: str, layout: Layout) -> str:
    return f"%!{verb}({type_of(value)}={formatted(value, 'v', layout)})"


def _collection(value: dict[str, Any] | list[Any], verb: str, layout: Layout) -> str:
    if isinstance(value, dict):
        each = [f"{formatted(key, verb, layout)}:{_item(value[key], verb, layout)}" for key in sorted(value)]
        return f"{type_of(value)}{{{', '.join(each)}}}" if layout.literal else f"map[{' '.join(each)}]"
    each = [_item(item, verb, layout) for item in value]
    return f"{type_of(value)}{{{', '.join(each)}}}" if layout.literal else f"[{' '.join(each)}]"


def _item(value: Any, verb: str, layout: Layout) -> str:
    if value is None:
        return "interface {}(nil)" if layout.literal else "<nil>"
    return formatted(value, verb, layout)


def _cut(text: str, layout: Layout) -> str:
    return text if layout.precision is None else text[: layout.precision]


def _string(text: str, verb: str, layout: Layout) -> str | None:
    if verb in "xX":
        return _hex_bytes(encoded(text), verb, layout)
    text = _cut(text, layout)
    if verb == "q" or (verb == "v" and layout.literal):
        if layout.sharp and quoting.can_backquote(text):
            return layout.pad(f"`{text}`")
        return layout.pad(quoting.quote(text, ascii_only=layout.plus))
    return layout.pad(text) if verb in "sv" else None


def _hex_bytes(text: bytes, verb: str, layout: Layout) -> str:
    prefix = _PREFIXES[verb] if layout.sharp else ""
    digits = [f"{each:02{verb}}" for each in text[: layout.precision]]
    if not digits:
        return layout.pad("")
    return layout.pad(
        " ".join(prefix + each for each in digits) if layout.space else prefix + "".join(digits)
    )


def _whole(value: int, verb: str, layout: Layout) -> str | None:
    if verb in "cqU":
        return _character(value, verb, layout)
    if isinstance(value, Byte) and verb == "v" and layout.literal:
        verb, layout = "x", replace(layout, sharp=True)
    if verb not in _BASES:
        return None
    sign = "-" if value < 0 else "+" if layout.plus else " " if layout.space else ""
    if layout.precision == 0 and not value:
        return layout.pad("", zeros=False)
    digits = format(abs(value), _BASES[verb])
    if layout.precision is not None:
        digits = digits.zfill(layout.precision)
    elif layout.zero and not layout.minus and layout.width is not None:
        digits = digits.zfill(layout.width - len(sign))
    prefix = "0o" if verb == "O" else ""
    if layout.sharp:
        prefix += ("0" if digits[0] != "0" else "") if verb in "oO" else _PREFIXES.get(verb, "")
    return layout.pad(f"{sign}{prefix}{digits}", zeros=False)


def _character(value: int, verb: str, layout: Layout) -> str:
    char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else _REPLACEMENT
    if verb == "q":
        return layout.pad(quoting.quote(char, "'", ascii_only=layout.plus))
    if verb == "c":
        return layout.pad(char)
    digits = f"U+{value % (1 << 64):0{max(layout.precision or 4, 4)}X}"
    if layout.sharp and 0 <= value <= 0x10FFFF and char.isprintable():
        digits += f" '{char}'"
    return layout.pad(digits, zeros=False)


def _fraction(value: float, verb: str, layout: Layout) -> str | None:
    if verb not in "vbgGxXfFeE":
        return None
    verb = "g" if verb == "v" else verb
    shown = _digits(abs(value), verb, layout.precision)
    negative = math.copysign(1, value) < 0
    if math.isinf(value):
        return layout.pad(
            ("-" if negative else " " if layout.space and not layout.plus else "+") + "Inf", zeros=False
        )
    if layout.sharp and verb != "b":
        shown = _with_point(shown, verb, layout.precision)
    sign = "-" if negative else "+" if layout.plus else " " if layout.space else ""
    if sign and layout.zero and not layout.minus and layout.width is not None:
        shown = shown.rjust(layout.width - 1, "0")
    return layout.pad(sign + shown)


def _digits(value: float, verb: str, precision: int | None) -> str:
    """Of a positive number, the fewest that tell it from others where no precision is asked for."""
    if math.isinf(value):
        return "Inf"
    if verb in "fFeE":
        return format(value, f".{6 if precision is None else precision}{verb}")
    if verb in "xX":
        shown = _hex_fraction(value, precision)
        return shown if verb == "x" else shown.upper()
    if verb == "b":
        exponent = max(math.frexp(value)[1] - 53, -1074) if value else -1074
        return f"{int(math.ldexp(value, -exponent))}p{exponent:+d}"
    if precision is not None:
        return format(value, f".{precision}{verb}")
    digits = repr(value).partition("e")[0].replace(".", "").strip("0") or "0"
    short = format(value, f".{len(digits) - 1}e")
    exponent = int(short.partition("e")[2])
    if -4 <= exponent < 6:
        return format(value, f".{max(len(digits) - 1 - exponent, 0)}f")
    return short if verb == "g" else short.upper()


def _with_point(shown: str, verb: str, precision: int | None) -> str:
    """``%#g``: with a point, and the zeros that ``%g`` leaves out."""
    mark = next((each for each in ("p", "P", *("" if verb in "xX" else "eE")) if each and each in shown), "")
    number, tail = shown, ""
    if mark:
        number, _, tail = shown.partition(mark)
    wanted = (6 if precision is None else precision) if verb in "gGx" else 0
    significant = number.replace(".", "").lstrip("0")
    missing = wanted - len(significant)
    if "." not in number:
        missing -= number == "0"
        number += "."
    return number + "0" * max(missing, 0) + (mark + tail if mark else "")


def _hex_fraction(value: float, precision: int | None) -> str:
    mantissa, exponent = math.frexp(value)
    whole, exponent = int(math.ldexp(mantissa, 53)), exponent - 1 if value else 0
    if precision is not None and precision < 13:
        drop = 52 - 4 * precision
        whole = (whole + (1 << (drop - 1)) - 1 + (whole >> drop & 1)) >> drop << drop
        if whole >> 53:
            whole, exponent = whole >> 1, exponent + 1
    digits = f"{whole & ((1 << 52) - 1):013x}"
    digits = digits.rstrip("0") if precision is None else digits[:precision].ljust(precision, "0")
    return f"0x{whole >> 52}{'.' if digits else ''}{digits}p{exponent:+03d}"


def _complex(value: complex, verb: str, layout: Layout) -> str | None:
    real = _fraction(value.real, verb, layout)
    imaginary = _fraction(value.imag, verb, replace(layout, plus=True))
    return None if real is None or imaginary is None else f"({real}{imaginary}i)"

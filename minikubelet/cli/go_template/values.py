"""What Go's templates compute with: the values of an object's JSON, with the types that Go has for them.

A whole number is Python's ``int`` if it comes from the object (Go's int64), :class:`Int` if it is the
template's own, and :class:`Byte` if it was cut out of a string. Strings are bytes in Go: those that aren't
UTF-8 are kept as Python does it (``surrogateescape``).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any

from minikubelet.cli.options import CommandError

MOST_LETTERS = 1 << 26
"""Of what a template makes, and of each text on the way there."""


_SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON has it; Go's strings don't."""


class Absence(enum.Enum):
    """Values that are none."""

    ABSENT = "what a key that isn't there has (reflect's zero Value)"
    MISSING = "an argument that wasn't given"


ABSENT = Absence.ABSENT
MISSING = Absence.MISSING


class Int(int):
    """Go's ``int``: numbers in templates, indexes, lengths."""


class Byte(int):
    """Go's ``uint8``."""


@dataclass(frozen=True, slots=True)
class Held:
    """A value as a map or list holds it, of type ``interface {}``: it may be None."""

    value: Any


class Fault(Exception):
    """What a template can't do with a value."""


def loose(value: Any) -> Any:
    """What is in a :class:`Held`; ABSENT for None."""
    if isinstance(value, Held):
        value = value.value
    return ABSENT if value is None else value


def as_argument(value: Any) -> Any:
    """As it is given to a function that takes anything: None for what is absent."""
    value = loose(value)
    return None if value is ABSENT else value


def of_object(value: Any) -> Any:
    """An object's JSON, numbers as kubectl reads them: int64 where they are whole and fit, else float64."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {of_object(key): of_object(each) for key, each in value.items()}
    if isinstance(value, list):
        return [of_object(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        value = int(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    return value


def type_of(value: Any) -> str:
    """The name of a value's type in Go."""
    if isinstance(value, Held):
        return "interface {}"
    if isinstance(value, Int):
        return "int"
    if isinstance(value, Byte):
        return "uint8"
    names = {
        bool: "bool",
        int: "int64",
        float: "float64",
        complex: "complex128",
        str: "string",
        dict: "map[string]interface {}",
        list: "[]interface {}",
    }
    return names[type(value)]


def is_whole(value: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_true(value: Any) -> bool:
    """Whether it isn't the zero of its type."""
    value = loose(value)
    return value is not ABSENT and bool(value)


def encoded(text: str) -> bytes:
    """Its bytes."""
    return text.encode("utf-8", "surrogateescape")


def decoded(text: bytes) -> str:
    """The string of these bytes."""
    return text.decode("utf-8", "surrogateescape")


class Pieces:
    """Text that is put together. Raises CommandError once it is too long."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._left = MOST_LETTERS

    def add(self, piece: str) -> None:
        """Append."""
        self._left -= len(piece)
        if self._left < 0:
            raise CommandError(f"the template makes more than {MOST_LETTERS >> 20} MiB of text")
        self._pieces.append(piece)

    def text(self) -> str:
        """All of it."""
        return decoded(encoded("".join(self._pieces)))

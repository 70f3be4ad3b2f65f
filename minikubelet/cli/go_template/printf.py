"""``print``, ``println`` and ``printf`` (Go's fmt): what follows ``%``, and which argument it is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from minikubelet.cli.go_template.printing import Layout, formatted, text_of
from minikubelet.cli.go_template.values import Pieces, is_whole, type_of

_FLAGS = re.compile(r"[#0+\- ]*")
_PLAIN = re.compile(r"[^%]+")
_INDEX = re.compile(r"\[([^]]*)\]")
_DIGITS = re.compile(r"[0-9]+")
_MOST = 1_000_000
"""As width and precision."""


def sprint(values: Sequence[Any]) -> str:
    """One after the other, with spaces between those that aren't strings."""
    pieces = Pieces()
    after_string = True
    for value in values:
        is_string = isinstance(value, str)
        pieces.add(("" if is_string or after_string else " ") + text_of(value))
        after_string = is_string
    return pieces.text()


def sprintln(values: Sequence[Any]) -> str:
    """One after the other, with spaces between them and a newline at the end."""
    pieces = Pieces()
    for index, value in enumerate(values):
        pieces.add((" " if index else "") + text_of(value))
    return pieces.text() + "\n"


def sprintf(form: str, values: Sequence[Any]) -> str:
    """What is wrong with verbs and values is said in the text, as in Go."""
    return _Printf(form, values).run()


class _Printf:
    def __init__(self, form: str, values: Sequence[Any]) -> None:
        self._form = form
        self._values = values
        self._at = 0
        self._next = 0
        """The index of the next value."""
        self._reordered = False
        self._good = True
        """Whether the numbers of values in this verb make sense."""
        self._pieces = Pieces()

    def run(self) -> str:
        while self._at < len(self._form):
            if plain := _PLAIN.match(self._form, self._at):
                self._pieces.add(plain[0])
                self._at = plain.end()
            else:
                self._at += 1
                self._verb()
        if not self._reordered and self._next < len(self._values):
            self._pieces.add(f"%!(EXTRA {', '.join(map(_typed, self._values[self._next :]))})")
        return self._pieces.text()

    def _matched(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._form, self._at)
        self._at = match.end() if match else self._at
        return match[0] if match else ""

    def _verb(self) -> None:
        self._good = True
        flags = set(self._matched(_FLAGS))
        indexed = self._index()
        width, indexed, negative = self._width(indexed)
        precision, indexed = self._precision(indexed)
        if not indexed:
            self._index()
        verb = self._form[self._at : self._at + 1]
        self._at += 1
        if not verb:
            self._pieces.add("%!(NOVERB)")
        elif verb == "%":
            self._pieces.add("%")
        elif not self._good:
            self._pieces.add(f"%!{verb}(BADINDEX)")
        elif self._next >= len(self._values):
            self._pieces.add(f"%!{verb}(MISSING)")
        else:
            plain = verb in "vw"  # whose + and # mean something else
            layout = Layout(
                plus="+" in flags and not plain,
                minus="-" in flags or negative,
                sharp="#" in flags and not plain,
                space=" " in flags,
                zero="0" in flags and not negative,
                width=width,
                precision=precision,
                literal="#" in flags and plain,
            )
            self._pieces.add(formatted(self._values[self._next], verb, layout))
            self._next += 1

    def _index(self) -> bool:
        """``[2]``: the second value comes next. Whether it is there and can be read."""
        if not self._form.startswith("[", self._at):
            return False
        self._reordered = True
        match = _INDEX.match(self._form, self._at)
        if match is None:
            self._good = False
            self._at += 1
            return False
        self._at = match.end()
        number = _number(match[1]) if _DIGITS.fullmatch(match[1]) else None
        if number is None or not 1 <= number <= len(self._values):
            self._good = False
            return number is not None
        self._next = number - 1
        return True

    def _width(self, indexed: bool) -> tuple[int | None, bool, bool]:
        """The width, whether the number of a value has just been read, and whether it was negative."""
        if self._form.startswith("*", self._at):
            self._at += 1
            width = self._given()
            if width is None:
                self._pieces.add("%!(BADWIDTH)")
            return abs(width or 0), False, (width or 0) < 0
        width = self._digits()
        if indexed and width is not None:
            self._good = False
        return width, indexed, False

    def _precision(self, indexed: bool) -> tuple[int | None, bool]:
        if not self._form.startswith(".", self._at) or self._at + 1 >= len(self._form):
            return None, indexed
        self._at += 1
        if indexed:
            self._good = False
        indexed = self._index()
        if not self._form.startswith("*", self._at):
            return self._digits() or 0, indexed
        self._at += 1
        precision = self._given()
        if precision is None or precision < 0:
            self._pieces.add("%!(BADPREC)")
            return None, False
        return precision, False

    def _digits(self) -> int | None:
        found = self._matched(_DIGITS)
        if not found:
            return None
        number = _number(found)
        if number is None:
            self._at = len(self._form)  # as Go gives up on such numbers
        return number

    def _given(self) -> int | None:
        """A width or precision that is a value."""
        if self._next >= len(self._values):
            return None
        value = self._values[self._next]
        self._next += 1
        return int(value) if is_whole(value) and abs(value) <= _MOST else None


def _number(digits: str) -> int | None:
    return int(digits) if len(digits) <= 8 and int(digits) <= _MOST * 10 else None


def _typed(value: Any) -> str:
    return "<nil>" if value is None else f"{type_of(value)}={text_of(value)}"

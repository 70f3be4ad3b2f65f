"""The grammar of JSONPath templates, as kubectl's parser has it (client-go's util/jsonpath/parser.go)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from minikubelet.cli.json_path_steps import (
    OPERATORS,
    Bound,
    Constant,
    Field,
    Filter,
    Key,
    Slice,
    Step,
    Union,
    deep,
    every,
)

_END_OF_LINE = "\r\n"
_FIELD = re.compile(r"(?:\\.|[^\\ \t\r\n.,\[\]$@{}])*", re.S)
_NUMBER = re.compile(r"[-+]?[0-9.]*")
_QUOTED = re.compile(r"'(?:\\.|[^'\\\r\n])*'|\"(?:\\.|[^\"\\\r\n])*\"")
_SLICE = re.compile(r"(-?\d*)(?:(:)\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?)?\Z")
_FILTER = re.compile(r"([^!<>=]+)([!<>=]+)(.+)\Z", re.S)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.S)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class SyntaxFault(Exception):
    """A template that isn't one; the message says why."""


@dataclass(frozen=True)
class Action:
    """What stands in one pair of braces: ``range``, ``end`` or nothing, and a path."""

    word: str
    steps: Sequence[Step]


def parse(text: str, *, allow_missing: bool = True) -> list[str | Action]:
    """A template's texts and actions. Raises SyntaxFault."""
    return _Parser(text, allow_missing).template()


class _Parser:
    def __init__(self, text: str, allow_missing: bool) -> None:
        self._text = text
        self._allow_missing = allow_missing
        self._at = 0

    def template(self) -> list[str | Action]:
        found: list[str | Action] = []
        while (start := self._text.find("{", self._at)) >= 0:
            if start > self._at:
                found.append(self._text[self._at : start])
            self._at = start + 1
            found.append(self._action())
        if self._at < len(self._text):
            found.append(self._text[self._at :])
        return found

    def _action(self) -> Action:
        steps: list[Step] = []
        word = ""
        while not self._took("}"):
            char = self._text[self._at : self._at + 1]
            if not char or char in _END_OF_LINE:
                raise SyntaxFault("unclosed action")
            if self._took("[?("):
                steps.append(self._filter())
            elif self._took(".."):
                steps.append(self._recursive(steps))
            elif char in " @$":
                self._at += 1
            elif char == "[":
                steps.append(self._array())
            elif char in "'\"":
                steps.append(Constant(self._quoted()))
            elif char == ".":
                self._at += 1
                steps += self._field()
            elif char in "+-" or char.isdigit():
                steps.append(self._number())
            elif char == "_" or char.isalpha():
                word = self._identifier(steps) or word
            else:
                raise SyntaxFault(f"unrecognized character in action: U+{ord(char):04X} {char!r}")
        return Action(word, steps)

    def _took(self, word: str) -> bool:
        if not self._text.startswith(word, self._at):
            return False
        self._at += len(word)
        return True

    def _matched(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return match[0] if match else ""

    def _recursive(self, steps: list[Step]) -> Step:
        if steps and steps[-1] is deep:
            raise SyntaxFault("invalid multiple recursive descent")
        if (char := self._text[self._at : self._at + 1]) and (char == "_" or char.isalnum()):
            name = self._field()
            return lambda values: name[0](deep(values))
        return deep

    def _field(self) -> list[Step]:
        """``name``, ``*``; of nothing, the value as it is."""
        name = self._matched(_FIELD)
        if name == "*":
            return [every]
        return [Field(name.replace("\\", ""), self._allow_missing)] if name else []

    def _identifier(self, steps: list[Step]) -> str:
        name = self._matched(_FIELD)
        if name in ("true", "false"):
            steps.append(Constant(name == "true"))
            return ""
        if name in ("range", "end"):
            return name
        raise SyntaxFault(f"unrecognized identifier {name}: a field begins with a dot, a text has quotes")

    def _number(self) -> Step:
        text = self._matched(_NUMBER)
        for kind in (int, float):
            try:
                return Constant(kind(text))
            except ValueError:
                continue
        raise SyntaxFault(f"cannot parse number {text}")

    def _quoted(self) -> str:
        text = self._matched(_QUOTED)
        if not text:
            raise SyntaxFault("unterminated quoted string")
        return _ESCAPE.sub(_unescaped, text[1:-1])

    def _array(self) -> Step:
        end = self._text.find("]", self._at)
        inside = self._text[self._at + 1 : end]
        if end < 0 or "\n" in inside:
            raise SyntaxFault("unterminated array")
        self._at = end + 1
        parts = inside.split(",")
        if len(parts) > 1:
            return Union([self._inside_of(f"{{[{part.strip()}]}}") for part in parts])
        return self._index(inside.strip())

    def _filter(self) -> Step:
        """Up to the bracket that isn't in quotes: ``@.a=="b"``, ``@.a``."""
        start, quote, depth = self._at, "", 0
        while depth >= 0:
            char = self._text[self._at : self._at + 1]
            if not char or char == "\n":
                raise SyntaxFault("unterminated filter")
            if char == "\\":
                self._at += 1
            elif quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            elif char in "()":
                depth += 1 if char == "(" else -1
            self._at += 1
        text = self._text[start : self._at - 1]
        if not self._took("]"):
            raise SyntaxFault("unclosed array expect ]")
        match = _FILTER.match(text)
        if match is None:
            return Filter(self._inside_of(f"{{{text}}}"))
        if match[2] not in OPERATORS:
            raise SyntaxFault(f"unrecognized filter operator {match[2]}")
        return Filter(self._inside_of(f"{{{match[1]}}}"), match[2], self._inside_of(f"{{{match[3]}}}"))

    def _inside_of(self, action: str) -> Sequence[Step]:
        """The path of one action."""
        parsed = parse(action, allow_missing=self._allow_missing)
        if len(parsed) != 1 or not isinstance(parsed[0], Action) or parsed[0].word:
            raise SyntaxFault(f"unexpected {action[1:-1]!r}")
        return parsed[0].steps

    def _index(self, text: str) -> Step:
        if text == "*":
            return Slice(None, None, None)
        if _QUOTED.fullmatch(text):
            inside = text[1:-1]
            return Key(inside.replace("\\", ""), self._inside_of(f"{{.{inside}}}"))
        match = _SLICE.match(text)
        if match is None:
            raise SyntaxFault(f"invalid array index {text}")
        if not match[2]:
            return Slice(_bound(match[1]), None, None, single=True)
        return Slice(_bound(match[1]), _bound(match[3]), _bound(match[4]))


def _bound(text: str | None) -> Bound:
    if text == "-":
        raise SyntaxFault("array index - is not a number")
    return int(text) if text else None


def _unescaped(match: re.Match[str]) -> str:
    for code, base in ((match[1], 16), (match[2], 16), (match[3], 16), (match[4], 8)):
        if code and int(code, base) <= 0x10FFFF:
            return chr(int(code, base))
    return _LETTERS.get(match[5], match[5] or "")

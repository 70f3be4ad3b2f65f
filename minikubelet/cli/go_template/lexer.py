"""The words of Go's templates: text, and what stands between ``{{`` and ``}}`` (text/template/parse)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minikubelet.cli.go_template.quoting import quote, unicode_name

LEFT, RIGHT = "{{", "}}"
KEYWORDS = ("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with")
_SPACES = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]+")
_TRIM_BEFORE = re.compile(r"-[ \t\r\n]")
_TRIM_AFTER = re.compile(r"[ \t\r\n]-\}\}")
_WORD = re.compile(r"\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?|0[oO][0-7_]*(?:\.[0-7_]*)?"
    r"|0[bB][01_]*(?:\.[01_]*)?|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_QUOTED = {"string": re.compile(r'"(?:\\[^\n]|[^"\\\n])*"'), "char": re.compile(r"'(?:\\[^\n]|[^'\\\n])*'")}
_UNTERMINATED = {"string": "unterminated quoted string", "char": "unterminated character constant"}


class SyntaxFault(Exception):
    """A template that isn't one; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word: what it is (``error`` has the message for its text), where it begins."""

    kind: str
    text: str
    at: int
    line: int

    def __str__(self) -> str:
        if self.kind == "end of file":
            return "EOF"
        if self.kind == "error":
            return self.text
        if self.kind in ("keyword", "dot"):
            return f"<{self.text}>"
        if len(self.text.encode("utf-8", "surrogateescape")) > 10:
            return quote(self.text[:10]) + "..."
        return quote(self.text)


def lex(text: str) -> Iterator[Token]:
    """All words in turn. Ends with one of kind ``error`` or ``end of file``."""
    return _Lexer(text).tokens()


class _Stop(Exception):
    """Nothing can follow."""


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted, self._line = 0, 1

    def tokens(self) -> Iterator[Token]:
        try:
            yield from self._template()
        except _Stop as stop:
            yield self._token("error", str(stop), self._at)

    def _token(self, kind: str, text: str, at: int) -> Token:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = max(at, self._counted)
        return Token(kind, text, at, self._line)

    def _template(self) -> Iterator[Token]:
        while (left := self._text.find(LEFT, self._at)) >= 0:
            piece = self._text[self._at : left]
            trims = bool(_TRIM_BEFORE.match(self._text, left + 2))
            if piece := piece.rstrip(_SPACES) if trims else piece:
                yield self._token("text", piece, self._at)
            self._at = left + 2 + (2 if trims else 0)
            if self._text.startswith("/*", self._at):
                self._comment()
                continue
            yield self._token("left", LEFT, left)
            yield from self._action()
        if self._at < len(self._text):
            yield self._token("text", self._text[self._at :], self._at)
        yield self._token("end of file", "", len(self._text))

    def _comment(self) -> None:
        end = self._text.find("*/", self._at + 2)
        if end < 0:
            raise _Stop("unclosed comment")
        start, self._at = self._at, end + 2
        if not self._closed():
            self._at = start
            raise _Stop("comment ends before closing delimiter")

    def _closed(self) -> bool:
        """Go past ``}}`` or `` -}}`` and the spaces that the latter trims, if one is there."""
        if self._text.startswith(RIGHT, self._at):
            self._at += 2
            return True
        if not _TRIM_AFTER.match(self._text, self._at):
            return False
        self._at += 4
        if spaces := _SPACE.match(self._text, self._at):
            self._at = spaces.end()
        return True

    def _action(self) -> Iterator[Token]:
        depth = 0
        while True:
            start = self._at
            trimming = bool(_TRIM_AFTER.match(self._text, start))
            if trimming or self._text.startswith(RIGHT, start):
                if depth:
                    raise _Stop("unclosed left paren")
                self._closed()
                yield self._token("right", RIGHT, start + (2 if trimming else 0))
                return
            kind = self._word()
            depth += {"(": 1, ")": -1}.get(kind, 0)
            if depth < 0:
                self._at = start
                raise _Stop("unexpected right paren")
            yield self._token(kind, self._text[start : self._at], start)

    def _word(self) -> str:
        """Go past the next word; its kind. Raises _Stop."""
        char = self._text[self._at : self._at + 1]
        if not char:
            raise _Stop("unclosed action")
        if spaces := _SPACE.match(self._text, self._at):
            self._at = spaces.end()
            if self._at - spaces.start() > 1 and _TRIM_AFTER.match(self._text, self._at - 1):
                self._at -= 1
            return "space"
        if char in "=|()":
            self._at += 1
            return char
        if char == ":":
            if not self._text.startswith(":=", self._at):
                raise _Stop("expected :=")
            self._at += 2
            return ":="
        if char in "\"'`":
            return self._quoted(char)
        following = self._text[self._at + 1 : self._at + 2]
        if char in "+-" or "0" <= char <= "9" or (char == "." and (not following or "0" <= following <= "9")):
            return self._number()
        if char in ".$" or char == "_" or char.isalpha() or char.isdecimal():
            return self._name(char)
        if char.isascii() and char.isprintable():
            self._at += 1
            return "other"
        raise _Stop(f"unrecognized character in action: {unicode_name(char)}")

    def _quoted(self, mark: str) -> str:
        if mark == "`":
            end = self._text.find("`", self._at + 1)
            if end < 0:
                raise _Stop("unterminated raw quoted string")
            self._at = end + 1
            return "string"
        kind = "string" if mark == '"' else "char"
        match = _QUOTED[kind].match(self._text, self._at)
        if match is None:
            raise _Stop(_UNTERMINATED[kind])
        self._at = match.end()
        return kind

    def _number(self) -> str:
        start = self._at
        for kind in ("number", "complex"):
            match = _NUMBER.match(self._text, self._at)
            end = match.end() if match else self._at
            following = self._text[end : end + 1]
            if following == "_" or following.isalpha() or following.isdecimal():
                raise _Stop(f"bad number syntax: {quote(self._text[start : end + 1])}")
            self._at = end
            if kind == "complex" and self._text[end - 1] != "i":
                self._at = start
                raise _Stop(f"bad number syntax: {quote(self._text[start:end])}")
            if kind == "complex" or following not in ("+", "-"):
                return kind
        raise AssertionError

    def _name(self, first: str) -> str:
        """``.field``, ``.``, ``$variable``, ``$``, ``word``."""
        start, prefix = self._at, 1 if first in ".$" else 0
        match = _WORD.match(self._text, start + prefix)
        assert match is not None
        end, word = match.end(), match[0]
        following = self._text[end : end + 1]
        if following and following not in _SPACES + ".,|:)(" and not self._text.startswith(RIGHT, end):
            raise _Stop(f"bad character {unicode_name(following)}")
        self._at = end
        if first == "$":
            return "variable"
        if first == ".":
            return "field" if word else "dot"
        if word in KEYWORDS:
            return "keyword"
        return "bool" if word in ("true", "false") else "identifier"

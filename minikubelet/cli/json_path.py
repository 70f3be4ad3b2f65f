"""JSONPath templates as kubectl's ``-o jsonpath=`` takes them: text, and ``{expressions}`` over an object.

https://kubernetes.io/docs/reference/kubectl/jsonpath/: fields, ``..``, ``*``, indexes, slices, unions,
filters, ``range`` and quoted text; what isn't there is printed as nothing.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minikubelet.cli.options import CommandError

Step = Callable[[Any], Iterator[Any]]
"""What one step of a path leads to from a value."""

_NAME = re.compile(r"(?:\\.|[^.\[\]{}()'\"\s=!<>,|&\\])+")
_SLICE = re.compile(r"\s*(-?\d+)?\s*(?::\s*(-?\d+)?\s*(?::\s*(-?\d+)?\s*)?)?\Z")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FILTER = re.compile(r"\s*\?\((.*)\)\s*\Z", re.S)
_QUOTED = re.compile(r"(['\"])(?:\\.|(?!\1)[^\\])*\1\Z", re.S)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class _Union:
    """``['a','b']``."""

    parts: Sequence[Step]

    def __call__(self, value: Any) -> Iterator[Any]:
        return (found for part in self.parts for found in part(value))


@dataclass(frozen=True)
class _Range:
    """``{range PATH}BODY{end}``."""

    path: Sequence[Step]
    body: Sequence[_Node]


@dataclass(frozen=True)
class _Path:
    """``{PATH}``."""

    path: Sequence[Step]


_Node = str | _Path | _Range


def template(text: str) -> Callable[[Any], str]:
    """What ``text`` makes of an object. Raises CommandError for a template that isn't one."""
    if not text:
        raise CommandError("jsonpath: a template must follow, as in jsonpath='{.metadata.name}'", usage=True)
    pieces = _split(text)
    nodes, rest = _nodes(pieces, text, inside=False)
    assert not rest
    return lambda value: "".join(_render(nodes, value, value))


def path(text: str) -> Callable[[Any], list[Any]]:
    """What a path such as ``.spec.nodeName``, ``spec.nodeName`` or ``{.a}`` finds. Raises CommandError."""
    bare = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    steps = _steps(bare.strip(), text)
    return lambda value: _follow(steps, value)


def shown(value: Any) -> str:
    """A value as kubectl prints it: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _wrong(text: str, why: str) -> CommandError:
    return CommandError(f"jsonpath {text!r}: {why}", usage=True)


def _split(text: str) -> list[tuple[bool, str]]:
    """Text outside (False) and inside (True) of braces."""
    pieces, at = [], 0
    while (start := text.find("{", at)) >= 0:
        if start > at:
            pieces.append((False, text[at:start]))
        at = _closing(text, start, "{", "}") + 1
        pieces.append((True, text[start + 1 : at - 1].strip()))
    if at < len(text):
        pieces.append((False, text[at:]))
    return pieces


def _closing(text: str, start: int, opens: str, closes: str) -> int:
    """Where what begins at ``start`` ends; brackets in quotes don't count."""
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in (opens, closes):
            depth += 1 if char == opens else -1
            if not depth:
                return at
        at += 1
    raise _wrong(text, f"{opens} is never closed")


def _nodes(
    pieces: list[tuple[bool, str]], whole: str, *, inside: bool
) -> tuple[list[_Node], list[tuple[bool, str]]]:
    nodes: list[_Node] = []
    while pieces:
        (code, text), pieces = pieces[0], pieces[1:]
        if not code:
            nodes.append(text)
        elif text == "end":
            if not inside:
                raise _wrong(whole, "{end} without {range}")
            return nodes, pieces
        elif text.startswith("range ") or text == "range":
            body, pieces = _nodes(pieces, whole, inside=True)
            nodes.append(_Range(_steps(text[5:].strip(), whole), body))
        elif text[:1] in ("'", '"'):
            nodes.append(_unquoted(text, whole))
        elif text[:1] not in ("", ".", "[", "$", "@"):
            raise _wrong(whole, f"{{{text}}} is unknown: a path begins with a dot, a text has quotes")
        else:
            nodes.append(_Path(_steps(text, whole)))
    if inside:
        raise _wrong(whole, "{range} without {end}")
    return nodes, []


def _unquoted(text: str, whole: str) -> str:
    if not _QUOTED.match(text):
        raise _wrong(whole, f"{text} is no quoted text")
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text[1:-1], flags=re.S)


def _render(nodes: Sequence[_Node], value: Any, root: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, _Path):
            yield " ".join(shown(each) for each in _follow(node.path, value))
        else:
            for each in _follow(node.path, value):
                yield from _render(node.body, each, root)


def _follow(steps: Sequence[Step], value: Any) -> list[Any]:
    values = [value]
    for step in steps:
        # A union goes over all values once for each of its parts, as kubectl's does.
        parts = step.parts if isinstance(step, _Union) else [step]
        values = [found for part in parts for each in values for found in part(each)]
    return values


def _steps(text: str, whole: str) -> list[Step]:
    """A path's steps. Raises CommandError for what can't be read."""
    steps: list[Step] = []
    at = 1 if text[:1] in ("$", "@") else 0
    while at < len(text):
        if text.startswith("..", at):
            steps.append(_deep)
            at += 2
            if at == len(text):
                raise _wrong(whole, "nothing follows ..")
            if text[at] == "[":
                continue
        elif text[at] == ".":
            at += 1
            if at == len(text):
                break
        elif text[at] == "[":
            end = _closing(text, at, "[", "]")
            steps.append(_bracket(text[at + 1 : end].strip(), whole))
            at = end + 1
            continue
        if text[at : at + 1] == "[":
            continue
        if text[at] == "*":
            steps.append(_all)
            at += 1
        elif match := _NAME.match(text, at):
            steps.append(_field(re.sub(r"\\(.)", r"\1", match[0])))
            at = match.end()
        else:
            raise _wrong(whole, f"unexpected {text[at]!r} in {text!r}")
    return steps


def _bracket(text: str, whole: str) -> Step:
    if text == "*":
        return _all
    if match := _FILTER.match(text):
        return _filter(match[1], whole)
    parts = _union(text)
    if len(parts) > 1:
        return _Union([_bracket(part.strip(), whole) for part in parts])
    if text[:1] in ("'", '"'):
        return _field(_unquoted(text, whole))
    if text and (match := _SLICE.match(text)):
        return _slice(match, ":" in text)
    raise _wrong(whole, f"[{text}] is not an index, a slice, a name in quotes or a filter")


def _union(text: str) -> list[str]:
    """``a,b`` parted at the commas outside of quotes."""
    return [each for each in re.findall(r"(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,'\"])+", text) if each]


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and value.get(name) is not None:
            yield value[name]

    return step


def _all(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (value[key] for key in sorted(value))
    elif isinstance(value, list):
        yield from value


def _deep(value: Any) -> Iterator[Any]:
    yield value
    for each in _all(value):
        yield from _deep(each)


def _slice(match: re.Match[str], several: bool) -> Step:
    first, last, stride = (int(part) if part else None for part in match.groups())

    def step(value: Any) -> Iterator[Any]:
        if not isinstance(value, list):
            return
        if several:
            yield from value[first : last : stride or None]
        elif first is not None:
            if not -len(value) <= first < len(value):
                raise CommandError(f"jsonpath: array index out of bounds: index {first}, length {len(value)}")
            yield value[first]

    return step


def _filter(text: str, whole: str) -> Step:
    """``@.a``, ``@.a=="b"``, ``@.a>3``: of a list or a map, the values for which it holds."""
    match = re.match(
        r"\s*(@(?:'[^']*'|\"[^\"]*\"|[^=!<>'\"])*?)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?)\s*)?\Z", text, re.S
    )
    if match is None:
        raise _wrong(whole, f'?({text}) is not a filter such as ?(@.name=="web")')
    left = _steps(match[1].strip(), whole)
    compare = _COMPARE.get(match[2] or "")
    right = _operand(match[3] or "", whole) if compare else None

    def holds(value: Any) -> bool:
        found = _follow(left, value)
        if compare is None or right is None:
            return bool(found)
        wanted = right(value)
        try:
            return bool(found and wanted and compare(found[0], wanted[0]))
        except TypeError:
            return False  # a text and a number

    return lambda value: (each for each in _all(value) if holds(each))


def _operand(text: str, whole: str) -> Callable[[Any], list[Any]]:
    if text.startswith("@"):
        steps = _steps(text, whole)
        return lambda value: _follow(steps, value)
    if text[:1] in ("'", '"'):
        constant: Any = _unquoted(text, whole)
    else:
        try:
            constant = json.loads(text)
        except ValueError:
            raise _wrong(whole, f"{text} is neither a number, true, false nor a text in quotes") from None
    return lambda value: [constant]

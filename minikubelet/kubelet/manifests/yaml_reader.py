"""YAML read from the parser's events: duplicate keys are errors, aliases, depth and size are bounded.

Scalars resolve as upstream's go-yaml does it: YAML 1.1 booleans and 0644 octals, but no dates and no
base-60 numbers. The line of every value is kept, so that later checks can point at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from minikubelet.kubelet.manifests.errors import ManifestError

MAX_BYTES = 10 * 1024 * 1024
"""As upstream's limit on manifest files."""
MAX_DEPTH = 64
MAX_NODES = 200_000
"""Values in one document, with aliased ones counted each time they appear."""
MAX_DIGITS = 100

Path = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PATIENT_BYTES = 1024 * 1024
"""Up to here a manifest may have escapes that only the parser in Python can be told of."""
_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]*|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?\Z")
_BOOLS = {
    word: value
    for value, words in {
        True: "true True TRUE y Y yes Yes YES on On ON",
        False: "false False FALSE n N no No NO off Off OFF",
    }.items()
    for word in words.split()
}
_NULLS = {"", "~", "null", "Null", "NULL"}
_MERGE = "tag:yaml.org,2002:merge"


_GO_ESCAPES: Any = type(
    "_GoEscapes",
    (yaml.SafeLoader,),
    {"ESCAPE_REPLACEMENTS": {**yaml.SafeLoader.ESCAPE_REPLACEMENTS, "'": "'"}},
)
"""Knows ``\\'`` in double quotes, which is none of YAML's escapes and which go-yaml takes all the same."""


@dataclass
class Document:
    """One YAML document: plain data, and the line (from 1) where the value at each path starts."""

    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    inside: Path = ()
    """Of an item of a list: where it is in its YAML document."""

    def line(self, path: Path) -> int:
        """The line of ``path`` or of its nearest parent that has one; 0 if none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read_yaml(text: bytes) -> Iterator[Document]:
    """The documents of a YAML stream; empty ones are left out. Raises ManifestError."""
    if len(text) > MAX_BYTES:
        raise ManifestError(f"larger than {MAX_BYTES} bytes")
    go_escapes = b"\\'" in text and len(text) <= _PATIENT_BYTES
    try:
        events = yaml.parse(text, Loader=_GO_ESCAPES if go_escapes else _LOADER)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                document = _Builder(events).build()
                if document.data is not None:
                    yield document
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise ManifestError(f"not valid YAML: {problem}", line=mark.line + 1 if mark else 0) from None
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ManifestError(f"not valid YAML: {' '.join(str(exc).split())}") from None


class _Builder:
    """Turns the events of one document into data without recursion in C or YAML tags."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self._document = Document(None)

    def build(self) -> Document:
        self._document.data = self._value(next(self._events), (), 0)
        return self._document

    def _value(self, event: Any, path: Path, depth: int) -> Any:
        line = event.start_mark.line + 1
        self._document.lines[path] = line
        self._count(1, line)
        if depth > MAX_DEPTH:
            raise ManifestError(f"nested deeper than {MAX_DEPTH} levels", line=line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        before = self._nodes
        if isinstance(event, yaml.ScalarEvent):
            value: Any = _scalar(event, line)
        elif event.tag and not event.implicit:
            raise ManifestError(f"tag {event.tag} is not allowed", line=line)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        else:
            value = self._mapping(path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._nodes - before + 1)
        return value

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise ManifestError(f"more than {MAX_NODES} values", line=line)

    def _alias(self, event: yaml.AliasEvent, line: int) -> Any:
        if event.anchor not in self._anchors:
            raise ManifestError(f"alias *{event.anchor} has no anchor before it", line=line)
        value, size = self._anchors[event.anchor]
        self._count(size, line)
        return value

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise ManifestError("a key must be a plain string", line=line)
            key = event.value
            value = self._value(next(self._events), (*path, key), depth + 1)
            if key == "<<" and event.implicit[0]:
                _merge(merged, value, line)
                continue
            if key in own:
                raise ManifestError(f"key {key!r} appears twice", field=dotted((*path, key)), line=line)
            own[key] = value
            self._document.lines[(*path, key)] = line
        return {**{k: v for k, v in merged.items() if k not in own}, **own}


def _merge(into: dict[str, Any], value: Any, line: int) -> None:
    for mapping in value if isinstance(value, list) else [value]:
        if not isinstance(mapping, dict):
            raise ManifestError("<< merges mappings only", line=line)
        for key, each in mapping.items():
            into.setdefault(key, each)


def _scalar(event: yaml.ScalarEvent, line: int) -> Any:
    text: str = event.value
    if event.tag and not event.implicit[0] and event.tag != "!":
        return _tagged(event.tag, text, line)
    if not event.implicit[0]:
        return text
    if is_plain_text(text):
        return text
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.match(text):
        return _integer(text, line)
    return float(text.replace("_", ""))


def is_plain_text(text: str) -> bool:
    """Whether it is read as text without quotes, rather than as a number, a truth value or nothing."""
    number = (_INT.match(text) and text not in ("+", "-")) or _FLOAT.match(text)
    return not (number or text in _NULLS or text in _BOOLS)


def _tagged(tag: str, text: str, line: int) -> Any:
    if tag == "tag:yaml.org,2002:str":
        return text
    if tag == "tag:yaml.org,2002:int" and _INT.match(text):
        return _integer(text, line)
    raise ManifestError(f"tag {tag} is not allowed", line=line)


def _integer(text: str, line: int) -> int:
    if len(text) > MAX_DIGITS:
        raise ManifestError("a number of too many digits", line=line)
    digits = text.replace("_", "")
    bare = digits.lstrip("+-")
    if len(bare) > 1 and bare[0] == "0" and bare[1] in "01234567":
        return int(digits, 8)
    return int(digits, 0)


def dotted(path: Path) -> str:
    """``spec.containers[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def split_path(text: str) -> Path:
    """``spec.containers[0].name`` as a path: what :func:`dotted` wrote, unless a key has dots itself."""
    found: list[str | int] = []
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", text):
        found.append(int(index) if index else name)
    return tuple(found)

"""The functions of templates: those of text/template, and the two that kubectl adds."""

from __future__ import annotations

import base64
import string
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minikubelet.cli.go_template.printf import sprint, sprintf, sprintln
from minikubelet.cli.go_template.values import (
    ABSENT,
    Byte,
    Fault,
    Held,
    Int,
    decoded,
    encoded,
    is_true,
    is_whole,
    loose,
    type_of,
)

_DIGITS = f"{string.ascii_letters}{string.digits}+/".encode()
VALUE, ANY, STRING = "reflect.Value", "interface {}", "string"


@dataclass(frozen=True)
class Function:
    """What is called, and the types of its arguments."""

    call: Callable[..., Any]
    fixed: Sequence[str]
    more: str = ""
    """The type of any number of arguments that may follow."""


def _kind(value: Any) -> str:
    """What may be compared with its like."""
    if isinstance(value, Byte):
        return "uint"
    if is_whole(value):
        return "int"
    return type_of(value) if isinstance(value, bool | float | complex | str) else ""


def _equal(first: Any, *others: Any) -> bool:
    first = loose(first)
    if not others:
        raise Fault("missing argument for comparison")
    return any(_same(first, loose(other)) for other in others)


def _same(first: Any, other: Any) -> bool:
    if first is ABSENT or other is ABSENT:
        return first is other
    kinds = {_kind(first), _kind(other)}
    if len(kinds) > 1 and kinds != {"int", "uint"}:
        raise Fault(f"incompatible types for comparison: {type_of(first)} and {type_of(other)}")
    if kinds == {""}:
        if isinstance(first, dict) is not isinstance(other, dict):
            raise Fault(
                sprintf("non-comparable types %s: %v, %s: %v", (first, type_of(first), type_of(other), other))
            )
        raise Fault(sprintf("non-comparable type %s: %v", (other, type_of(other))))
    return bool(first == other)


def _less(first: Any, second: Any) -> bool:
    first, second = loose(first), loose(second)
    kinds = [_kind(each) if each is not ABSENT else "" for each in (first, second)]
    if "" in kinds:
        raise Fault("invalid type for comparison")
    if kinds[0] != kinds[1] and set(kinds) != {"int", "uint"}:
        raise Fault(f"incompatible types for comparison: {type_of(first)} and {type_of(second)}")
    if kinds[0] in ("bool", "complex128"):
        raise Fault("invalid type for comparison")
    if isinstance(first, str):
        return encoded(first) < encoded(second)
    return bool(first < second)


def _less_or_equal(first: Any, second: Any) -> bool:
    return _less(first, second) or _equal(first, second)


def _length(value: Any) -> Int:
    if value == Held(None):
        raise Fault("len of nil pointer")
    value = loose(value)
    if isinstance(value, str):
        return Int(len(encoded(value)))
    if isinstance(value, dict | list):
        return Int(len(value))
    if value is ABSENT:
        raise Fault("reflect: call of reflect.Value.Type on zero Value")
    raise Fault(f"len of type {type_of(value)}")


def _position(index: Any, length: int) -> int:
    index = loose(index)
    if index is ABSENT:
        raise Fault("cannot index slice/array with nil")
    if not is_whole(index):
        raise Fault(f"cannot index slice/array with type {type_of(index)}")
    if not 0 <= index <= length:
        raise Fault(f"index out of range: {index}")
    return int(index)


def _index(item: Any, *indexes: Any) -> Any:
    if loose(item) is ABSENT:
        raise Fault("index of untyped nil")
    for index in indexes:
        item = _element(loose(item), index)
    return item


def _element(item: Any, index: Any) -> Any:
    if item is ABSENT:
        raise Fault("index of nil pointer")
    if isinstance(item, dict):
        key = loose(index)
        if key is ABSENT:
            raise Fault("value is nil; should be of type string")
        if not isinstance(key, str):
            raise Fault(f"value has type {type_of(key)}; should be string")
        return Held(item.get(key))
    if not isinstance(item, str | list):
        raise Fault(f"can't index item of type {type_of(item)}")
    found = encoded(item) if isinstance(item, str) else item
    at = _position(index, len(found))
    if at == len(found):
        raise Fault(f"reflect: {'string' if isinstance(item, str) else 'slice'} index out of range")
    return Byte(found[at]) if isinstance(item, str) else Held(found[at])


def _slice(item: Any, *indexes: Any) -> Any:
    item = loose(item)
    if item is ABSENT:
        raise Fault("slice of untyped nil")
    if len(indexes) > 3:
        raise Fault(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, str | list):
        raise Fault(f"can't slice item of type {type_of(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise Fault("cannot 3-index slice a string")
    found = encoded(item) if isinstance(item, str) else item
    ends = [0, len(found), len(found)]
    for at, index in enumerate(indexes):
        ends[at] = _position(index, len(found))
    for low, high in ((ends[0], ends[1]), (ends[1], ends[2])):
        if low > high:
            raise Fault(f"invalid slice index: {low} > {high}")
    part = found[ends[0] : ends[1]]
    return decoded(part) if isinstance(part, bytes) else part


def _call(function: Any, *_arguments: Any) -> Any:
    """Always refused: no value of an object is a function. The runner adds what the function was called."""
    function = loose(function)
    if function is ABSENT:
        raise Fault("call of nil")
    raise Fault(f"non-function {{}} of type {type_of(function)}")


def _joined(values: Sequence[Any]) -> str:
    """What is escaped: the one string, or all that is given, as it is printed."""
    return sprint(["<no value>" if value is None else value for value in values])


_HTML = str.maketrans(
    {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"},
)


def _html(*values: Any) -> str:
    return _joined(values).translate(_HTML)


def _js(*values: Any) -> str:
    return "".join(map(_js_escaped, _joined(values)))


def _js_escaped(char: str) -> str:
    if char in "\\'\"":
        return f"\\{char}"
    if char in "<>&=" or char < " " or (char > "\x7e" and not char.isprintable() and char != "\x7f"):
        return f"\\u{ord(char):04X}"
    return char


def _query(*values: Any) -> str:
    return urllib.parse.quote_plus(encoded(_joined(values)))


def _exists(item: Any, *indexes: Any) -> bool:
    value = Held(item) if item is not None else ABSENT
    for index in indexes:
        item = loose(value)
        if isinstance(item, dict):
            if not isinstance(index, str | None):
                return False
            value = Held(item.get(index or ""))
        elif isinstance(item, str | list) and is_whole(index) and 0 <= index < _length(item):
            value = _element(item, index)
        else:
            return False
    return value != Held(None)


def _base64decode(text: str) -> str:
    data = encoded(text)
    if (at := _bad_byte(data)) is not None:
        raise Fault(f"base64 decode failed: illegal base64 data at input byte {at}")
    return decoded(base64.b64decode(data))


def _bad_byte(data: bytes) -> int | None:
    """Where Go can't read it any more."""
    digits = 0
    for at, byte in enumerate(data):
        if byte in _DIGITS:
            digits += 1
        elif byte == ord("=") and digits % 4 > 1:
            return _bad_padding(data, at + 1, digits % 4)
        elif byte not in b"\r\n":
            return at
    return len(data) - digits % 4 if digits % 4 else None


def _bad_padding(data: bytes, at: int, digits: int) -> int | None:
    """The same from after the first ``=`` on."""
    at = _after_lines(data, at)
    if digits == 2:
        if data[at : at + 1] != b"=":
            return at - 1 if at < len(data) else at
        at = _after_lines(data, at + 1)
    return at if at < len(data) else None


def _after_lines(data: bytes, at: int) -> int:
    return len(data) - len(data[at:].lstrip(b"\r\n"))


FUNCTIONS: dict[str, Function] = {
    # The first argument that decides; the runner looks at no more than it needs.
    "and": Function(is_true, (VALUE,), VALUE),
    "or": Function(is_true, (VALUE,), VALUE),
    "not": Function(lambda value: not is_true(value), (VALUE,)),
    "eq": Function(_equal, (VALUE,), VALUE),
    "ne": Function(lambda first, second: not _equal(first, second), (VALUE, VALUE)),
    "lt": Function(_less, (VALUE, VALUE)),
    "le": Function(_less_or_equal, (VALUE, VALUE)),
    "gt": Function(lambda first, second: not _less_or_equal(first, second), (VALUE, VALUE)),
    "ge": Function(lambda first, second: not _less(first, second), (VALUE, VALUE)),
    "len": Function(_length, (VALUE,)),
    "index": Function(_index, (VALUE,), VALUE),
    "slice": Function(_slice, (VALUE,), VALUE),
    "call": Function(_call, (VALUE,), VALUE),
    "print": Function(lambda *values: sprint(values), (), ANY),
    "println": Function(lambda *values: sprintln(values), (), ANY),
    "printf": Function(lambda form, *values: sprintf(form, values), (STRING,), ANY),
    "html": Function(_html, (), ANY),
    "js": Function(_js, (), ANY),
    "urlquery": Function(_query, (), ANY),
    "exists": Function(_exists, (ANY,), ANY),
    "base64decode": Function(_base64decode, (STRING,)),
}

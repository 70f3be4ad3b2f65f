"""What the steps of a JSONPath do to the values that those before them have found.

As kubectl's (client-go's util/jsonpath): every step takes all values and gives all of the next. Keys come
sorted here; there they come in no order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Values = list[Any]
Step = Callable[[Values], Values]
Bound = int | None
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_EQUAL: dict[str, Callable[[Any, Any], Any]] = {"==": operator.eq, "!=": operator.ne}
OPERATORS = (*_ORDER, *_EQUAL)


class Fault(Exception):
    """A value that a step can't do with."""


def follow(steps: Sequence[Step], values: Values) -> Values:
    """All steps one after the other. Raises Fault."""
    for step in steps:
        values = step(values)
    return values


@dataclass(frozen=True)
class Constant:
    """A text, number or truth value in place of what was found."""

    value: Any

    def __call__(self, values: Values) -> Values:
        return [self.value for _ in values]


@dataclass(frozen=True)
class Field:
    """The value of a key, of those maps that have it."""

    name: str
    may_lack: bool = True
    """Whether it is no fault if none has it."""

    def __call__(self, values: Values) -> Values:
        having = [each for each in values if isinstance(each, dict) and self.name in each]
        if values and not having and not self.may_lack:
            raise Fault(f"{self.name} is not found")
        return [each[self.name] for each in having if each[self.name] is not None]


@dataclass(frozen=True)
class Key:
    """``['a.b/c']``: kubectl takes the dots for steps; here a key that is there as it stands goes first."""

    name: str
    steps: Sequence[Step]

    def __call__(self, values: Values) -> Values:
        return Field(self.name)(values) or follow(self.steps, values)


@dataclass(frozen=True)
class Union:
    """``[0,2]``, ``['a','b']``: what each part finds in all values."""

    parts: Sequence[Sequence[Step]]

    def __call__(self, values: Values) -> Values:
        return [found for part in self.parts for found in follow(part, values)]


@dataclass(frozen=True)
class Slice:
    """``[1]``, ``[1:]``, ``[:-1:2]`` of lists. Raises Fault for what isn't one, and beyond its ends."""

    first: Bound
    last: Bound
    stride: Bound
    single: bool = False

    def __call__(self, values: Values) -> Values:
        return [found for value in values for found in self._of(value)]

    def _of(self, value: Any) -> Values:
        if value is None:
            return []
        if not isinstance(value, list):
            raise Fault(f"{_go_type(value)} is not array or slice")
        length = len(value)
        first = _from_end(self.first or 0, length)
        last = first + 1 if self.single else length if self.last is None else _from_end(self.last, length)
        if first == last:
            return []
        for index, there in ((first, 0 <= first < length), (last - 1, 0 <= last <= length)):
            if not there:
                raise Fault(f"array index out of bounds: index {index}, length {length}")
        if first > last:
            raise Fault(f"starting index {first} is greater than ending index {last}")
        if self.stride is not None and self.stride <= 0:
            raise Fault("step must be > 0")
        return value[first : last : self.stride]


def _from_end(index: int, length: int) -> int:
    return index + length if index < 0 else index


def every(values: Values) -> Values:
    """``.*``: what maps and lists hold."""
    return [found for value in values for found in _inside(value)]


def deep(values: Values) -> Values:
    """``..``: every map and list that holds something, those around it first."""
    return [found for value in values for found in _deep(value)]


def _inside(value: Any) -> Values:
    if isinstance(value, dict):
        return [value[key] for key in sorted(value)]
    return value if isinstance(value, list) else []


def _deep(value: Any) -> Iterator[Any]:
    if inside := _inside(value):
        yield value
        for each in inside:
            yield from _deep(each)


@dataclass(frozen=True)
class Filter:
    """``[?(@.a=="b")]``: the items of lists for which it holds; without a comparison, those that have it."""

    left: Sequence[Step]
    compare: str = ""
    right: Sequence[Step] = ()

    def __call__(self, values: Values) -> Values:
        for value in values:
            if not isinstance(value, list):
                raise Fault(f"{_go_type(value)} is not array or slice and cannot be filtered")
        return [each for value in values for each in value if self._holds(each)]

    def _holds(self, item: Any) -> bool:
        try:
            left = follow(self.left, [item])
        except Fault:
            if self.compare:
                raise
            return False
        if not self.compare:
            return bool(left)
        right = follow(self.right, [item]) if left else []
        if len(left) > 1 or len(right) > 1:
            raise Fault("can only compare one element at a time")
        return bool(left and right) and _compare(self.compare, left[0], right[0])


def _compare(sign: str, left: Any, right: Any) -> bool:
    """Raises Fault for values that Go's templates don't compare."""
    if not all(isinstance(each, str | int | float) for each in (left, right)):
        raise Fault("invalid type for comparison")
    if type(left) is not type(right):
        raise Fault("incompatible types for comparison")
    if sign in _ORDER and isinstance(left, bool):
        raise Fault("invalid type for comparison")
    return bool((_ORDER.get(sign) or _EQUAL[sign])(left, right))


def _go_type(value: Any) -> str:
    """What kubectl calls it."""
    names = {dict: "map[string]interface {}", str: "string", bool: "bool", int: "int64", float: "float64"}
    return names.get(type(value), "nothing")

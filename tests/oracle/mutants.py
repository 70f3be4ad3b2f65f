"""Values with one thing changed at a time: a field gone, empty, too long, of the wrong form."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

Path = tuple[str | int, ...]

GONE = object()
"""In place of a value: the field isn't there."""

_TEXTS = (
    *("", "UPPER", "a" * 300, "a b", "é", "../x", "-x", "/abs", "a_b", "x" * 64, "0", "1.5", "-1"),
    *("a.b/c", "$(X)", "\x07"),
)
_NUMBERS = (0, -1, 1, 65536, 2**31, 2**40)


def mutants(values: Iterable[dict[str, Any]], skip: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Each change of each kind of field once, wherever it comes first.

    Fields differ by their path without indexes. ``skip``: paths whose values stay.
    """
    seen: set[str] = set()
    for value in values:
        for path, found in _within(value):
            kind = tuple("#" if isinstance(step, int) else step for step in path)
            if not path or any(kind[: len(each)] == each for each in skip):
                continue
            for change in (*changes(found), GONE):
                key = json.dumps([kind, _name(change)])
                if key not in seen:
                    seen.add(key)
                    yield changed(value, path, change)


def _within(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _within(each, (*path, key))


def _name(change: Any) -> Any:
    if change is GONE:
        return "gone"
    return ["twice" if change else "none"] if isinstance(change, list) else change


def changes(value: Any) -> list[Any]:
    """What a value is changed to."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, str):
        return list(_TEXTS)
    if isinstance(value, int):
        return list(_NUMBERS)
    if isinstance(value, list):
        return [[], [*value, value[-1]]] if value else []
    return [{}] if isinstance(value, dict) else []


def changed(value: dict[str, Any], path: Path, change: Any) -> dict[str, Any]:
    """A copy of ``value`` with ``change`` at ``path``."""
    result = copy.deepcopy(value)
    at: Any = result
    for step in path[:-1]:
        at = at[step]
    if change is not GONE:
        at[path[-1]] = change
    else:
        del at[path[-1]]
    return result

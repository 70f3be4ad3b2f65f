"""The types that fields of a KubeletConfiguration have: what a file may say, and how a flag writes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def seconds(text: str) -> float:
    """A duration as Go's time.ParseDuration reads it. Raises ValueError."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total, position = 0.0, 0
    for part in _PART.finditer(rest):
        if part.start() != position:
            break
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not rest or position != len(rest):
        raise ValueError(f"{text!r} is not a duration like 30s or 1h30m")
    return sign * total


def go_duration(value: float) -> str:
    """Seconds as Go prints them: ``1m0s``, ``100ms``."""
    if value == 0:
        return "0s"
    if abs(value) < 1:
        return f"{value * 1000:g}ms"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, rest = divmod(value, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{round(rest, 9):g}s"
    if hours:
        text = f"{hours}h{minutes}m{text}"
    elif minutes:
        text = f"{minutes}m{text}"
    return sign + text


@dataclass(frozen=True)
class Kind:
    """One type."""

    name: str
    check: Callable[[Any], str]
    """What is wrong with a value of a file; empty: nothing."""
    parse: Callable[[str], Any] | None = None
    """Reads a flag. Raises ValueError."""
    plain: Callable[[Any], Any] = lambda value: value
    """Turns a checked value into what :class:`KubeletConfig` holds."""
    switch: bool = False
    """A flag without a value means true."""
    merges: bool = False
    """A flag given several times, or beside the file, adds keys instead of replacing all."""


def _is(wanted: type, words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        right = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
        return "" if right else f"expected {words}, got {value!r}"

    return check


def _each(words: str, right: Callable[[Any], bool]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        return "" if right(value) else f"expected {words}, got {value!r}"

    return check


def _integer(text: str) -> int:
    if not re.fullmatch(r"[-+]?\d{1,18}", text, re.ASCII):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _boolean(text: str) -> bool:
    words = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
    if text.lower() not in words:
        raise ValueError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def _duration(value: Any) -> str:
    if not isinstance(value, str):
        return f"expected a duration like 30s, got {value!r}"
    try:
        seconds(value)
    except ValueError as exc:
        return str(exc)
    return ""


def _checked_duration(text: str) -> str:
    seconds(text)
    return text


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _map(text: str, separator: str = "=") -> dict[str, str]:
    found = {}
    for item in _list(text):
        key, equals, value = item.partition(separator)
        if not equals or not key:
            raise ValueError(f"{item!r} is not KEY{separator}VALUE")
        found[key] = value
    return found


def _headers(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in _list(text):
        key, colon, value = item.partition(":")
        if not colon or not key.strip():
            raise ValueError(f"{item!r} is not KEY:VALUE")
        found.setdefault(key.strip(), []).append(value.strip())
    return found


def _taints(text: str) -> list[dict[str, str]]:
    """``key=value:effect``, as ``--register-with-taints`` has it."""
    found = []
    for item in _list(text):
        rest, _, effect = item.rpartition(":")
        key, _, value = rest.partition("=")
        if not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise ValueError(f"{item!r} is not KEY=VALUE:EFFECT")
        found.append({"key": key, "value": value, "effect": effect})
    return found


def _str_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _bool_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, bool) for each in value.values())


def _str_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _int_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(e, int) and not isinstance(e, bool) for e in value)


def _list_map(value: Any) -> bool:
    return isinstance(value, dict) and all(_str_list(each) for each in value.values())


def _object_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _bools(text: str) -> dict[str, bool]:
    return {key: _boolean(value) for key, value in _map(text).items()}


STRING = Kind("string", _is(str, "a string"), str)
BOOL = Kind("bool", _is(bool, "true or false"), _boolean, switch=True)
INT = Kind("int", _is(int, "a whole number"), _integer)
FLOAT = Kind(
    "float", _each("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)), float
)
DURATION = Kind("duration", _duration, _checked_duration, seconds)
STRINGS = Kind("[]string", _each("a list of strings", _str_list), _list, list)
INTS = Kind("[]int", _each("a list of whole numbers", _int_list), None, list)
MAP = Kind("map[string]string", _each("a mapping of strings to strings", _str_map), _map, dict, merges=True)
THRESHOLDS = Kind(
    "map[string]string",
    _each("a mapping of strings to strings", _str_map),
    lambda text: _map(text, "<"),
    dict,
)
GRACE_PERIODS = Kind(
    "map[string]string",
    _each("a mapping of strings to durations", lambda v: _str_map(v) and not any(map(_duration, v.values()))),
    _map,
    lambda value: {key: seconds(each) for key, each in value.items()},
)
BOOL_MAP = Kind(
    "map[string]bool", _each("a mapping of strings to truth values", _bool_map), _bools, dict, merges=True
)
MULTIMAP = Kind("map[string][]string", _each("a mapping of strings to lists", _list_map), _headers, dict)
TAINTS = Kind("[]Taint", _each("a list of mappings", _object_list), _taints)
OBJECTS = Kind("[]object", _each("a list of mappings", _object_list))
OBJECT = Kind("object", _is(dict, "a mapping"))

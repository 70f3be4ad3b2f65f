"""Label selectors as kubectl's ``-l`` takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from minikubelet.cli.options import CommandError

Labels = Mapping[str, str]
_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)\Z")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*([A-Za-z0-9._-]*)\Z")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})\Z")


def parse(text: str) -> Callable[[Labels], bool]:
    """``a=b,c!=d,e,!f,g in (h,i),j notin (k)`` as a test of labels. Raises CommandError."""
    tests = [_requirement(part.strip(), text) for part in re.split(r",(?![^()]*\))", text) if text.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _requirement(part: str, whole: str) -> Callable[[Labels], bool]:
    if match := _EQUAL.match(part):
        key, operator, value = match[1], match[3], match[4]
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _SET.match(part):
        key, operator = match[1], match[3]
        values = {value.strip() for value in match[4].split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EXISTS.match(part):
        key, wanted = match[2], not match[1]
        return lambda labels: (key in labels) is wanted
    raise CommandError(f"unable to parse label selector {whole!r} at {part!r}", usage=True)

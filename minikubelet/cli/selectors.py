"""Label and field selectors as kubectl's ``-l`` and ``--field-selector`` take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from minikubelet.cli.options import CommandError

Labels = Mapping[str, str]
_KEY = r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\((\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*)\)\Z")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})\Z")
_ORDER = re.compile(rf"({_KEY})\s*([<>])\s*(-?[0-9]+)\Z")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})\Z")


def parse(text: str) -> Callable[[Labels], bool]:
    """``a=b,c!=d,e,!f,g in (h,i),j notin (k),l>1`` as a test of labels. Raises CommandError."""
    tests = [_requirement(part.strip(), text) for part in re.split(r",(?![^()]*\))", text) if text.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _requirement(part: str, whole: str) -> Callable[[Labels], bool]:
    if match := _EQUAL.match(part):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _SET.match(part):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _ORDER.match(part):
        key, limit, above = match[1], int(match[3]), match[2] == ">"
        return lambda labels: _is_beyond(labels.get(key, ""), limit, above=above)
    if match := _EXISTS.match(part):
        key, wanted = match[2], not match[1]
        return lambda labels: (key in labels) is wanted
    raise CommandError(f"unable to parse label selector {whole!r} at {part!r}", usage=True)


def _is_beyond(value: str, limit: int, *, above: bool) -> bool:
    """Whether a label is a whole number above or below another."""
    if not re.fullmatch(r"[-+]?[0-9]{1,19}", value):
        return False
    return int(value) > limit if above else int(value) < limit


_FIELD = re.compile(r"\s*([A-Za-z][A-Za-z.]*)\s*(==|=|!=)\s*([^=!,\s]*)\s*\Z")
_EVERY_KIND = ("metadata.name", "metadata.namespace")
POD_FIELDS = (
    *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
    *("spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"),
)
"""What API servers select pods by, beside names and namespaces."""
EVENT_FIELDS = (
    *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")),
    *("reason", "reportingComponent", "source", "type"),
)


def parse_fields(text: str, known: Collection[str]) -> Callable[[Mapping[str, Any]], bool]:
    """``status.phase=Running,spec.nodeName!=a`` as a test of objects. Raises CommandError."""
    tests: list[tuple[list[str], bool, str]] = []
    for part in text.split(",") if text else ():
        match = _FIELD.match(part)
        if match is None:
            raise CommandError(f"unable to parse field selector {text!r} at {part!r}", usage=True)
        if match[1] not in _EVERY_KIND and match[1] not in known:
            listed = ", ".join((*_EVERY_KIND, *known))
            raise CommandError(f"field label not supported: {match[1]} (supported: {listed})", usage=True)
        tests.append((match[1].split("."), match[2] != "!=", match[3]))
    return lambda item: all((_at(item, path) == value) is equal for path, equal, value in tests)


def _at(item: Any, path: list[str]) -> str:
    for step in path:
        item = item.get(step) if isinstance(item, Mapping) else None
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, Mapping):  # an event's source is told by its component
        item = item.get("component")
    return "" if item is None else str(item)

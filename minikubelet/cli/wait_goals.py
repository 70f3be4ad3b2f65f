"""What ``wait --for`` takes: that a pod is there, that it is gone, or a test of it, with kubectl's rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from minikubelet.cli import json_path
from minikubelet.cli.options import CommandError

Json = dict[str, Any]
_FORMS = "create, delete, condition=NAME[=VALUE], or jsonpath='{PATH}'[=VALUE]"
_JSON_PATH = re.compile(r"((?:==|[!<>]=|[^=])*)(?:=(.*))?\Z", re.S)
"""A path, whose comparisons are no equal sign, and a value."""


@dataclass(frozen=True)
class Goal:
    """One thing to wait for; ``test`` raises CommandError for what can't be compared."""

    kind: Literal["create", "delete", "state"]
    test: Callable[[Json], bool]


def parse(words: Sequence[str]) -> list[Goal]:
    """The goals in their order. Raises CommandError."""
    if not words:
        raise CommandError(f"say what to wait for: --for={_FORMS}", usage=True)
    return [_goal(word) for word in words]


def _goal(word: str) -> Goal:
    if word.lower() == "create":
        return Goal("create", lambda pod: True)
    if word.lower() == "delete":
        return Goal("delete", lambda pod: False)
    form, _, argument = word.partition("=")
    if form == "condition" and argument:
        return Goal("state", _condition(argument))
    if form == "jsonpath":
        return Goal("state", _json_path(argument))
    raise CommandError(f"unrecognized condition: {word!r} (there are {_FORMS})", usage=True)


def _condition(text: str) -> Callable[[Json], bool]:
    name, equals, value = text.partition("=")
    wanted = value if equals else "true"

    def test(pod: Json) -> bool:
        # What is Ready but being removed makes room for what its manifest says now, under the same name.
        if pod["metadata"].get("deletionTimestamp"):
            return False
        status = pod.get("status", {})
        for each in status.get("conditions", []):
            if each.get("type", "").casefold() == name.casefold():
                return _is_current(pod, each) and each.get("status", "").casefold() == wanted.casefold()
        return False

    return test


def _is_current(pod: Json, condition: Json) -> bool:
    """Whether a condition is about the pod as its manifest is now."""
    seen = condition.get("observedGeneration") or pod.get("status", {}).get("observedGeneration")
    return not seen or seen >= pod["metadata"].get("generation", 0)


def _json_path(text: str) -> Callable[[Json], bool]:
    match = _JSON_PATH.match(text)
    assert match is not None
    if not match[1]:
        raise CommandError("jsonpath expression cannot be empty", usage=True)
    find = json_path.path(match[1])
    wanted = None if match[2] is None else match[2].strip("'\"").strip()
    if wanted == "":
        raise CommandError("jsonpath wait has to have a value after the equal sign", usage=True)

    def test(pod: Json) -> bool:
        found = find(pod)
        if not found:
            return False
        if len(found) > 1:
            raise CommandError(f"jsonpath: {match[1]} matches more than one value")
        if wanted is None:
            return True
        if isinstance(found[0], dict | list):
            raise CommandError(f"jsonpath: {match[1]} leads to an object or a list, which can't be compared")
        return json_path.shown(found[0]).strip() == wanted

    return test

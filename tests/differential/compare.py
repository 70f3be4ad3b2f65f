"""Differences between two results, and the list of those that are known and why."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.differential.case import Case

KNOWN = Path(__file__).with_name("differences.toml")
MISSING = "(absent)"


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path: ``pod web.status.phase``; items of lists by name or type where they have one."""
    if isinstance(value, dict) and value:
        return {
            leaf: each
            for key, inner in value.items()
            for leaf, each in flatten(inner, f"{path}.{key}" if path else key).items()
        }
    if isinstance(value, list) and value:
        found: dict[str, Any] = {}
        for index, inner in enumerate(value):
            name = index
            if isinstance(inner, dict):
                named = (inner.get(key) for key in ("name", "type", "mountPath"))
                name = next(filter(None, named), index)
            found |= flatten(inner, f"{path}[{name}]")
        return found
    return {path: value}


def differences(upstream: dict[str, Any], ours: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Path, upstream's and our value of each leaf that differs."""
    left, right = flatten(upstream), flatten(ours)
    for path in sorted({*left, *right}):
        one, other = left.get(path, MISSING), right.get(path, MISSING)
        if one != other:
            yield path, one, other


class Known:
    """``differences.toml``: by patterns of ``CASE: PATH`` why ours is right, or can't be the same.

    ``more`` names further tables, for what depends on the runtime or the lane.
    """

    def __init__(self, *more: str, path: Path = KNOWN) -> None:
        found = tomllib.loads(path.read_text())
        self.tables: dict[str, dict[str, str]] = {n: found.get(n, {}) for n in ("differences", *more)}
        self.reasons = {where: why for table in self.tables.values() for where, why in table.items()}
        self.used: set[str] = set()

    @classmethod
    def over(cls, runtime: str, lane: str = "differential", path: Path = KNOWN) -> Known:
        """Those that hold in a lane over a runtime."""
        return cls(runtime, lane, f"{lane}-{runtime}", path=path)

    def reason(self, case: str, path: str) -> str:
        """Why that difference is accepted; empty if it isn't."""
        where = f"{case}: {path}"
        found = [each for each in self.reasons if fnmatch.fnmatchcase(where, each.replace("[", "[[]"))]
        self.used.update(found)
        return self.reasons[found[0]] if found else ""


def unexplained(case: Case, upstream: dict[str, Any], ours: dict[str, Any], known: Known) -> list[str]:
    """Lines for a person, one a difference that isn't on the list."""
    ignored = [pattern for stage in case.stages for pattern in stage.ignore]
    lines = []
    for path, one, other in differences(upstream, ours):
        if any(fnmatch.fnmatchcase(path, pattern.replace("[", "[[]")) for pattern in ignored):
            continue
        if not known.reason(case.name, path):
            lines.append(f"{path}\n    upstream: {one!r}\n    ours:     {other!r}")
    return lines

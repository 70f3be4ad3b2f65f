"""What may differ, and why: ``differences.toml``, and for families of metrics ``families.toml``."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

from tests.differential.api.shapes import Result
from tests.differential.compare import MISSING, Known, differences

DIFFERENCES = Path(__file__).with_name("differences.toml")
FAMILIES = Path(__file__).with_name("families.toml")
_FAMILY = re.compile(r"body\.families\.(\w+)")


class Accepted:
    """Both lists. ``more`` names further tables of the first one, for what depends on the runtime.

    ``differences.toml`` has ``"GROUP: REQUEST: PATH" = "reason"``, what depends on the machine in a table
    ``varies``; ``families.toml`` has classes of families that only one of the two has, each with its reason.
    """

    def __init__(self, *more: str) -> None:
        self.known = Known("varies", *more, path=DIFFERENCES)
        found: dict[str, dict[str, Any]] = tomllib.loads(FAMILIES.read_text())
        self.patterns = {pattern: each["why"] for each in found.values() for pattern in each["names"]}
        self.used: set[str] = set()
        self._varies = {pattern for each in found.values() if each["varies"] for pattern in each["names"]}
        self._varies |= self.known.tables["varies"].keys()

    def reason(self, group: str, request: str, path: str) -> str:
        """Why that difference is accepted; empty if it isn't."""
        if match := _FAMILY.match(path):
            found = [each for each in self.patterns if fnmatch.fnmatchcase(match[1], each)]
            self.used.update(found)
            if found:
                return str(self.patterns[found[0]])
        return self.known.reason(f"{group}: {request}", path)

    def explains(self, group: str, request: str, path: str, upstream: object, ours: object) -> bool:
        """Whether that difference is accepted; patterns may end with the side that alone has something."""
        side = " (only ours)" if upstream == MISSING else " (only upstream)" if ours == MISSING else ""
        return bool(
            self.reason(group, request, path) or self.known.reason(f"{group}: {request}", path + side)
        )

    def unused(self) -> list[str]:
        """What has never been needed, but for what depends on the machine."""
        never = (self.known.reasons.keys() - self.known.used) | (self.patterns.keys() - self.used)
        return sorted(never - self._varies)


def unexplained(group: str, request: str, upstream: Result, ours: Result, known: Accepted) -> list[str]:
    """Lines for a person, one a difference that isn't on a list."""
    refused = all(each.get("status", 0) >= 400 for each in (upstream, ours))
    lines = []
    for path, one, other in differences(upstream, ours):
        where = f"{path} (refused)" if refused and path == "body" else path
        if not known.explains(group, request, where, one, other):
            lines.append(f"{where}\n    upstream: {one!r}\n    ours:     {other!r}")
    return lines

"""A pod, its events and its last output, and what is found out about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
LogTail = Callable[[str, bool], list[str]]
"""The last lines a container wrote; with True those of the instance before."""


@dataclass
class Finding:
    """One thing that keeps the pod from being Ready: a sentence, what is known of it, what can be done."""

    what: str
    known: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


@dataclass
class Case:
    """A pod and what belongs to it, as the finders below see it."""

    pod: Json
    events: list[Json]
    log_tail: LogTail
    now: float

    @property
    def spec(self) -> Json:
        return dict(self.pod.get("spec", {}))

    @property
    def status(self) -> Json:
        return dict(self.pod.get("status", {}))

    def condition(self, kind: str) -> str:
        """``True``, ``False``, ``Unknown`` or nothing."""
        found = [each.get("status", "") for each in self.status.get("conditions", []) if each["type"] == kind]
        return found[0] if found else ""

    def last_event(self, *reasons: str, container: str = "", holding: str = "") -> str:
        """The message of the latest event with one of ``reasons``, about ``container`` if named."""
        latest = ""
        for event in sorted(self.events, key=lambda each: str(each.get("lastTimestamp", ""))):
            where = event.get("involvedObject", {}).get("fieldPath", "")
            about = not container or where.endswith(f"{{{container}}}")
            if event.get("reason") in reasons and about and holding in event.get("message", ""):
                latest = str(event.get("message", ""))
        return latest

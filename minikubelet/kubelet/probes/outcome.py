"""What one attempt of a probe can end in."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """The result of one attempt; a warning counts as success but is worth an event."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt's verdict and what a person should read about it."""

    verdict: Verdict
    message: str = ""


class ProbeError(Exception):
    """The probe itself could not be made, so that nothing is known: bad port name, runtime away, broken body.

    Upstream tries such a probe three times in a row and then drops the result. ``state`` is its word for the
    result in the event.
    """

    def __init__(self, message: str, state: str = "unknown") -> None:
        super().__init__(message)
        self.state = state


def success(message: str = "") -> Outcome:
    """A good outcome."""
    return Outcome(Verdict.SUCCESS, message)


def failure(message: str) -> Outcome:
    """A bad outcome."""
    return Outcome(Verdict.FAILURE, message)

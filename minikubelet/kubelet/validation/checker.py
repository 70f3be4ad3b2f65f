"""Collecting problems under field paths, and the checks that many fields share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import Path, dotted

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
PORT_NAME = re.compile(r"(?!.*--)(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*\Z")

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character"
)


@dataclass
class Problem(ManifestError):
    """A ManifestError that knows its path, so that the line can be found."""

    path: Path = ()


class Checker:
    """Collects problems under a path."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, path: Path, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(message, field=dotted(path), path=path))

    def required(self, path: Path, value: object) -> bool:
        """Whether there is a value; if not, that is a problem."""
        if value in ("", None, [], {}):
            self.add(path, "Required value")
            return False
        return True

    def invalid(self, path: Path, value: object, why: str) -> None:
        """Add "Invalid value"."""
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        self.add(path, f"Invalid value: {shown}: {why}")

    def one_of(self, path: Path, value: str, allowed: Iterable[str]) -> None:
        """Check for one of some words."""
        choices = list(allowed)
        if value not in choices:
            words = ", ".join(f'"{each}"' for each in choices)
            self.add(path, f'Unsupported value: "{value}": supported values: {words}')

    def dns_label(self, path: Path, value: str) -> bool:
        """Check for an RFC 1123 label; whether it is one."""
        if not self.required(path, value):
            return False
        if len(value) > 63:
            self.invalid(path, value, "must be no more than 63 bytes")
        elif not LABEL.match(value):
            self.invalid(path, value, LABEL_RULE)
        else:
            return True
        return False

    def unique(self, path: Path, values: Iterable[str]) -> None:
        """``values`` are the names of the items of the list at ``path``."""
        seen: set[str] = set()
        for index, value in enumerate(values):
            if value and value in seen:
                self.add((*path, index, "name"), f'Duplicate value: "{value}"')
            seen.add(value)

    def at_least(self, path: Path, value: int, least: int) -> None:
        """Check a lower bound."""
        if value < least:
            self.invalid(path, value, f"must be greater than or equal to {least}")

    def port(self, path: Path, value: int) -> None:
        """Check for a port number."""
        if not 1 <= value <= 65535:
            self.invalid(path, value, "must be between 1 and 65535, inclusive")


def check_id(check: Checker, path: Path, value: int | None) -> None:
    """Check for a user or group ID, if there is one."""
    if value is not None and not 0 <= value <= 2**31 - 1:
        check.invalid(path, value, "must be between 0 and 2147483647, inclusive")

"""What is wrong with a manifest, and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ManifestError(Exception):
    """One problem in a manifest: file, line (0 if unknown), field path (empty if none), what is wrong."""

    message: str
    field: str = ""
    line: int = 0
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line and self.file else self.file
        if self.line and not self.file:
            place = f"line {self.line}"
        return ": ".join(part for part in (place, self.field, self.message) if part)

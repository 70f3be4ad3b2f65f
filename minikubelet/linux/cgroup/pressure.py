"""Pressure stall information of a cgroup (kernel's accounting/psi document)."""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.linux.cgroup.files import nested, read


@dataclass(frozen=True)
class Stall:
    """One line: share of time lost, per cent over 10, 60 and 300 seconds; ``total`` in microseconds."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total: int = 0


@dataclass(frozen=True)
class Pressure:
    """``some``: at least one task waited; ``full``: all did."""

    some: Stall
    full: Stall


def stats(folder: str, resource: str) -> Pressure | None:
    """Pressure on ``cpu``, ``memory`` or ``io``; None where the kernel has none. Raises OSError."""
    text = read(folder, f"{resource}.pressure")
    if text is None:
        return None
    lines = nested(text)
    return Pressure(_stall(lines.get("some", {})), _stall(lines.get("full", {})))


def _stall(values: dict[str, str]) -> Stall:
    return Stall(
        float(values.get("avg10", 0)),
        float(values.get("avg60", 0)),
        float(values.get("avg300", 0)),
        int(values.get("total", 0)),
    )

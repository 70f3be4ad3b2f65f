"""Counters, gauges and histograms, and Prometheus' text format 0.0.4.

Counting happens on the paths that work on pods, so it is an addition in a dictionary and nothing more.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line; ``suffix`` is added to the family's name."""

    labels: Mapping[str, str]
    value: float
    suffix: str = ""
    timestamp_ms: int = 0
    """Wall clock; 0: not said."""


@dataclass(slots=True)
class Family:
    """A metric with its samples."""

    name: str
    help: str
    type: str
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, labels: Mapping[str, str] | None = None, timestamp_ms: int = 0) -> None:
        """One more sample."""
        self.samples.append(Sample(labels or {}, value, "", timestamp_ms))


class Counter:
    """Only ever grows; ``labels`` are the values of ``names``, in order."""

    def __init__(self, name: str, help: str, names: Sequence[str] = ()) -> None:
        self.name, self.help, self.names = name, help, tuple(names)
        self.values: dict[Labels, float] = {} if names else {(): 0.0}

    def inc(self, labels: Labels = (), by: float = 1.0) -> None:
        """One (or ``by``) more."""
        self.values[labels] = self.values.get(labels, 0.0) + by

    def family(self) -> Family:
        """What is to be shown now."""
        samples = [
            Sample(dict(zip(self.names, key, strict=True)), value) for key, value in self.values.items()
        ]
        # Other names break Prometheus' rules; the name is what people rely on.
        kind = "counter" if self.name.endswith("_total") else "untyped"
        return Family(self.name, self.help, kind, samples)


class Level(Counter):
    """A counter that goes down as well."""

    def set(self, value: float, labels: Labels = ()) -> None:
        """So much from now on."""
        self.values[labels] = value

    def family(self) -> Family:
        """What is to be shown now."""
        family = super().family()
        family.type = "gauge"
        return family


class Histogram:
    """How often values were at most so much."""

    def __init__(
        self, name: str, help: str, names: Sequence[str] = (), buckets: Sequence[float] = DEFAULT_BUCKETS
    ) -> None:
        self.name, self.help, self.names, self.buckets = name, help, tuple(names), tuple(buckets)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not names:
            self._counts[()], self._sums[()] = [0] * (len(self.buckets) + 1), 0.0

    def observe(self, value: float, labels: Labels = ()) -> None:
        """One value."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self.buckets) + 1)
            self._sums[labels] = 0.0
        counts[bisect.bisect_left(self.buckets, value)] += 1
        self._sums[labels] += value

    def forget(self, labels: Labels) -> None:
        """What it is about is gone."""
        self._counts.pop(labels, None)
        self._sums.pop(labels, None)

    def family(self) -> Family:
        """What is to be shown now."""
        family = Family(self.name, self.help, "histogram")
        for key, counts in self._counts.items():
            labels = dict(zip(self.names, key, strict=True))
            total = 0
            for bound, count in zip((*self.buckets, float("inf")), counts, strict=True):
                total += count
                family.samples.append(Sample({**labels, "le": _number(bound)}, total, "_bucket"))
            family.samples.append(Sample(labels, self._sums[key], "_sum"))
            family.samples.append(Sample(labels, total, "_count"))
        return family


class Group:
    """Counters and histograms that belong together, each an attribute."""

    def families(self) -> list[Family]:
        """What is to be shown of all, in the order they were made."""
        found: list[Family] = []
        for each in vars(self).values():
            if isinstance(each, Counter | Histogram):
                found.append(each.family())
            elif isinstance(each, Group):
                found += each.families()
        return found


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """``count`` bounds, each ``factor`` times the one before."""
    return tuple(round(start * factor**step, 12) for step in range(count))


def gauge(name: str, help: str, value: float, **labels: str) -> Family:
    """A family of one sample."""
    return Family(name, help, "gauge", [Sample(labels, value)])


def render(families: Iterable[Family]) -> str:
    """The text format: a family's lines together, each series once. Families without samples are left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        help = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {family.name} {help}", f"# TYPE {family.name} {family.type}"]
        lines += [_line(family.name, sample) for sample in family.samples]
    return "\n".join([*lines, ""])


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
    line = f"{name}{sample.suffix}{{{labels}}} " if labels else f"{name}{sample.suffix} "
    line += _number(sample.value)
    return f"{line} {sample.timestamp_ms}" if sample.timestamp_ms else line


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e17 else repr(float(value))

"""The table that people read and the JSON that tools read."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

from tests.bench.measures import Bench, Measure

OURS, PEER = "minikubelet", "containerd"


def rows(bench: Bench) -> list[dict[str, Any]]:
    """One row a measure: medians, the ratio of ours to the peer's, and whether that is what was wanted."""
    made = []
    for measure, samples in bench.samples.items():
        medians = {name: statistics.median(values) for name, values in samples.items()}
        ratio = medians[OURS] / medians[PEER] if medians.keys() >= {OURS, PEER} else None
        made.append(
            {
                "title": measure.title.format(clients=bench.clients, pods=bench.pods),
                "unit": measure.unit,
                "medians": medians,
                "ratio": ratio,
                "wanted": wanted(measure),
                "met": met(measure, medians, ratio),
                "samples": dict(samples),
            }
        )
    return made


def wanted(measure: Measure) -> str:
    if not measure.wanted:
        return ""
    if measure.absolute:
        return f"<= {measure.wanted:g} {measure.unit}"
    return f">= {measure.wanted:g}x" if measure.more_is_better else f"<= {fraction(measure.wanted)}"


def met(measure: Measure, medians: dict[str, float], ratio: float | None) -> bool | None:
    """None where there is no wish, or nothing to hold against it."""
    value = medians.get(OURS) if measure.absolute else ratio
    if not measure.wanted or value is None:
        return None
    return value >= measure.wanted if measure.more_is_better else value <= measure.wanted


def fraction(ratio: float) -> str:
    """A ratio as people say it: 1/9.3, or 1.20x."""
    if ratio >= 1:
        return f"{ratio:.2f}x" if ratio > 1 else "1"
    return f"1/{1 / ratio:.1f}".removesuffix(".0")


def table(bench: Bench) -> str:
    names = [contender.name for contender in bench.contenders]
    lines = [["", *names, "ratio", "wanted", ""]]
    for row in rows(bench):
        values = [
            f"{row['medians'][name]:.2f} {row['unit']}" if name in row["medians"] else "" for name in names
        ]
        verdict = {None: "", True: "met", False: "MISSED"}[row["met"]]
        ratio = "" if row["ratio"] is None else fraction(row["ratio"])
        lines.append([row["title"], *values, ratio, row["wanted"], verdict])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    aligned = (
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    with open("/proc/cpuinfo") as cpuinfo:
        models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "python": platform.python_version(),
        "cgroup": "v2" if unified else "hybrid (containerd on v1)",
        "load": os.getloadavg()[0],
    }

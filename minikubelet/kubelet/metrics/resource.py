"""/metrics/resource: CPU and memory of node, pods and containers, for the metrics server (KEP-1867)."""

from __future__ import annotations

from typing import Any

from minikubelet.base.clock import parse_rfc3339
from minikubelet.kubelet.metrics.families import Family, gauge

Json = dict[str, Any]

_WHERE = {
    "node": "consumed by the node",
    "pod": "consumed by the pod",
    "container": "consumed by the container",
}
_NANO = 1e-9


def resource_families(summary: Json | None) -> list[Family]:
    """From a Summary; None: it couldn't be had, which is told too."""
    made: dict[str, Family] = {}
    if summary is not None:
        _add(made, "node", summary["node"], {})
        for pod in summary["pods"]:
            labels = {"pod": pod["podRef"]["name"], "namespace": pod["podRef"]["namespace"]}
            _add(made, "pod", pod, labels)
            for container in pod["containers"]:
                _add(made, "container", container, {"container": container["name"]} | labels)
    help = "1 if there was an error while getting container metrics, 0 otherwise"
    return [*made.values(), gauge("resource_scrape_error", help, float(summary is None))]


def _add(made: dict[str, Family], who: str, stats: Json, labels: dict[str, str]) -> None:
    def put(name: str, help: str, kind: str, part: str, key: str, factor: float = 1) -> None:
        value = stats.get(part, {}).get(key)
        if value is not None:
            family = made.setdefault(f"{who}_{name}", Family(f"{who}_{name}", help, kind))
            family.add(value * factor, labels, _milliseconds(stats[part]["time"]))

    cpu = f"Cumulative cpu time {_WHERE[who]} in core-seconds"
    put("cpu_usage_seconds_total", cpu, "counter", "cpu", "usageCoreNanoSeconds", _NANO)
    memory = f"Current working set of the {who} in bytes"
    put("memory_working_set_bytes", memory, "gauge", "memory", "workingSetBytes")
    swap = f"Current swap usage of the {who} in bytes"
    put("swap_usage_bytes", swap, "gauge", "swap", "swapUsageBytes")
    if who == "container":
        used, free = (stats.get("swap", {}).get(key) for key in ("swapUsageBytes", "swapAvailableBytes"))
        if used is not None and free is not None:
            stats = stats | {"swap": stats["swap"] | {"limit": used + free}}
            put("swap_limit_bytes", "Current swap limit of the container in bytes", "gauge", "swap", "limit")
        name, help = "start_time_seconds", "Start time of the container since unix epoch in seconds"
        family = made.setdefault(f"{who}_{name}", Family(f"{who}_{name}", help, "gauge"))
        family.add(_milliseconds(stats["startTime"]) / 1000, labels)


def _milliseconds(stamp: str) -> int:
    """RFC 3339 in UTC as milliseconds since the epoch, to the second."""
    return parse_rfc3339(f"{stamp[:19]}Z") // 1_000_000

"""CRI statistics as the parts of upstream's stats v1alpha1 Summary."""

from __future__ import annotations

from typing import Any

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.stats.machine import stamp

Json = dict[str, Any]


def cpu(usage: api.CpuUsage) -> Json:
    """CPUStats."""
    found: Json = {"time": stamp(usage.timestamp)}
    _put(found, "usageNanoCores", usage, "usage_nano_cores")
    _put(found, "usageCoreNanoSeconds", usage, "usage_core_nano_seconds")
    return found | _psi(usage)


def memory(usage: api.MemoryUsage) -> Json:
    """MemoryStats."""
    found: Json = {"time": stamp(usage.timestamp)}
    for key, name in (
        ("availableBytes", "available_bytes"),
        ("usageBytes", "usage_bytes"),
        ("workingSetBytes", "working_set_bytes"),
        ("rssBytes", "rss_bytes"),
        ("pageFaults", "page_faults"),
        ("majorPageFaults", "major_page_faults"),
    ):
        _put(found, key, usage, name)
    return found | _psi(usage)


def swap(usage: api.SwapUsage) -> Json:
    """SwapStats."""
    found: Json = {"time": stamp(usage.timestamp)}
    _put(found, "swapAvailableBytes", usage, "swap_available_bytes")
    _put(found, "swapUsageBytes", usage, "swap_usage_bytes")
    return found


def network(usage: api.NetworkUsage) -> Json:
    """NetworkStats."""
    found: Json = {"time": stamp(usage.timestamp)}
    if usage.HasField("default_interface"):
        found |= _interface(usage.default_interface)
    else:
        found["name"] = ""
    return found | {"interfaces": [_interface(each) for each in usage.interfaces]}


def filesystem(usage: api.FilesystemUsage, whole: Json) -> Json:
    """FsStats of a writable layer, on the file system described by ``whole``."""
    found = dict(whole) | {"time": stamp(usage.timestamp)}
    for key in ("usedBytes", "inodesUsed"):
        found.pop(key, None)
    _put(found, "usedBytes", usage, "used_bytes")
    _put(found, "inodesUsed", usage, "inodes_used")
    return found


def _interface(usage: api.NetworkInterfaceUsage) -> Json:
    found: Json = {"name": usage.name}
    for key, name in (
        ("rxBytes", "rx_bytes"),
        ("rxErrors", "rx_errors"),
        ("txBytes", "tx_bytes"),
        ("txErrors", "tx_errors"),
    ):
        _put(found, key, usage, name)
    return found


def _put(target: Json, key: str, message: Any, name: str) -> None:
    if message.HasField(name):
        target[key] = getattr(message, name).value


def _psi(usage: api.CpuUsage | api.MemoryUsage | api.IoUsage) -> Json:
    if not usage.HasField("psi"):
        return {}
    return {"psi": {kind.lower(): _psi_data(getattr(usage.psi, kind)) for kind in ("Full", "Some")}}


def _psi_data(data: api.PsiData) -> Json:
    return {"total": data.Total, "avg10": data.Avg10, "avg60": data.Avg60, "avg300": data.Avg300}


def io(usage: api.IoUsage) -> Json:
    """IOStats."""
    return {"time": stamp(usage.timestamp)} | _psi(usage)

"""Volumes and logs on /metrics: how many volumes; sizes of claims and logs, from the Summary."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from minikubelet.kubelet.metrics.families import Family
from minikubelet.kubelet.objects import Pod

Json = dict[str, Any]

_VOLUME = (
    ("capacity_bytes", "Capacity in bytes of the volume", "capacityBytes"),
    ("available_bytes", "Number of available bytes in the volume", "availableBytes"),
    ("used_bytes", "Number of used bytes in the volume", "usedBytes"),
    ("inodes", "Maximum number of inodes in the volume", "inodes"),
    ("inodes_free", "Number of free inodes in the volume", "inodesFree"),
    ("inodes_used", "Number of used inodes in the volume", "inodesUsed"),
)


_PLUGINS = {
    "empty_dir": "empty-dir",
    "config_map": "configmap",
    "secret": "secret",
    "downward_api": "downward-api",
    "projected": "projected",
}
"""Volumes that the kubelet makes, and what upstream calls its plug-ins for them after ``kubernetes.io/``."""


def volume_family(pods: Iterable[Pod], pods_dir: str) -> Family:
    """How many volumes pods that run are to have, and how many are there, by plug-in."""
    wanted, there = Counter[str](), Counter[str]()
    for pod in pods:
        if pod.status.phase not in ("Succeeded", "Failed"):
            for volume in pod.spec.volumes:
                wanted.update(
                    f"kubernetes.io/{name}" for kind, name in _PLUGINS.items() if getattr(volume, kind)
                )
        folder = os.path.join(pods_dir, pod.uid, "volumes")
        for plugin in _names(folder):
            there[plugin.replace("~", "/")] += len(_names(os.path.join(folder, plugin)))
    family = Family("volume_manager_total_volumes", "Number of volumes that the kubelet makes.", "gauge")
    for state, counted in (("actual_state_of_world", there), ("desired_state_of_world", wanted)):
        for plugin, count in sorted(counted.items()):
            family.add(count, {"plugin_name": plugin, "state": state})
    return family


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def disk_families(summary: Json | None) -> list[Family]:
    """Claims once each, however many pods use them; None: nothing is known."""
    pods: list[Json] = summary["pods"] if summary is not None else []
    claims: dict[tuple[str, str], Json] = {}
    logs = Family(
        "kubelet_container_log_filesystem_used_bytes",
        "Bytes used by the container's logs on the filesystem.",
        "gauge",
    )
    for pod in pods:
        where = pod["podRef"]
        for volume in pod.get("volume", ()):
            if claim := volume.get("pvcRef"):
                claims.setdefault((claim["namespace"], claim["name"]), volume)
        for container in pod["containers"]:
            if "logs" in container:
                labels = {"uid": where["uid"], "namespace": where["namespace"], "pod": where["name"]}
                logs.add(container["logs"]["usedBytes"], labels | {"container": container["name"]})
    families = [logs]
    for name, help, key in _VOLUME:
        family = Family(f"kubelet_volume_stats_{name}", help, "gauge")
        for (namespace, claim), volume in sorted(claims.items()):
            if key in volume:
                family.add(volume[key], {"namespace": namespace, "persistentvolumeclaim": claim})
        families.append(family)
    return families

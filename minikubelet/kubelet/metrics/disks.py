"""Sizes of claims and of containers' logs on /metrics, from the Summary."""

from __future__ import annotations

from typing import Any

from minikubelet.kubelet.metrics.families import Family

Json = dict[str, Any]

_VOLUME = (
    ("capacity_bytes", "Capacity in bytes of the volume", "capacityBytes"),
    ("available_bytes", "Number of available bytes in the volume", "availableBytes"),
    ("used_bytes", "Number of used bytes in the volume", "usedBytes"),
    ("inodes", "Maximum number of inodes in the volume", "inodes"),
    ("inodes_free", "Number of free inodes in the volume", "inodesFree"),
    ("inodes_used", "Number of used inodes in the volume", "inodesUsed"),
)


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

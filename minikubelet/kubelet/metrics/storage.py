"""What is counted of volumes: how long making them took, and what was left of pods that are gone."""

from __future__ import annotations

from minikubelet.kubelet.metrics.families import Group, Histogram, Level

_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0)
MOUNT = "volume_mount"
"""Upstream's name of the operation that makes a volume for a pod."""


class StorageInstruments(Group):
    """One kubelet's."""

    def __init__(self) -> None:
        self.seconds = Histogram(
            "storage_operation_duration_seconds",
            "Duration in seconds of operations on volumes.",
            ("volume_plugin", "operation_name", "status", "migrated"),
            _BUCKETS,
        )
        self.total_seconds = Histogram(
            "volume_operation_total_seconds",
            "Duration in seconds of operations on volumes from the beginning to a good end.",
            ("plugin_name", "operation_name"),
            _BUCKETS,
        )
        self.cleaned = Level(
            "kubelet_orphan_pod_cleaned_volumes",
            "The number of pods without a manifest whose volumes were removed at the last sweep.",
        )
        self.not_cleaned = Level(
            "kubelet_orphan_pod_cleaned_volumes_errors",
            "The number of pods without a manifest whose volumes could not be removed at the last sweep.",
        )

    def operated(self, plugin: str, operation: str, seconds: float, *, well: bool) -> None:
        """Something was done with a volume; ``plugin`` is upstream's name, with ``kubernetes.io/``."""
        status = "success" if well else "fail-unknown"
        self.seconds.observe(seconds, (plugin, operation, status, "false"))
        if well:
            self.total_seconds.observe(seconds, (plugin, operation))

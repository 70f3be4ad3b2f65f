"""What is counted of images: how they were had, how long pulls took, how image volumes went."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from minikubelet.kubelet.metrics.families import Counter, Group, Histogram

_FAILED = "ImageVolumeMountFailed"
"""How a runtime's error begins (cri-api, pkg/errors)."""
_MIB, _GIB = 1 << 20, 1 << 30
_SIZES = (
    (10 * _MIB, "0-10MB"),
    (100 * _MIB, "10MB-100MB"),
    (500 * _MIB, "100MB-500MB"),
    (_GIB, "500MB-1GB"),
    (5 * _GIB, "1GB-5GB"),
    (10 * _GIB, "5GB-10GB"),
    (20 * _GIB, "10GB-20GB"),
    (30 * _GIB, "20GB-30GB"),
    (40 * _GIB, "30GB-40GB"),
    (60 * _GIB, "40GB-60GB"),
    (100 * _GIB, "60GB-100GB"),
)
"""Upstream's classes of sizes: images below so many bytes, and the class's name."""
_PULL_BUCKETS = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)


class ImageInstruments(Group):
    """One kubelet's."""

    def __init__(self) -> None:
        self.requests = Counter(
            "kubelet_image_manager_ensure_image_requests_total",
            "Number of times that a container's image was asked for, by policy and what came of it.",
            ("pull_policy", "present_locally", "pull_required"),
        )
        self.pull_seconds = Histogram(
            "kubelet_image_pull_duration_seconds",
            "Duration in seconds to pull an image, by its size; waiting for other pulls counts too.",
            ("image_size_in_bytes",),
            _PULL_BUCKETS,
        )
        self.checks = Counter(
            "kubelet_imagemanager_image_mustpull_checks_total",
            "Number of times that a pod's right to an image that is there was checked, by result.",
            ("result",),
        )
        self.volumes_requested = Counter(
            "kubelet_image_volume_requested_total", "Number of image volumes that containers asked for."
        )
        self.volumes_mounted = Counter(
            "kubelet_image_volume_mounted_succeed_total", "Number of image volumes that were mounted."
        )
        self.volumes_failed = Counter(
            "kubelet_image_volume_mounted_errors_total", "Number of image volumes that could not be mounted."
        )
        self.collected = Counter(
            "kubelet_image_garbage_collected_total",
            "Total number of images garbage collected, for their age or for space.",
            ("reason",),
        )

        plugin = ("plugin_name",)
        self.provider_seconds = Histogram(
            "kubelet_credential_provider_plugin_duration",
            "Duration in seconds until a credential provider has answered.",
            plugin,
        )
        self.provider_errors = Counter(
            "kubelet_credential_provider_plugin_errors_total",
            "Number of times that a credential provider has failed.",
            plugin,
        )

    def asked(self, policy: str, *, present: bool | None, pull: bool | None) -> None:
        """An image was asked for; None: nobody knows."""
        self.requests.inc((policy.lower(), _word(present), _word(pull)))

    @contextlib.contextmanager
    def mounting(self, volumes: int) -> Iterator[None]:
        """Around making a container that mounts so many image volumes."""
        try:
            yield
        except Exception as exc:
            if _FAILED in str(exc):
                self.volumes_failed.inc(by=volumes)
            raise
        self.volumes_mounted.inc(by=volumes)

    def pulled(self, size: int, seconds: float) -> None:
        """An image of so many bytes was pulled."""
        self.pull_seconds.observe(seconds, (size_class(size),))


def size_class(size: int) -> str:
    """Upstream's name for images of about that many bytes."""
    return next((name for below, name in _SIZES if size < below), "GT100GB")


def _word(value: bool | None) -> str:
    return "unknown" if value is None else str(value).lower()

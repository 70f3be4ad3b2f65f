"""What is counted where resources are given out: admission, CPUs, devices, resizes, PodResources."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable

from minikubelet.kubelet.metrics.families import Counter, Family, Group, Histogram
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.containers import ResourceRequirements
from minikubelet.kubelet.objects.quantity import parse

_REASONS = frozenset(
    (
        *("AppArmor", "PodOSNotSupported", "UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory"),
        *("OutOfephemeral-storage", "OutOfpods", "Evicted", "SysctlForbidden", "NodeShutdown"),
    )
)
"""Reasons that are told apart: upstream's that we give, for a label mustn't take any value."""
_RESIZE_BUCKETS = (10, 50, 100, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 1.2e5, 3e5, 6e5)
_VERSION = ("v1",)


class AllocationInstruments(Group):
    """One kubelet's."""

    def __init__(self) -> None:
        self.rejections = Counter(
            "kubelet_admission_rejections_total",
            "Cumulative number of pods that were not admitted, by reason.",
            ("reason",),
        )
        self.pinning_requests = Counter(
            "kubelet_cpu_manager_pinning_requests_total",
            "The number of containers that asked for CPUs of their own.",
        )
        self.pinning_errors = Counter(
            "kubelet_cpu_manager_pinning_errors_total",
            "The number of pods that could not have the CPUs of their own that they asked for.",
        )
        self._of_devices()
        self._of_resizes()

    def _of_devices(self) -> None:
        self.registrations = Counter(
            "kubelet_device_plugin_registration_total",
            "Cumulative number of device plugins that have registered, by resource.",
            ("resource_name",),
        )
        self.allocation_seconds = Histogram(
            "kubelet_device_plugin_alloc_duration_seconds",
            "Duration in seconds until a device plugin has given devices out, by resource.",
            ("resource_name",),
        )
        name = "kubelet_pod_resources_endpoint"
        version = ("server_api_version",)
        self.endpoint_requests = Counter(
            f"{name}_requests_total", "Cumulative number of requests to PodResources.", version
        )
        self.endpoint = {
            verb: (
                Counter(f"{name}_requests_{part}", f"Number of {verb} requests to PodResources.", version),
                Counter(f"{name}_errors_{part}", f"Number of {verb} requests that have failed.", version),
            )
            for verb, part in (
                ("List", "list"),
                ("GetAllocatableResources", "get_allocatable"),
                ("Get", "get"),
            )
        }

    def _of_resizes(self) -> None:
        self.resizes = Counter(
            "kubelet_container_requested_resizes_total",
            "Number of amounts of containers that were to be changed, by what was to become of them.",
            ("resource", "requirement", "operation"),
        )
        self.resize_milliseconds = Histogram(
            "kubelet_pod_resize_duration_milliseconds",
            "Duration in milliseconds to give a pod's containers other amounts.",
            ("success",),
            _RESIZE_BUCKETS,
        )
        self.infeasible = Counter(
            "kubelet_pod_infeasible_resizes_total",
            "Number of resizes that this node can't grant at all.",
            ("reason_detail",),
        )
        self.accepted = Counter(
            "kubelet_pod_deferred_accepted_resizes_total",
            "Number of resizes that were granted after they had been deferred.",
            ("retry_trigger",),
        )

    def rejected(self, reason: str) -> None:
        """A pod was not admitted."""
        if reason not in _REASONS:
            reason = "OutOfExtendedResources" if reason.startswith("OutOf") else "Other"
        self.rejections.inc((reason,))

    def resized(self, before: ResourceRequirements, after: ResourceRequirements) -> None:
        """A container is to have other amounts."""
        for part in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                old, new = (parse(getattr(each, part).get(resource, 0)) for each in (before, after))
                if old != new:
                    operation = "increase" if new > old else "decrease"
                    operation = "add" if not old else "remove" if not new else operation
                    self.resizes.inc((resource, part, operation))

    def asked(self, verb: str, *, well: bool) -> None:
        """PodResources answered a request."""
        requests, errors = self.endpoint[verb]
        self.endpoint_requests.inc(_VERSION)
        requests.inc(_VERSION)
        if not well:
            errors.inc(_VERSION)

    def families(self) -> list[Family]:
        """See :class:`Group`."""
        endpoint = [counter.family() for pair in self.endpoint.values() for counter in pair]
        return [*super().families(), *endpoint]


def resize_families(pods: Iterable[Pod]) -> list[Family]:
    """Resizes that wait or are under way, as the pods' conditions have it."""
    waiting = Counts[str]()
    moving = 0
    for condition in (each for pod in pods for each in pod.status.conditions):
        if condition.type == "PodResizePending":
            waiting[condition.reason.lower()] += 1
        moving += condition.type == "PodResizeInProgress"
    pending = Family("kubelet_pod_pending_resizes", "Number of resizes that wait, by reason.", "gauge")
    for reason, count in waiting.items():
        pending.add(count, {"reason": reason})
    progress = Family("kubelet_pod_in_progress_resizes", "Number of resizes that are under way.", "gauge")
    progress.add(moving)
    return [pending, progress]

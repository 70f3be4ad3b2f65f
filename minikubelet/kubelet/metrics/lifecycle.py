"""What is counted of following the runtime: lists, and its stream of events."""

from __future__ import annotations

from minikubelet.base import clock
from minikubelet.kubelet.metrics.families import Counter, Group, Histogram


class LifecycleInstruments(Group):
    """One kubelet's."""

    def __init__(self) -> None:
        self.relist_seconds = Histogram(
            "kubelet_pleg_relist_duration_seconds", "Duration in seconds for listing the pods of the runtime."
        )
        self.relist_interval = Histogram(
            "kubelet_pleg_relist_interval_seconds", "Seconds between two lists of the runtime's pods."
        )
        self.pod_relist_seconds = Histogram(
            "kubelet_pleg_pod_relist_duration_seconds",
            "Duration in seconds for listing one pod's containers.",
        )
        self.streams = Counter(
            "kubelet_evented_pleg_connection_success_count",
            "The number of times that the runtime's stream of events was asked for.",
        )
        self.stream_errors = Counter(
            "kubelet_evented_pleg_connection_error_count",
            "The number of times that the runtime's stream of events broke off or could not be had.",
        )
        self.latency = Histogram(
            "kubelet_evented_pleg_connection_latency_seconds",
            "Seconds from an event in the runtime until the kubelet has heard of it.",
        )
        self.last_relist = 0.0
        """Monotonic seconds of the last list; 0: there was none."""
        self.last_relist_wall = 0.0

    def relisted(self, seconds: float) -> None:
        """The runtime's pods were listed, in so many seconds."""
        now = clock.monotonic()
        self.relist_seconds.observe(seconds)
        if self.last_relist:
            self.relist_interval.observe(now - self.last_relist)
        self.last_relist, self.last_relist_wall = now, clock.now_ns() / 1e9

    def heard(self, created_ns: int) -> None:
        """An event has come; when it happened, by the wall clock."""
        if created_ns:
            self.latency.observe(max(0.0, (clock.now_ns() - created_ns) / 1e9))

"""What the kubelet itself counts, under upstream's names (pkg/kubelet/metrics)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from minikubelet.base import clock
from minikubelet.base.errors import NodeError
from minikubelet.kubelet.metrics.families import Counter, Family, Histogram, Level, exponential
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.sinks import StatusSink

_START_BUCKETS = (
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    20.0,
    30.0,
    45.0,
    60.0,
    120.0,
    300.0,
)
_OPERATION_BUCKETS = exponential(0.005, 2.5, 14)


class Instruments:
    """One kubelet's counters."""

    def __init__(self) -> None:
        self._of_the_runtime()
        self._of_the_kubelet()
        self.last_relist = 0.0
        """Monotonic seconds of the last list; 0: there was none."""
        self.last_relist_wall = 0.0

    def _of_the_runtime(self) -> None:
        seconds = "Duration in seconds"
        self.operations = Counter(
            "kubelet_runtime_operations_total",
            "Cumulative number of runtime operations by operation type.",
            ("operation_type",),
        )
        self.operation_errors = Counter(
            "kubelet_runtime_operations_errors_total",
            "Cumulative number of runtime operation errors by operation type.",
            ("operation_type",),
        )
        self.operation_seconds = Histogram(
            "kubelet_runtime_operations_duration_seconds",
            f"{seconds} of runtime operations by operation type.",
            ("operation_type",),
            _OPERATION_BUCKETS,
        )
        self.run_sandbox = Histogram(
            "kubelet_run_podsandbox_duration_seconds",
            f"{seconds} of the run_podsandbox operations by RuntimeClass handler.",
            ("runtime_handler",),
        )
        self.run_sandbox_errors = Counter(
            "kubelet_run_podsandbox_errors_total",
            "Cumulative number of run_podsandbox errors by RuntimeClass handler.",
            ("runtime_handler",),
        )
        self.started_pods = Counter("kubelet_started_pods_total", "Cumulative number of pods started.")
        self.started_pods_errors = Counter(
            "kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods."
        )
        self.started_containers = Counter(
            "kubelet_started_containers_total",
            "Cumulative number of containers started.",
            ("container_type",),
        )
        self.started_containers_errors = Counter(
            "kubelet_started_containers_errors_total",
            "Cumulative number of errors when starting containers.",
            ("container_type", "code"),
        )
        self.terminated_containers = Counter(
            "kubelet_terminated_containers_total",
            "Cumulative number of containers that have ended.",
            ("container_type", "exit_code", "reason"),
        )
        self.relist_seconds = Histogram(
            "kubelet_pleg_relist_duration_seconds", f"{seconds} for listing the pods of the runtime."
        )
        self.relist_interval = Histogram(
            "kubelet_pleg_relist_interval_seconds", "Seconds between two lists of the runtime's pods."
        )

    def _of_the_kubelet(self) -> None:
        seconds = "Duration in seconds"
        self.pod_start = Histogram(
            "kubelet_pod_start_duration_seconds",
            f"{seconds} from the kubelet seeing a pod first until it runs.",
            (),
            _START_BUCKETS,
        )
        self.evictions = Counter(
            "kubelet_evictions",
            "Cumulative number of pod evictions by eviction signal.",
            ("eviction_signal",),
        )
        self.images_collected = Counter(
            "kubelet_image_garbage_collected_total",
            "Total number of images garbage collected, for their age or for space.",
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
        self.cgroup_seconds = Histogram(
            "kubelet_cgroup_manager_duration_seconds",
            f"{seconds} for operations on the pods' cgroups, by operation type.",
            ("operation_type",),
        )
        self.containers_per_pod = Histogram(
            "kubelet_containers_per_pod_count",
            "The number of containers per pod.",
            (),
            exponential(1, 2, 5),
        )
        self.worker_seconds = Histogram(
            "kubelet_pod_worker_duration_seconds",
            f"{seconds} to sync a pod once, by operation type.",
            ("operation_type",),
        )
        self.image_pull = Histogram(
            "kubelet_image_pull_duration_seconds",
            f"{seconds} to pull an image.",
            (),
            (1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 180.0, 300.0, 600.0),
        )
        self.http_requests = Counter(
            "kubelet_http_requests_total",
            "Number of the HTTP requests received since the server started.",
            ("method", "path", "server_type", "long_running"),
        )
        self.http_inflight = Level(
            "kubelet_http_inflight_requests",
            "Number of the HTTP requests that are being served.",
            ("method", "path", "server_type", "long_running"),
        )
        self.http_seconds = Histogram(
            "kubelet_http_requests_duration_seconds",
            f"{seconds} to serve HTTP requests.",
            ("method", "path", "server_type", "long_running"),
        )

    def operation(self, name: str, seconds: float, error: NodeError | None) -> None:
        """A call to the runtime has ended."""
        key = (name,)
        self.operations.inc(key)
        self.operation_seconds.observe(seconds, key)
        if error is not None:
            self.operation_errors.inc(key)
        if name == "run_podsandbox":
            self.run_sandbox.observe(seconds, ("",))
            self.started_pods.inc()
            if error is not None:
                self.run_sandbox_errors.inc(("",))
                self.started_pods_errors.inc()
        elif name == "pull_image" and error is None:
            self.image_pull.observe(seconds)

    @contextlib.contextmanager
    def timed_sync(self, pod: Pod) -> Iterator[None]:
        """Around one look at a pod and what follows from it."""
        operation = "sync" if pod.status.start_time else "create"
        began = clock.monotonic()
        try:
            yield
        finally:
            self.worker_seconds.observe(clock.monotonic() - began, (operation,))

    def relisted(self, seconds: float) -> None:
        """The runtime's pods were listed, in so many seconds."""
        now = clock.monotonic()
        self.relist_seconds.observe(seconds)
        if self.last_relist:
            self.relist_interval.observe(now - self.last_relist)
        self.last_relist, self.last_relist_wall = now, clock.now_ns() / 1e9

    def families(self) -> list[Family]:
        """Everything that is shown on /metrics."""
        counted = [each for each in vars(self).values() if isinstance(each, Counter | Histogram)]
        return [each.family() for each in counted]


_KINDS = (
    ("container", "container_statuses"),
    ("init_container", "init_container_statuses"),
    ("ephemeral_container", "ephemeral_container_statuses"),
)
"""Upstream's ``container_type``, and where in a pod's status those containers are."""


class StartMeter:
    """A status sink before another: measures from a pod's first status until it runs; counts what ends."""

    def __init__(self, sink: StatusSink, instruments: Instruments) -> None:
        self._sink = sink
        self._instruments = instruments
        self._seen: dict[str, float | None] = {}
        self._ended: dict[str, set[str]] = {}

    def update(self, pod: Pod) -> None:
        """See :class:`StatusSink`."""
        phase = pod.status.phase
        if pod.uid not in self._seen:
            # A pod that is first seen running was started by an earlier kubelet.
            self._seen[pod.uid] = None if phase == "Running" else clock.monotonic()
            self._instruments.containers_per_pod.observe(len(pod.spec.containers))
            # So is what has ended in one that is further than that.
            self._count_ends(pod, to_count=phase == "Pending")
        else:
            self._count_ends(pod)
        if phase == "Running" and (began := self._seen[pod.uid]) is not None:
            self._instruments.pod_start.observe(clock.monotonic() - began)
            self._seen[pod.uid] = None
        self._sink.update(pod)

    def _count_ends(self, pod: Pod, *, to_count: bool = True) -> None:
        """Each container that has ended once: by its ID, for the next one may be there already."""
        known = self._ended.setdefault(pod.uid, set())
        now: set[str] = set()
        for kind, where in _KINDS:
            for status in getattr(pod.status, where):
                for ended in (status.state.terminated, status.last_state.terminated):
                    if ended is None or not ended.container_id:
                        continue
                    now.add(ended.container_id)
                    if to_count and ended.container_id not in known:
                        labels = (kind, str(ended.exit_code), ended.reason)
                        self._instruments.terminated_containers.inc(labels)
        self._ended[pod.uid] = now

    def remove(self, pod: Pod) -> None:
        """See :class:`StatusSink`."""
        self._seen.pop(pod.uid, None)
        self._ended.pop(pod.uid, None)
        self._sink.remove(pod)

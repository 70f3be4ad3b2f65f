"""What the kubelet itself counts, under upstream's names (pkg/kubelet/metrics)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from minikubelet.base import clock
from minikubelet.base.errors import NodeError
from minikubelet.kubelet.metrics.allocation import AllocationInstruments
from minikubelet.kubelet.metrics.families import Counter, Group, Histogram, Level, exponential
from minikubelet.kubelet.metrics.images import ImageInstruments
from minikubelet.kubelet.metrics.lifecycle import LifecycleInstruments
from minikubelet.kubelet.metrics.starts import StartInstruments
from minikubelet.kubelet.metrics.storage import StorageInstruments
from minikubelet.kubelet.objects import Pod

_OPERATION_BUCKETS = exponential(0.005, 2.5, 14)


class Instruments(Group):
    """One kubelet's; what belongs together is in groups of its own."""

    def __init__(self) -> None:
        self._of_the_runtime()
        self._of_the_kubelet()
        self._of_the_api()
        self.starts = StartInstruments()
        self.images = ImageInstruments()
        self.allocation = AllocationInstruments()
        self.storage = StorageInstruments()
        self.lifecycle = LifecycleInstruments()

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
        self.user_namespaced_pods = Counter(
            "kubelet_started_user_namespaced_pods_total",
            "Cumulative number of pods with user namespaces started.",
        )
        self.user_namespaced_pods_errors = Counter(
            "kubelet_started_user_namespaced_pods_errors_total",
            "Cumulative number of errors when starting pods with user namespaces.",
        )

    def _of_the_kubelet(self) -> None:
        seconds = "Duration in seconds"
        self.evictions = Counter(
            "kubelet_evictions",
            "Cumulative number of pod evictions by eviction signal.",
            ("eviction_signal",),
        )
        self.eviction_age = Histogram(
            "kubelet_eviction_stats_age_seconds",
            "Seconds from a measurement to the eviction of a pod because of it, by eviction signal.",
            ("eviction_signal",),
        )
        self.cgroup_seconds = Histogram(
            "kubelet_cgroup_manager_duration_seconds",
            f"{seconds} for operations on the pods' cgroups, by operation type.",
            ("operation_type",),
        )
        self.worker_seconds = Histogram(
            "kubelet_pod_worker_duration_seconds",
            f"{seconds} to sync a pod once, by operation type.",
            ("operation_type",),
        )
        self.worker_start = Histogram(
            "kubelet_pod_worker_start_duration_seconds",
            f"{seconds} from the kubelet seeing a pod until it is worked on.",
        )
        self.restarted_pods = Counter(
            "kubelet_restarted_pods_total",
            "Number of pods that have gone and come again with the same UID.",
            ("static",),
        )
        self.restarted_pods.values = {("true",): 0.0, ("",): 0.0}
        self.orphaned_pods = Counter(
            "kubelet_orphaned_runtime_pods_total",
            "Number of pods of this kubelet that were found in the runtime and in no source.",
        )
        self.shutdown_began = Level(
            "kubelet_graceful_shutdown_start_time_seconds",
            "When the last graceful shutdown of the node began (Unix time).",
        )
        self.shutdown_ended = Level(
            "kubelet_graceful_shutdown_end_time_seconds",
            "When the last graceful shutdown of the node ended (Unix time).",
        )
        self.http_fallbacks = Counter(
            "kubelet_lifecycle_handler_http_fallbacks_total",
            "The number of hooks meant for HTTPS that were carried out over HTTP.",
        )
        self.cut_sleeps = Counter(
            "kubelet_sleep_action_terminated_early_total",
            "The number of sleep hooks that ended before their time.",
        )

    def _of_the_api(self) -> None:
        seconds = "Duration in seconds"
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
        self.websockets = Counter(
            "kubelet_websocket_streaming_requests_total",
            "Number of WebSockets with v5.channel.k8s.io or a tunnel that were asked for.",
            ("subresource",),
        )

    def operation(self, name: str, seconds: float, error: NodeError | None) -> None:
        """A call to the runtime has ended."""
        key = (name,)
        self.operations.inc(key)
        self.operation_seconds.observe(seconds, key)
        if error is not None:
            self.operation_errors.inc(key)

    @contextlib.contextmanager
    def starting_pod(self, handler: str, *, user_namespace: bool) -> Iterator[None]:
        """Around making a pod's sandbox; ``handler`` is its RuntimeClass's."""
        began = clock.monotonic()
        self.started_pods.inc()
        if user_namespace:
            self.user_namespaced_pods.inc()
        try:
            yield
        except NodeError:
            self.run_sandbox_errors.inc((handler,))
            self.started_pods_errors.inc()
            if user_namespace:
                self.user_namespaced_pods_errors.inc()
            raise
        finally:
            self.run_sandbox.observe(clock.monotonic() - began, (handler,))

    @contextlib.contextmanager
    def timed_sync(self, pod: Pod) -> Iterator[None]:
        """Around one look at a pod and what follows from it."""
        operation = "sync" if pod.status.start_time else "create"
        began = clock.monotonic()
        try:
            yield
        finally:
            self.worker_seconds.observe(clock.monotonic() - began, (operation,))

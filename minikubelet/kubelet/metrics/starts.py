"""How long pods take to start, and which containers have ended: read off their statuses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from minikubelet.base import clock
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.metrics.families import Counter, Group, Histogram, Level, exponential
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.sinks import StatusSink

_BUCKETS = (
    *(0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600),
    *(900, 1200, 1800, 2700, 3600),
)
_KINDS = (
    ("container", "container_statuses"),
    ("init_container", "init_container_statuses"),
    ("ephemeral_container", "ephemeral_container_statuses"),
)
"""Upstream's ``container_type``, and where in a pod's status those containers are."""
_STATELESS = ("secret", "config_map", "downward_api", "empty_dir", "projected")
_OVER = ("Succeeded", "Failed")


class StartInstruments(Group):
    """One kubelet's."""

    def __init__(self) -> None:
        seconds = "Duration in seconds from the kubelet seeing a pod first until"
        self.phase = Histogram("kubelet_pod_start_duration_seconds", f"{seconds} it runs.", (), _BUCKETS)
        self.total = Histogram(
            "kubelet_pod_start_total_duration_seconds", f"{seconds} all its containers run.", (), _BUCKETS
        )
        self.sli = Histogram(
            "kubelet_pod_start_sli_duration_seconds",
            f"{seconds} all its containers run, less the time for pulls and init containers.",
            (),
            _BUCKETS,
        )
        self.first = Level(
            "kubelet_first_network_pod_start_sli_duration_seconds",
            "What the first pod with a network of its own took to start, less pulls and init containers.",
        )
        self.containers_per_pod = Histogram(
            "kubelet_containers_per_pod_count",
            "The number of containers per pod.",
            (),
            exponential(1, 2, 5),
        )
        self.terminated = Counter(
            "kubelet_terminated_containers_total",
            "Cumulative number of containers that have ended.",
            ("container_type", "exit_code", "reason"),
        )


@dataclass(slots=True)
class _Start:
    """A pod that is on its way up; monotonic seconds."""

    began: float
    running: bool = False
    """Its phase has been Running."""
    init: float | None = None
    """Since when an init container runs."""
    busy: list[tuple[float, float]] = field(default_factory=list)
    """When images were pulled for it and init containers ran."""


class StartMeter:
    """A status sink before another: measures from a pod's first status until it runs; counts what ends."""

    def __init__(self, sink: StatusSink, counted: StartInstruments) -> None:
        self._sink = sink
        self._counted = counted
        self._starts: dict[str, _Start | None] = {}
        self._ended: dict[str, set[str]] = {}

    def pulled(self, uid: str, seconds: float) -> None:
        """An image was pulled for that pod until now."""
        if (start := self._starts.get(uid)) is not None:
            now = clock.monotonic()
            start.busy.append((now - seconds, now))

    def update(self, pod: Pod) -> None:
        """See :class:`StatusSink`."""
        phase = pod.status.phase
        if pod.uid not in self._starts:
            # A pod that is first seen running was started by an earlier kubelet.
            self._starts[pod.uid] = None if phase == "Running" else _Start(clock.monotonic())
            self._counted.containers_per_pod.observe(len(pod.spec.containers))
            # So is what has ended in one that is further than that.
            self._count_ends(pod, to_count=phase == "Pending")
        else:
            self._count_ends(pod)
        if (start := self._starts[pod.uid]) is not None:
            self._follow(pod, start)
        self._sink.update(pod)

    def _follow(self, pod: Pod, start: _Start) -> None:
        now = clock.monotonic()
        if pod.status.phase == "Running" and not start.running:
            start.running = True
            self._counted.phase.observe(now - start.began)
        if _initializes(pod):
            start.init = now if start.init is None else start.init
        elif start.init is not None:
            start.busy.append((start.init, now))
            start.init = None
        if pod.status.phase in _OVER:
            self._starts[pod.uid] = None
        elif start.running and _all_run(pod):
            self._starts[pod.uid] = None
            self._started(pod, start, now - start.began)

    def _started(self, pod: Pod, start: _Start, took: float) -> None:
        self._counted.total.observe(took)
        if not all(any(getattr(each, kind) for kind in _STATELESS) for each in pod.spec.volumes):
            return  # how long other volumes take isn't the node's doing (Kubernetes' pod start-up SLI)
        took -= covered(start.busy)
        self._counted.sli.observe(took)
        if not pod.spec.host_network and not self._counted.first.values[()]:
            self._counted.first.set(took)

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
                        self._counted.terminated.inc((kind, str(ended.exit_code), ended.reason))
        self._ended[pod.uid] = now

    def remove(self, pod: Pod) -> None:
        """See :class:`StatusSink`."""
        self._starts.pop(pod.uid, None)
        self._ended.pop(pod.uid, None)
        self._sink.remove(pod)


def _initializes(pod: Pod) -> bool:
    """Whether an init container runs that the others wait for."""
    sidecars = {each.name for each in pod.spec.init_containers if is_sidecar(each)}
    statuses = pod.status.init_container_statuses
    return any(each.state.running is not None and each.name not in sidecars for each in statuses)


def _all_run(pod: Pod) -> bool:
    return all(each.state.running is not None for each in pod.status.container_statuses)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds within at least one of the spans."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total

"""All probes of a node: which run, what is known, who is told."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from minikubelet.base import clock as wall
from minikubelet.kubelet.metrics.families import Histogram
from minikubelet.kubelet.objects.containers import Container, Probe
from minikubelet.kubelet.probes import execs, grpc_health, http, tcp
from minikubelet.kubelet.probes.outcome import Outcome, ProbeError, Verdict
from minikubelet.kubelet.probes.ports import resolve_port
from minikubelet.kubelet.probes.worker import INITIAL, Clock, Kind, Result, Settings, Worker

log = logging.getLogger(__name__)

BREATH = 0.05
"""Seconds that a container gets to open its port where the manifest has no delay: a miss costs a period.

Upstream's first probe comes at a random point of the first period.
"""
EARLY = (0.003, 0.006, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.27, 0.4, 0.6, 0.8)
"""Seconds after the start at which probes for startup and readiness over the network ask already.

Most programs open their port within milliseconds. What fails then counts for nothing and is told to nobody.
"""
FIRST = 1.0
"""Seconds after the start at which such a probe's failures begin to count, unless its period is shorter."""
UNHEALTHY = "Unhealthy"
PROBE_WARNING = "ProbeWarning"


@dataclass(frozen=True, slots=True)
class Target:
    """The container instance that is probed."""

    pod_uid: str
    container: Container
    container_id: str
    pod_ip: str
    started_at: int = 0
    """Wall-clock nanoseconds, as CRI's ContainerStatus.started_at; 0: now."""
    started: bool = False
    """Already known to have passed its startup probe (the daemon came back)."""
    ready: bool = False
    """Already known to be ready."""


@dataclass(frozen=True, slots=True)
class ProbeUpdate:
    """The known result of a container's probe has changed."""

    target: Target
    kind: Kind
    result: Result
    message: str
    """As in the event: ``Liveness probe failed: HTTP probe failed with statuscode: 500``."""
    grace_period: int | None = None
    """The probe's own terminationGracePeriodSeconds, for the restart that a failure causes."""


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """Worth an event about the container: every failed, warned or impossible attempt."""

    target: Target
    reason: str
    """``Unhealthy`` or ``ProbeWarning``; the event's type is Warning."""
    message: str


@dataclass
class _Group:
    """The probes of one container instance."""

    target: Target
    started_at: float
    workers: dict[Kind, Worker] = field(default_factory=dict)


class ProbeManager:
    """Runs every probe on its own timer and in its own task: a slow one delays no other.

    ``exec_sync`` is the runtime's (see :data:`execs.ExecSync`). ``on_result`` hears of changes of what is
    known, ``on_event`` of what upstream makes an event of. Both run in the event loop and must not block.
    """

    def __init__(
        self,
        exec_sync: execs.ExecSync,
        on_result: Callable[[ProbeUpdate], None],
        on_event: Callable[[ProbeEvent], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._exec_sync = exec_sync
        self._on_result = on_result
        self._on_event = on_event
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._born = self._clock.time()
        self._groups: dict[tuple[str, str], _Group] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        """How many attempts ended how: pod UID, container, ``Liveness``, ``successful`` or ``failed``.

        Those that couldn't be made aren't among them, as in upstream's prober_probe_total.
        """
        self.seconds = probe_histogram()
        """How long attempts took that succeeded."""

    # --- what is known ---------------------------------------------------------------------------------

    def result(self, pod_uid: str, container: str, kind: Kind) -> Result | None:
        """What is known of a container; None when it has no such probe or isn't probed."""
        group = self._groups.get((pod_uid, container))
        worker = group.workers.get(kind) if group else None
        return worker.result if worker else None

    def is_started(self, pod_uid: str, container: str) -> bool:
        """Whether the startup probe has succeeded or there is none; False while the container isn't added."""
        group = self._groups.get((pod_uid, container))
        return group is not None and self._has_started(group)

    def is_ready(self, pod_uid: str, container: str) -> bool:
        """Whether a running container counts as ready as far as probes go."""
        if not self.is_started(pod_uid, container):
            return False
        return self.result(pod_uid, container, Kind.READINESS) in (None, Result.SUCCESS)

    @property
    def count(self) -> int:
        """Probes that exist."""
        return sum(len(group.workers) for group in self._groups.values())

    # --- what runs -------------------------------------------------------------------------------------

    def add(self, target: Target) -> None:
        """Probe a container that runs; another instance of the same container takes the former's place."""
        key = (target.pod_uid, target.container.name)
        present = self._groups.get(key)
        if present is not None:
            if present.target.container_id == target.container_id:
                return
            self._stop(self._groups.pop(key))
        age = max(0, wall.now_ns() - target.started_at) / 1e9 if target.started_at else 0.0
        group = _Group(target, self._clock.time() - age)
        self._groups[key] = group
        for kind, probe in _probes(target.container):
            group.workers[kind] = self._worker(group, kind, probe)
        self._seed(group)
        for worker in group.workers.values():
            if worker.kind is Kind.STARTUP or self._has_started(group):
                self._start(group, worker)

    def remove(self, pod_uid: str, container: str = "") -> None:
        """Stop the probes of a container, or of the whole pod; unknown ones are fine."""
        if not container:
            for counted in [counted for counted in self.counts if counted[0] == pod_uid]:
                del self.counts[counted]
                self.seconds.forget(counted[:3])
        for key in [key for key in self._groups if key[0] == pod_uid and container in ("", key[1])]:
            self._stop(self._groups.pop(key))

    def stop_liveness(self, pod_uid: str) -> None:
        """The pod is being terminated: no restarts any more, readiness goes on (as upstream)."""
        for (uid, _), group in self._groups.items():
            if uid == pod_uid:
                for kind in (Kind.LIVENESS, Kind.STARTUP):
                    if kind in group.workers:
                        self._halt(group.workers[kind])

    async def close(self) -> None:
        """Stop everything and wait until it has stopped."""
        for group in self._groups.values():
            self._stop(group)
        self._groups.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _worker(self, group: _Group, kind: Kind, probe: Probe) -> Worker:
        settings = Settings.of(probe)

        def notify(worker: Worker, outcome: Outcome | ProbeError, changed: bool) -> None:
            self._report(group, worker, probe, outcome, changed)

        worker = Worker(kind, settings, self._attempt(group.target, probe, settings), notify, self._clock)
        worker.by_network = probe.exec is None
        return worker

    def _attempt(self, target: Target, probe: Probe, settings: Settings) -> Callable[[], Awaitable[Outcome]]:
        """A function that makes one attempt; what the manifest fixes is worked out once."""
        container, timeout = target.container, settings.timeout
        try:
            if probe.exec is not None:
                command = execs.expand_static(probe.exec.command, container)
                return lambda: execs.probe(self._exec_sync, target.container_id, command, timeout)
            if probe.http_get is not None:
                request = http.new_request(probe.http_get, container, target.pod_ip)
                return lambda: http.probe(request, timeout)
            if probe.tcp_socket is not None:
                host, port = (
                    probe.tcp_socket.host or target.pod_ip,
                    resolve_port(probe.tcp_socket.port, container),
                )
                return lambda: tcp.probe(host, port, timeout)
            if probe.grpc is not None:
                number, service = resolve_port(probe.grpc.port, container), probe.grpc.service or ""
                return lambda: grpc_health.probe(target.pod_ip, number, service, timeout)
            raise ProbeError(f"missing probe handler for {target.pod_uid}:{container.name}")
        except ProbeError as exc:
            error = exc
        return lambda: _impossible(error)

    def _seed(self, group: _Group) -> None:
        target, workers = group.target, group.workers
        if target.started and Kind.STARTUP in workers:
            workers[Kind.STARTUP].thresholds.result = Result.SUCCESS
            workers[Kind.STARTUP].on_hold = True
        if target.ready and Kind.READINESS in workers:
            workers[Kind.READINESS].thresholds.result = Result.SUCCESS

    def _has_started(self, group: _Group) -> bool:
        startup = group.workers.get(Kind.STARTUP)
        return startup is None or startup.result is Result.SUCCESS

    def _start(self, group: _Group, worker: Worker) -> None:
        if worker.on_hold:
            return
        settings = worker.settings
        eager = worker.by_network and worker.kind is not Kind.LIVENESS and not settings.initial_delay
        delay = settings.initial_delay or (min(FIRST, settings.period) if eager else BREATH)
        now = self._clock.time()
        first = max(group.started_at + delay, now)
        if group.started_at < self._born:
            # Containers found at start would all be probed at once; upstream spreads them over a period too.
            first += random.random() * settings.period
        early = [at for each in EARLY if now <= (at := group.started_at + each) < first] if eager else []
        worker.start(first, early)

    def _halt(self, worker: Worker) -> None:
        task = worker.stop()
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _stop(self, group: _Group) -> None:
        for worker in group.workers.values():
            self._halt(worker)

    # --- what is said ----------------------------------------------------------------------------------

    def _report(
        self, group: _Group, worker: Worker, probe: Probe, outcome: Outcome | ProbeError, changed: bool
    ) -> None:
        target, word = group.target, worker.kind.value
        container = target.container.name
        if isinstance(outcome, Outcome):
            ended = "failed" if outcome.verdict is Verdict.FAILURE else "successful"
            self.counts[target.pod_uid, container, word, ended] += 1
            if ended == "successful":
                self.seconds.observe(worker.seconds, (target.pod_uid, container, word))
        message = _describe(word, outcome)
        if message and self._on_event is not None:
            warned = isinstance(outcome, Outcome) and outcome.verdict is Verdict.WARNING
            self._on_event(ProbeEvent(target, PROBE_WARNING if warned else UNHEALTHY, message))
        if not changed:
            return
        if worker.kind is Kind.STARTUP and worker.result is Result.SUCCESS:
            for other in group.workers.values():
                if other is not worker:
                    self._start(group, other)
        update = ProbeUpdate(
            target,
            worker.kind,
            worker.result,
            message or f"{word} probe succeeded",
            probe.termination_grace_period_seconds,
        )
        self._on_result(update)


def probe_histogram() -> Histogram:
    """By pod UID, container and kind of probe; whoever shows it knows the pods' names."""
    return Histogram(
        "prober_probe_duration_seconds",
        "Duration in seconds for a probe response.",
        ("pod_uid", "container", "probe_type"),
    )


def _probes(container: Container) -> list[tuple[Kind, Probe]]:
    found = (
        (Kind.STARTUP, container.startup_probe),
        (Kind.LIVENESS, container.liveness_probe),
        (Kind.READINESS, container.readiness_probe),
    )
    return [(kind, probe) for kind, probe in found if probe is not None]


async def _impossible(error: ProbeError) -> Outcome:
    raise error


def _describe(word: str, outcome: Outcome | ProbeError) -> str:
    if isinstance(outcome, ProbeError):
        return f"{word} probe errored and resulted in {outcome.state} state: {outcome}"
    if outcome.verdict is Verdict.WARNING:
        return f"{word} probe warning: {outcome.message}"
    if outcome.verdict is Verdict.FAILURE:
        return f"{word} probe failed: {outcome.message}"
    return ""


__all__ = ["INITIAL", "Kind", "ProbeEvent", "ProbeManager", "ProbeUpdate", "Result", "Target"]

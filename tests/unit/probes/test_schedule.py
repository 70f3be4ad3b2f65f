"""Schedules and thresholds of probes, on a clock that the tests move."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from minikubelet.base import clock as wall
from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.objects.containers import Container, EnvVar, ExecAction, HTTPGetAction, Probe
from minikubelet.kubelet.probes import http, manager
from minikubelet.kubelet.probes.manager import ProbeEvent, ProbeManager, ProbeUpdate, Target
from minikubelet.kubelet.probes.outcome import Outcome, Verdict
from minikubelet.kubelet.probes.worker import Kind, Result


class Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """Monotonic time that only `run_until` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def create_task(self, coroutine: Coroutine[Any, Any, None], /) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine)

    async def run_until(self, when: float) -> None:
        await settle()
        while self._timers and self._timers[0][0] <= when:
            at, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if timer.callback is not None:
                timer.callback()
                await settle()
        self.now = when

    async def run_for(self, seconds: float) -> None:
        await self.run_until(self.now + seconds)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Node:
    """A probe manager whose exec probes answer from `codes` (by command; the last for ever)."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.codes: dict[str, list[int | Exception | asyncio.Future[int]]] = {}
        self.tried: list[tuple[str, float]] = []
        self.updates: list[tuple[Kind, Result]] = []
        self.full: list[ProbeUpdate] = []
        self.events: list[str] = []
        self.manager = ProbeManager(self.exec_sync, self.on_result, self.on_event, self.clock)

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> Any:
        self.tried.append((command[0], self.clock.now - 1000))
        answers = self.codes.get(command[0], [0])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, asyncio.Future):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=b"out ", stderr=b"err", exit_code=answer)

    def on_result(self, update: ProbeUpdate) -> None:
        self.updates.append((update.kind, update.result))
        self.full.append(update)

    def on_event(self, event: ProbeEvent) -> None:
        self.events.append(f"{event.reason}: {event.message}")

    def add(self, container_id: str = "c1", *, age: float = 0, **probes: Any) -> None:
        more = {name: probes.pop(name) for name in ("started", "ready") if name in probes}
        target = Target(
            "uid",
            Container(name="app", **probes),
            container_id,
            "127.0.0.1",
            wall.now_ns() - int(age * 1e9) if age else 0,
            **more,
        )
        self.manager.add(target)

    def times(self, command: str) -> list[float]:
        return [round(at, 3) for name, at in self.tried if name == command]


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(manager, "BREATH", 0)
    return Node()


def probe(command: str, **more: Any) -> Probe:
    return Probe(exec=ExecAction(command=[command]), **more)


async def test_first_probe_after_the_delay_then_every_period(node: Node) -> None:
    node.add(liveness_probe=probe("l", initial_delay_seconds=5, period_seconds=3))
    await node.clock.run_for(15)
    assert node.times("l") == [5, 8, 11, 14]
    assert node.updates == []  # liveness starts out as success


async def test_without_a_delay_a_container_gets_a_moment(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "BREATH", 0.05)
    node.add(readiness_probe=probe("r", period_seconds=2))
    node.add("old", readiness_probe=probe("r", period_seconds=2))
    await node.clock.run_for(3)
    assert node.times("r") == [0.05, 2.05]


async def test_defaults_are_upstreams(node: Node) -> None:
    node.codes["l"] = [1]
    node.add(liveness_probe=probe("l"))
    await node.clock.run_for(60)
    assert node.times("l") == [0, 10, 20]
    assert node.updates == [(Kind.LIVENESS, Result.FAILURE)]


async def test_readiness_is_a_failure_until_proven(node: Node) -> None:
    node.codes["r"] = [1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 0]
    node.add(readiness_probe=probe("r", period_seconds=1, success_threshold=2, failure_threshold=3))
    assert not node.manager.is_ready("uid", "app")
    await node.clock.run_for(1)
    assert node.updates == []
    await node.clock.run_for(1)
    assert node.updates == [(Kind.READINESS, Result.SUCCESS)]
    assert node.manager.is_ready("uid", "app")
    await node.clock.run_for(6)
    assert len(node.updates) == 1  # two failures, one success, two failures: below the threshold
    await node.clock.run_for(1)
    assert node.updates[1:] == [(Kind.READINESS, Result.FAILURE)]
    assert not node.manager.is_ready("uid", "app")
    await node.clock.run_for(2)
    assert node.updates[2:] == [(Kind.READINESS, Result.SUCCESS)]


async def test_a_liveness_failure_ends_probing_until_a_new_container(node: Node) -> None:
    node.codes["l"] = [1, 1, 0]
    settings = {"period_seconds": 1, "failure_threshold": 2, "termination_grace_period_seconds": 7}
    node.add(liveness_probe=probe("l", **settings))
    await node.clock.run_for(10)
    assert node.times("l") == [0, 1]
    assert node.full[0].message == "Liveness probe failed: out err"
    assert node.full[0].grace_period == 7
    assert node.manager.result("uid", "app", Kind.LIVENESS) is Result.FAILURE
    node.add("c2", liveness_probe=probe("l", **settings))
    assert node.manager.result("uid", "app", Kind.LIVENESS) is Result.SUCCESS
    await node.clock.run_for(1)
    assert node.times("l") == [0, 1, 10, 11]


async def test_other_probes_wait_for_startup(node: Node) -> None:
    node.codes["s"] = [1, 1, 0]
    node.add(
        startup_probe=probe("s", period_seconds=2, failure_threshold=5),
        liveness_probe=probe("l", period_seconds=10),
        readiness_probe=probe("r", period_seconds=10, initial_delay_seconds=6),
    )
    await node.clock.run_for(3.9)
    assert node.times("l") == node.times("r") == []
    assert not node.manager.is_started("uid", "app")
    await node.clock.run_for(20)
    assert node.times("s") == [0, 2, 4]  # and never again
    assert node.times("l") == [4, 14]
    assert node.times("r") == [6, 16]
    assert node.updates == [(Kind.STARTUP, Result.SUCCESS), (Kind.READINESS, Result.SUCCESS)]


async def test_a_failed_startup_stops_everything(node: Node) -> None:
    node.codes["s"] = [1]
    node.add(startup_probe=probe("s", period_seconds=1, failure_threshold=2), readiness_probe=probe("r"))
    await node.clock.run_for(10)
    assert node.times("s") == [0, 1]
    assert node.times("r") == []
    assert node.updates == [(Kind.STARTUP, Result.FAILURE)]


async def test_every_failure_is_an_event_every_change_a_result(node: Node) -> None:
    node.codes["r"] = [1]
    node.add(readiness_probe=probe("r", period_seconds=1, failure_threshold=3))
    await node.clock.run_for(3)
    assert node.events == ["Unhealthy: Readiness probe failed: out err"] * 4
    assert node.updates == []  # it was not ready before either


async def test_a_command_that_times_out_fails(node: Node) -> None:
    node.codes["l"] = [NodeError(Code.DEADLINE_EXCEEDED, "command sleep timed out")]
    node.add(liveness_probe=probe("l", failure_threshold=1))
    await node.clock.run_for(1)
    assert node.updates == [(Kind.LIVENESS, Result.FAILURE)]
    assert node.events == ['Unhealthy: Liveness probe failed: command timed out: "l" timed out after 1s']


async def test_an_impossible_probe_is_tried_three_times_and_says_nothing(node: Node) -> None:
    node.codes["l"] = [NodeError(Code.UNAVAILABLE, "runtime is away")]
    node.add(liveness_probe=probe("l", failure_threshold=1))
    await node.clock.run_for(1)
    assert len(node.tried) == 3
    assert node.updates == []
    assert node.events == ["Unhealthy: Liveness probe errored and resulted in unknown state: runtime is away"]
    assert not node.manager.counts
    node.add("c2", liveness_probe=Probe(http_get=HTTPGetAction(port="nope"), failure_threshold=1))
    await node.clock.run_for(1)
    assert node.updates == [] and node.events[-1].endswith("port nope not found")


async def test_a_slow_probe_delays_no_other_and_runs_again_at_once(node: Node) -> None:
    slow: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    node.codes["slow"] = [slow, 0]
    node.add(liveness_probe=probe("slow", period_seconds=2), readiness_probe=probe("quick", period_seconds=1))
    await node.clock.run_for(5.5)
    assert node.times("slow") == [0]
    assert node.times("quick") == [0, 1, 2, 3, 4, 5]
    slow.set_result(0)
    await node.clock.run_for(2)
    assert node.times("slow") == [0, 5.5, 6]


async def test_removed_probes_stop_and_late_answers_are_dropped(node: Node) -> None:
    pending: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    node.codes["l"] = [pending]
    node.add(liveness_probe=probe("l", failure_threshold=1))
    await node.clock.run_for(1)
    node.manager.remove("uid")
    await node.manager.close()
    assert pending.cancelled()
    await node.clock.run_for(60)
    assert (len(node.tried), node.updates, node.events, node.manager.count) == (1, [], [], 0)


async def test_termination_silences_liveness_but_not_readiness(node: Node) -> None:
    node.codes |= {"l": [1], "r": [0, 1]}
    node.add(
        liveness_probe=probe("l", period_seconds=1, initial_delay_seconds=1),
        readiness_probe=probe("r", period_seconds=1, failure_threshold=1),
    )
    await node.clock.run_for(0)
    node.manager.stop_liveness("uid")
    await node.clock.run_for(2)
    assert node.times("l") == []
    assert node.updates == [(Kind.READINESS, Result.SUCCESS), (Kind.READINESS, Result.FAILURE)]


async def test_containers_found_at_start_are_spread_over_a_period(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.25)
    node.add(
        age=3600,
        started=True,
        ready=True,
        startup_probe=probe("s"),
        readiness_probe=probe("r", period_seconds=8),
    )
    assert node.manager.is_ready("uid", "app")  # known before, so it doesn't flap
    await node.clock.run_for(9)
    assert node.times("s") == []
    assert node.times("r") == [2]


async def test_the_delay_counts_from_the_containers_start(node: Node) -> None:
    await node.clock.run_for(100)
    node.add(age=4, liveness_probe=probe("l", initial_delay_seconds=5))
    await node.clock.run_for(2)
    assert len(node.times("l")) == 1 and 100.9 <= node.times("l")[0] <= 101.1


async def test_commands_see_the_manifests_variables(node: Node) -> None:
    seen: list[list[str]] = []

    async def exec_sync(container_id: str, command: list[str], timeout: float) -> Any:
        seen.append(command)
        return SimpleNamespace(stdout=b"", stderr=b"", exit_code=0)

    probes = ProbeManager(exec_sync, node.on_result, clock=node.clock)
    words = ["$(A)", "x$(A)y", "$$(A)", "$(B)", "$A", "$"]
    check = Probe(exec=ExecAction(command=words))
    container = Container(name="app", env=[EnvVar(name="A", value="1")], liveness_probe=check)
    probes.add(Target("uid", container, "c", "127.0.0.1"))
    await node.clock.run_for(1)
    assert seen == [["1", "x1y", "$(A)", "$(B)", "$A", "$"]]


class Port:
    """Stands for a server: attempts by HTTP are refused until it opens."""

    def __init__(self, node: Node, opens: float) -> None:
        self.tried: list[float] = []
        self._node, self._opens = node, 1000 + opens

    async def probe(self, request: object, timeout: float) -> Outcome:
        self.tried.append(round(self._node.clock.now - 1000, 3))
        is_open = self._node.clock.now >= self._opens
        return Outcome(Verdict.SUCCESS if is_open else Verdict.FAILURE, "" if is_open else "refused")


def over_http(**more: Any) -> Probe:
    return Probe(http_get=HTTPGetAction(port=80), **more)


@pytest.mark.parametrize("kind", ["readiness_probe", "startup_probe"])
async def test_a_port_that_opens_early_is_found_early(
    kind: str, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "BREATH", 0.05)
    port = Port(node, opens=0.012)
    monkeypatch.setattr(http, "probe", port.probe)
    probes: dict[str, Any] = {kind: over_http(period_seconds=2)}
    node.add(**probes)
    await node.clock.run_for(3)
    expected = [0.003, 0.006, 0.01, 0.015] + ([2.015] if kind == "readiness_probe" else [])
    assert port.tried == expected
    assert node.events == [] and [result for _, result in node.updates] == [Result.SUCCESS]


async def test_early_failures_count_for_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "BREATH", 0.05)
    port = Port(node, opens=100)
    monkeypatch.setattr(http, "probe", port.probe)
    node.add(readiness_probe=over_http(period_seconds=1))
    await node.clock.run_for(2.5)
    assert port.tried == [*manager.EARLY, 1, 2]
    assert node.events == ["Unhealthy: Readiness probe failed: refused"] * 2


async def test_a_slow_early_attempt_stands_for_those_it_outlasts(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    async def slow(request: object, timeout: float) -> Outcome:
        tried.append(round(node.clock.now - 1000, 3))
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        failure = Outcome(Verdict.FAILURE, "timeout")
        node.clock.call_at(node.clock.now + 0.75, lambda: answer.set_result(failure))
        return await answer

    monkeypatch.setattr(http, "probe", slow)
    node.add(readiness_probe=over_http(period_seconds=5))
    await node.clock.run_for(4)
    assert tried == [0.003, 0.8, 1.55]
    assert node.events == ["Unhealthy: Readiness probe failed: timeout"]


async def test_liveness_and_delayed_probes_are_not_early(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "BREATH", 0.05)
    port = Port(node, opens=0)
    monkeypatch.setattr(http, "probe", port.probe)
    node.add(
        liveness_probe=over_http(period_seconds=10),
        readiness_probe=over_http(period_seconds=10, initial_delay_seconds=1),
    )
    await node.clock.run_for(2)
    assert port.tried == [0.05, 1]

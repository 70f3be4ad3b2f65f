"""Phases, conditions and container states from what is observed."""

from __future__ import annotations

from typing import Any

import pytest

from minikubelet.kubelet.container_status import Known, Waiting
from minikubelet.kubelet.observed import (
    CREATED,
    EXITED,
    RUNNING,
    UNKNOWN,
    ObservedContainer,
    ObservedSandbox,
    PodView,
    RuntimeCache,
)
from minikubelet.kubelet.plan import Plan, make_plan
from minikubelet.kubelet.status import make_status
from tests.unit.kubelet.harness import FakeClock, make_pod

NOW = 1_700_000_000_000_000_000


def sandbox(ready: bool = True, identifier: str = "s", attempt: int = 0) -> ObservedSandbox:
    return ObservedSandbox(identifier, "u", "default", "web", attempt, ready, attempt, "", ips=("10.0.0.1",))


def container(
    name: str, state: Any = RUNNING, code: int = 0, attempt: int = 0, **more: Any
) -> ObservedContainer:
    fields = {"sandbox_id": "s", "created_at": attempt, "started_at": NOW, **more}
    return ObservedContainer(
        id=f"{name}{attempt}", pod_uid="u", name=name, attempt=attempt, state=state, hash="",
        restart_count=attempt, exit_code=code, **fields,
    )  # fmt: skip


def view(*containers: ObservedContainer, ready: bool = True) -> PodView:
    return PodView("u", [sandbox(ready)], sorted(containers, key=lambda c: c.created_at, reverse=True))


def all_good(*containers: ObservedContainer) -> Known:
    known = frozenset(each.id for each in containers if each.is_running)
    return Known(runtime_name="fake", started=known, ready=known)


TWO = ({"name": "a"}, {"name": "b"})


@pytest.mark.parametrize(
    ("policy", "containers", "phase"),
    [
        ("Always", [], "Pending"),
        ("Always", [container("a")], "Pending"),
        ("Always", [container("a"), container("b")], "Running"),
        ("Always", [container("a"), container("b", EXITED, 1)], "Running"),
        ("Always", [container("a", EXITED), container("b", EXITED)], "Running"),
        ("Never", [container("a", EXITED), container("b", EXITED)], "Succeeded"),
        ("Never", [container("a", EXITED), container("b", EXITED, 1)], "Failed"),
        ("Never", [container("a"), container("b", EXITED, 1)], "Running"),
        ("OnFailure", [container("a", EXITED), container("b", EXITED, 1)], "Running"),
        ("OnFailure", [container("a", EXITED), container("b", EXITED)], "Succeeded"),
        ("Always", [container("a", CREATED), container("b")], "Pending"),
    ],
)
def test_phases(policy: str, containers: list[ObservedContainer], phase: str) -> None:
    pod = make_pod("web", *TWO, restartPolicy=policy)
    assert make_status(pod, view(*containers), all_good(*containers), NOW).phase == phase


def test_amounts_keep_their_notation_and_a_running_container_shows_bytes() -> None:
    amounts = {"limits": {"cpu": "1", "memory": "100M"}, "requests": {"cpu": "50m", "memory": "1536Ki"}}
    pod = make_pod("web", {"name": "a", "resources": amounts}, {"name": "b", "resources": amounts})
    both = (container("a"), container("b", EXITED, 1))
    status = make_status(pod, view(*both), all_good(*both), NOW)
    assert status.resources is not None
    assert status.resources.limits == {"cpu": "2", "memory": "200M"}
    assert status.resources.requests == {"cpu": "100m", "memory": "3Mi"} == status.allocated_resources
    running, exited = (each.resources for each in status.container_statuses)
    assert running is not None and running.limits == {"cpu": "1", "memory": "100000000"}
    assert exited is not None and exited.limits == {"cpu": "1", "memory": "100M"}


def test_a_waiting_reason_moves_the_last_run_to_last_state() -> None:
    pod = make_pod("web", {"name": "a"})
    known = Known(waiting={"a": Waiting("CrashLoopBackOff", "back-off 10s")}, restarts={"a": 4})
    ended = container("a", EXITED, 3, attempt=4, finished_at=NOW + 10**9)
    (status,) = make_status(pod, view(ended), known, NOW).container_statuses
    assert status.state.waiting is not None and status.state.waiting.reason == "CrashLoopBackOff"
    last = status.last_state.terminated
    assert last is not None and (last.exit_code, last.reason, status.restart_count) == (3, "Error", 4)
    assert last.finished_at == "2023-11-14T22:13:21.000000000Z"
    # Once it runs again, the reason has had its day.
    (status,) = make_status(pod, view(ended, container("a", attempt=5)), known, NOW).container_statuses
    assert status.state.running is not None and status.last_state.terminated == last


def test_a_reason_is_not_shown_for_what_will_not_be_started() -> None:
    pod = make_pod("web", {"name": "a"}, restartPolicy="Never")
    known = Known(waiting={"a": Waiting("RunContainerError", "no")})
    (status,) = make_status(pod, view(container("a", EXITED, 128)), known, NOW).container_statuses
    assert status.state.terminated is not None and status.state.terminated.exit_code == 128


def test_transition_times_stay_while_the_status_does() -> None:
    pod = make_pod("web", {"name": "a"})
    running = container("a")
    pod.status = make_status(pod, view(running), Known(), NOW)
    later = make_status(pod, view(running), all_good(running), NOW + 10**9)
    times = {c.type: c.last_transition_time for c in later.conditions}
    assert times["Ready"] == "2023-11-14T22:13:21.000000000Z"
    assert times["PodScheduled"] == "2023-11-14T22:13:20.000000000Z"


def test_a_lost_init_container_counts_as_done_once_the_pod_runs() -> None:
    pod = make_pod("web", {"name": "a"}, initContainers=[{"name": "i"}])
    status = make_status(pod, view(container("a")), all_good(container("a")), NOW)
    ended = status.init_container_statuses[0].state.terminated
    assert ended is not None and ended.reason == "Completed" and status.phase == "Running"


def test_a_finished_pod_is_not_ready_and_says_why() -> None:
    pod = make_pod("web", {"name": "a"}, restartPolicy="Never", initContainers=[{"name": "i"}])
    status = make_status(pod, view(container("i", EXITED), container("a", EXITED), ready=False), Known(), NOW)
    reasons = {c.type: (c.status, c.reason) for c in status.conditions}
    assert reasons["Ready"] == ("False", "PodCompleted") and reasons["Initialized"] == (
        "True",
        "PodCompleted",
    )
    assert reasons["PodReadyToStartContainers"] == ("False", "")


def test_readiness_gates_hold_a_pod_back() -> None:
    pod = make_pod("web", {"name": "a"}, readinessGates=[{"conditionType": "example.org/up"}])
    ready = next(
        c
        for c in make_status(pod, view(container("a")), all_good(container("a")), NOW).conditions
        if c.type == "Ready"
    )
    assert (ready.status, ready.reason) == ("False", "ReadinessGatesNotReady")


def test_host_network_pods_have_the_nodes_address() -> None:
    pod = make_pod("web", {"name": "a"}, hostNetwork=True)
    known = Known(host_ips=("192.0.2.1",))
    status = make_status(pod, view(container("a")), known, NOW)
    assert (status.pod_ip, status.host_ip) == ("192.0.2.1", "192.0.2.1")


class Health:
    """Everything has started and is well, but ``failed``."""

    def __init__(self, failed: str = "", started: bool = True) -> None:
        self.failed = failed
        self.started = started

    def has_started(self, container: ObservedContainer) -> bool:
        return self.started

    def failed_probe(self, container: ObservedContainer) -> str:
        return "liveness" if container.name == self.failed else ""


def steps(plan: Plan) -> tuple[bool, bool, list[str], list[str], list[str]]:
    return (
        plan.create_sandbox,
        plan.stop_pod,
        [kill.container.name for kill in plan.kill],
        [each.name for each in plan.start_init],
        [each.name for each in plan.start],
    )


INIT = [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}]


@pytest.mark.parametrize(
    ("spec", "seen", "health", "expected"),
    [
        ({}, None, Health(), (True, False, [], [], ["a", "b"])),
        ({"initContainers": INIT}, None, Health(), (True, False, [], ["i"], [])),
        ({}, view(ready=False), Health(), (True, True, [], [], ["a", "b"])),
        ({}, view(container("a")), Health(), (False, False, [], [], ["b"])),
        ({}, view(container("a"), container("b")), Health(), (False, False, [], [], [])),
        ({}, view(container("a"), container("b")), Health("a"), (False, False, ["a"], [], ["a"])),
        ({}, view(container("a", UNKNOWN), container("b")), Health(), (False, False, ["a"], [], ["a"])),
        (
            {"restartPolicy": "Never"},
            view(container("a"), container("b")),
            Health("a"),
            (False, False, ["a"], [], []),
        ),
        (
            {"restartPolicy": "Never"},
            view(container("a", EXITED), container("b")),
            Health("b"),
            (False, True, [], [], []),
        ),
        (
            {"restartPolicy": "Never"},
            view(container("a", EXITED), container("b", EXITED)),
            Health(),
            (False, True, [], [], []),
        ),
        (
            {"restartPolicy": "Never"},
            view(container("a", EXITED), ready=False),
            Health(),
            (False, False, [], [], []),
        ),
        (
            {"restartPolicy": "OnFailure"},
            view(container("a", EXITED), container("b", EXITED, 1), ready=False),
            Health(),
            (True, True, [], [], ["b"]),
        ),
        ({"initContainers": INIT}, view(container("i")), Health(), (False, False, [], [], [])),
        ({"initContainers": INIT}, view(container("i", EXITED)), Health(), (False, False, [], ["s"], [])),
        (
            {"initContainers": INIT},
            view(container("i", EXITED), container("s")),
            Health(started=False),
            (False, False, [], [], []),
        ),
        (
            {"initContainers": INIT},
            view(container("i", EXITED), container("s")),
            Health(),
            (False, False, [], ["j"], []),
        ),
        (
            {"initContainers": INIT},
            view(container("i", EXITED), container("s"), container("j", EXITED)),
            Health(),
            (False, False, [], [], ["a", "b"]),
        ),
        (
            {"initContainers": INIT},
            view(container("s", EXITED, 1), container("a"), container("b")),
            Health(),
            (False, False, [], ["s"], []),
        ),
        (
            {"initContainers": INIT, "restartPolicy": "Never"},
            view(container("i", EXITED, 1)),
            Health(),
            (False, True, [], [], []),
        ),
        ({"initContainers": INIT}, view(container("i", EXITED, 1)), Health(), (False, False, [], ["i"], [])),
    ],
)
def test_plans(spec: dict[str, Any], seen: PodView | None, health: Health, expected: Any) -> None:
    plan = make_plan(make_pod("web", *TWO, **{**spec}), seen or PodView("u"), health)
    assert steps(plan) == expected


def test_older_news_never_undo_newer_ones() -> None:
    cache = RuntimeCache(FakeClock())
    assert cache.put_sandbox(sandbox())
    assert cache.put_container(container("a", RUNNING, detailed=True))
    assert not cache.put_container(container("a", CREATED, detailed=True))
    assert cache.put_container(container("a", EXITED, 1, finished_at=NOW, detailed=True))
    assert not cache.put_container(container("a", RUNNING, detailed=True))
    assert cache.view("u").containers[0].exit_code == 1
    cache.put_sandbox(sandbox(ready=False))
    cache.put_sandbox(sandbox(ready=True))
    assert not cache.view("u").sandboxes[0].ready
    assert cache.remove("s") == "u" and cache.view("u") == PodView("u")
    assert not cache.put_container(container("a", RUNNING)) and not cache.put_sandbox(sandbox())


def test_a_clock_jump_does_not_age_an_exit() -> None:
    clock = FakeClock()
    cache = RuntimeCache(clock)
    cache.put_container(container("a", RUNNING))
    year = 365 * 86400 * 10**9
    cache.put_container(container("a", EXITED, finished_at=clock.now_ns() - year))
    assert clock.monotonic() - cache.view("u").containers[0].finished < 5


def failed(**waiting: str) -> Known:
    words = {name: Waiting(reason) for name, reason in waiting.items()}
    return Known(failure=Waiting("DeadlineExceeded", "too late"), waiting=words)


def test_nothing_of_a_failed_pod_goes_on_waiting() -> None:
    pod = make_pod("web", {"name": "a"}, {"name": "b"})
    known = failed(a="CrashLoopBackOff", b="ErrImageNeverPull")
    crashed, absent = make_status(pod, view(container("a", EXITED, 3)), known, NOW).container_statuses
    assert crashed.state.terminated is not None and crashed.state.terminated.exit_code == 3
    assert crashed.last_state.terminated is None
    assert absent.state.terminated is not None
    assert (absent.state.terminated.reason, absent.state.terminated.exit_code) == (
        "ContainerStatusUnknown",
        137,
    )


def test_what_of_a_failed_pod_still_runs_is_waited_for() -> None:
    pod = make_pod("web", {"name": "a"}, {"name": "b"})
    running, absent = make_status(pod, view(container("a")), failed(b="ErrImagePull"), NOW).container_statuses
    assert running.state.running is not None
    assert absent.state.waiting is not None and absent.state.waiting.reason == "ErrImagePull"


def test_a_failed_pod_shows_how_far_it_got() -> None:
    init = [{"name": "i"}, {"name": "j"}, {"name": "k"}]
    pod = make_pod("web", {"name": "a"}, initContainers=init)
    seen = view(container("i", EXITED), container("j", EXITED, 3))
    status = make_status(pod, seen, failed(j="CrashLoopBackOff"), NOW)
    shown = [
        each.state.terminated and each.state.terminated.exit_code for each in status.init_container_statuses
    ]
    assert shown == [0, 3, None]
    (regular,) = status.container_statuses
    assert regular.state.waiting is not None and regular.state.waiting.reason == "PodInitializing"


@pytest.mark.parametrize(
    ("seen", "code", "reason"),
    [
        (container("a"), 137, "ContainerStatusUnknown"),
        (container("a", EXITED, 3, finished_at=NOW), 3, "Error"),
    ],
)
def test_what_was_known_of_a_container_outlives_it(seen: ObservedContainer, code: int, reason: str) -> None:
    pod = make_pod("web", {"name": "a"})
    pod.status = make_status(pod, view(seen), all_good(seen), NOW)
    for left in ((), (container("a", attempt=1),)):
        pod.status = make_status(pod, view(*left), all_good(*left), NOW)
        assert pod.status.phase == "Running"
        last = pod.status.container_statuses[0].last_state.terminated
        assert last is not None and (last.exit_code, last.reason) == (code, reason)


def test_a_container_is_not_its_own_predecessor() -> None:
    pod = make_pod("web", {"name": "a"})
    crashed = container("a", EXITED, 3, finished_at=NOW)
    known = Known(runtime_name="fake", waiting={"a": Waiting("CrashLoopBackOff")})
    pod.status = make_status(pod, view(crashed), known, NOW)
    assert pod.status.container_statuses[0].last_state.terminated is not None
    (shown,) = make_status(pod, view(crashed), Known(runtime_name="fake"), NOW).container_statuses
    assert shown.state.terminated is not None and shown.last_state.terminated is None

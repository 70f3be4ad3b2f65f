"""Restart policies, CrashLoopBackOff, probes that restart, over the fake runtime."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import grpc
import pytest

from tests.fake_cri import Behaviour
from tests.fake_images import CriError
from tests.unit.kubelet.harness import Harness, make_pod


async def crash(harness: Harness, starts: int) -> None:
    """The app ends with 1, once it has been started ``starts`` times."""
    await harness.until(lambda: len(harness.cri.called("StartContainer")) == starts, f"start {starts}")
    await harness.until(lambda: harness.container().state.running)
    harness.cri.exit("app", 1)


async def test_a_crash_loop_backs_off_from_10_seconds_to_5_minutes(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        await crash(harness, 1)  # restarted at once
        await crash(harness, 2)
        delays = [10, 20, 40, 80, 160, 300, 300]
        for round_, delay in enumerate(delays):
            await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
            spelled = {10: "10s", 20: "20s", 40: "40s", 80: "1m20s", 160: "2m40s", 300: "5m0s"}[delay]
            waiting = harness.container().state.waiting
            assert waiting is not None
            title = harness.pod().title
            assert waiting.message == f"back-off {spelled} restarting failed container=app pod={title}"
            harness.clock.advance(delay - 1)
            await harness.settle()
            assert len(harness.cri.called("StartContainer")) == round_ + 2
            harness.clock.advance(1)
            await crash(harness, round_ + 3)
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
        last = harness.container().last_state.terminated
        assert last is not None and last.exit_code == 1 and last.reason == "Error"
        assert harness.pod().status.phase == "Running" and harness.condition("Ready") == "False"
        attempts = [r.config.metadata.attempt for r in harness.cri.called("CreateContainer")]
        assert attempts == list(range(len(attempts)))
        dead = [c for c in harness.cri.containers.values() if c.config.metadata.name == "app"]
        assert len(dead) <= 2


async def test_ten_quiet_minutes_reset_the_backoff(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        await crash(harness, 1)
        await crash(harness, 2)
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
        harness.clock.advance(11)
        await harness.until(lambda: len(harness.cri.called("StartContainer")) == 3)
        await harness.until(lambda: harness.container().state.running)
        harness.clock.advance(700)
        harness.cri.exit("app", 1)
        await harness.until(lambda: len(harness.cri.called("StartContainer")) == 4)


async def test_a_short_longest_delay_neither_resets_the_backoff_nor_hastens_pulls(harness: Harness) -> None:
    """``crashLoopBackOff.maxContainerRestartPeriod``, KEP-4603."""
    harness.config.backoff_initial, harness.config.backoff_max = 5.0, 5.0
    other = {"name": "other", "image": "example.org/none:1"}
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app"}, other))
        await harness.until(lambda: harness.waiting("other") == "ErrImagePull")
        await crash(harness, 1)
        await crash(harness, 2)
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
        pulls = len(harness.cri.called("PullImage"))
        harness.clock.advance(6)
        await harness.until(lambda: len(harness.cri.called("StartContainer")) == 3)
        await harness.settle()
        assert len(harness.cri.called("PullImage")) == pulls, "the pull waits its 10 seconds"
        await harness.until(lambda: harness.container().state.running)
        harness.clock.advance(60)  # much longer than twice the longest delay
        harness.cri.exit("app", 1)
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")


@pytest.mark.parametrize(
    ("policy", "code", "phase", "starts"),
    [
        ("Never", 0, "Succeeded", 1),
        ("Never", 7, "Failed", 1),
        ("OnFailure", 0, "Succeeded", 1),
        ("OnFailure", 7, "Running", 2),
        ("Always", 0, "Running", 2),
    ],
)
async def test_restart_policies(harness: Harness, policy: str, code: int, phase: str, starts: int) -> None:
    harness.cri.behaviours["app"] = Behaviour(exit_at_once=code)
    async with harness.running():
        harness.source.set(make_pod(restartPolicy=policy))
        await harness.until(lambda: len(harness.cri.called("StartContainer")) == starts)
        await harness.until(lambda: harness.pod().status.phase == phase)
        await harness.settle()
        assert len(harness.cri.called("StartContainer")) == starts
        assert harness.pod().status.phase == phase
        if phase == "Succeeded":
            assert harness.condition("Ready") == "False"
            ended = harness.container().state.terminated
            assert ended is not None and ended.reason == "Completed"


async def test_restart_rules_of_one_container(harness: Harness) -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    app = {"name": "app", "restartPolicy": "Never", "restartPolicyRules": rules}
    async with harness.running():
        harness.source.set(make_pod("web", app, restartPolicy="Never"))
        await harness.until(lambda: harness.container().state.running)
        harness.cri.exit("app", 42)
        await harness.until(lambda: len(harness.cri.called("StartContainer")) == 2)
        await harness.until(lambda: harness.container().state.running)
        harness.cri.exit("app", 1)
        await harness.until(lambda: harness.pod().status.phase == "Failed")


async def test_sidecars_end_when_the_last_container_is_done(harness: Harness) -> None:
    side = {"name": "side", "restartPolicy": "Always"}
    async with harness.running():
        harness.source.set(make_pod(initContainers=[side], restartPolicy="Never"))
        await harness.ready()
        harness.cri.exit("app", 0)
        await harness.until(lambda: harness.pod().status.phase == "Succeeded")
        assert harness.cri.running() == []


async def test_a_dead_sidecar_is_restarted_beside_a_running_pod(harness: Harness) -> None:
    side = {"name": "side", "restartPolicy": "Always"}
    async with harness.running():
        harness.source.set(make_pod(initContainers=[side]))
        await harness.ready()
        harness.cri.exit("side", 1)
        await harness.until(lambda: harness.container("side").restart_count == 1)
        await harness.ready()
        assert harness.container("app").restart_count == 0


async def test_a_container_that_cannot_start_says_why(harness: Harness) -> None:
    harness.cri.behaviours["app"] = Behaviour(start_error='exec: "nope": executable file not found in $PATH')
    async with harness.running():
        harness.source.set(make_pod())
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
        last = harness.container().last_state.terminated
        assert last is not None and (last.reason, last.exit_code) == ("StartError", 128)
        assert "executable file not found" in last.message
        assert 'Error: exec: "nope": executable file not found in $PATH' in [
            event.message for event in harness.kubelet.events() if event.reason == "Failed"
        ]


async def test_a_failed_liveness_probe_restarts_the_container(harness: Harness) -> None:
    answers = [0]

    async def check(command: list[str]) -> tuple[int, bytes]:
        return answers[-1], b"no pulse"

    harness.cri.behaviours["app"] = Behaviour(exec=check)
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1}
    app = {"name": "app", "livenessProbe": {**probe, "terminationGracePeriodSeconds": 3}}
    async with harness.running():
        harness.source.set(make_pod("web", app))
        await harness.ready()
        answers.append(1)
        await harness.until(lambda: "Killing" in harness.reasons())
        answers.append(0)
        await harness.until(lambda: harness.container().restart_count == 1)
        messages = [event.message for event in harness.kubelet.events()]
        assert "Container app failed liveness probe, will be restarted" in messages
        assert "Liveness probe failed: no pulse" in messages
        assert [request.timeout for request in harness.cri.called("StopContainer")] == [3]


async def test_readiness_comes_and_goes(harness: Harness) -> None:
    answers = [1]

    async def check(command: list[str]) -> tuple[int, bytes]:
        return answers[-1], b""

    harness.cri.behaviours["app"] = Behaviour(exec=check)
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1}
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", "readinessProbe": probe}))
        await harness.until(lambda: harness.container().started)
        condition = next(c for c in harness.pod().status.conditions if c.type == "Ready")
        assert (condition.status, condition.reason) == ("False", "ContainersNotReady")
        assert condition.message == "containers with unready status: [app]"
        answers.append(0)
        await harness.ready()
        answers.append(1)
        await harness.until(lambda: harness.condition("Ready") == "False")
        assert harness.container().restart_count == 0


async def test_a_pod_over_its_deadline_is_stopped(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod(activeDeadlineSeconds=60))
        await harness.ready()
        harness.clock.advance(61)
        await harness.until(lambda: harness.pod().status.phase == "Failed")
        assert harness.pod().status.reason == "DeadlineExceeded"
        await harness.until(lambda: harness.cri.running() == [])


ON_42 = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
ALL_ON_42 = {"restartPolicy": "Never", "restartPolicyRules": [ON_42]}
HOOKED = {"preStop": {"exec": {"command": ["bye"]}}}


def all_restarting(harness: Harness) -> tuple[str, str]:
    found = next(c for c in harness.pod().status.conditions if c.type == "AllContainersRestarting")
    return found.status, found.reason


def started(harness: Harness, times: int) -> bool:
    return len(harness.cri.called("StartContainer")) == times


async def restarted(harness: Harness, times: int) -> None:
    await harness.until(lambda: harness.container("app").restart_count == times)
    await harness.ready()


async def test_a_rule_restarts_all_containers_in_their_sandbox(harness: Harness) -> None:
    """Without backoff, grace and hooks; init containers run again; victims go before who asked for it."""
    app, other = {"name": "app", **ALL_ON_42}, {"name": "other", "lifecycle": HOOKED}
    side = {"name": "side", "restartPolicy": "Always"}
    harness.cri.behaviours["init"] = Behaviour(exit_at_once=0)
    async with harness.running():
        pod = make_pod("web", app, other, initContainers=[{"name": "init"}, side], restartPolicy="Never")
        harness.source.set(pod)
        await harness.ready()
        assert all_restarting(harness) == ("False", "")
        first = {c.config.metadata.name: i for i, c in harness.cri.containers.items()}
        for round_ in (1, 2, 3):
            harness.clock.advance(1)
            harness.cri.exit("app", 42)
            await restarted(harness, round_)
        names = ("init", "side", "app", "other")
        assert [harness.container(name).restart_count for name in names] == [3, 3, 3, 3]
        order = [r.container_id for r in harness.cri.called("RemoveContainer")][:4]
        assert order == [first[name] for name in ("other", "init", "side", "app")]
        for name in ("app", "other", "side", "init"):
            last = harness.container(name).last_state.terminated
            assert last is not None, name
            assert (last.reason, last.exit_code) == ("RestartingAllContainers", 137), name
        assert len(harness.cri.called("RunPodSandbox")) == 1
        assert harness.cri.called("ExecSync") == []
        assert {r.timeout for r in harness.cri.called("StopContainer")} == {2}
        assert "BackOff" not in harness.reasons()
        assert harness.pod().status.phase == "Running" and all_restarting(harness) == ("False", "")
        harness.cri.exit("app", 0)
        await harness.until(lambda: harness.container("app").state.terminated)
        harness.cri.exit("other", 0)
        await harness.until(lambda: harness.pod().status.phase == "Succeeded")
        assert all_restarting(harness) == ("False", "PodCompleted")


async def test_restarting_all_goes_on_after_the_kubelet_was_cut_off_in_between(harness: Harness) -> None:
    app = {"name": "app", **ALL_ON_42}
    async with harness.running():
        harness.source.set(make_pod("web", app, {"name": "other"}))
        await harness.ready()
        harness.cri.gate["RemoveContainer"] = asyncio.Event()
        harness.cri.exit("app", 42)
        await harness.until(lambda: all_restarting(harness) == ("True", "RestartAllContainersStarted"))
        await harness.until(lambda: harness.cri.called("RemoveContainer"))
        assert harness.pod().status.phase == "Running" and harness.condition("Initialized") == "True"
    harness.cri.gate.pop("RemoveContainer").set()
    await harness.settle()
    assert harness.cri.newest("app").status.exit_code == 42, "the one that asked is still there"
    async with harness.running():
        harness.source.set(make_pod("web", app, {"name": "other"}))
        await harness.ready()
        assert [harness.container(name).restart_count for name in ("app", "other")] == [1, 1]
        last = harness.container("other").last_state.terminated
        assert last is not None and last.reason == "RestartingAllContainers"


async def test_logs_of_a_reset_container_stay_until_the_next_reset(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", **ALL_ON_42}))
        await harness.ready()
        folder = Path(harness.kubelet.log_directory(harness.pod()), "app")
        for round_ in (1, 2):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{round_ - 1}.log").write_text("words")
            harness.clock.advance(1)
            harness.cri.exit("app", 42)
            await restarted(harness, round_)
        assert [each.name for each in folder.iterdir()] == ["1.log"]


async def test_restarting_all_without_end_is_paced(harness: Harness) -> None:
    """There is no backoff: one that asks for it at once, again and again, must not keep the node busy."""
    harness.cri.behaviours["app"] = Behaviour(exit_at_once=42)
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", **ALL_ON_42}))
        await harness.until(lambda: len(harness.cri.called("StartContainer")) == 2)
        for round_ in (2, 3, 4):
            await harness.settle()
            assert len(harness.cri.called("StartContainer")) == round_
            assert all_restarting(harness)[0] == "True"
            harness.clock.advance(1)
            await harness.until(functools.partial(started, harness, round_ + 1))


async def test_a_container_that_cannot_be_removed_holds_the_restart_up(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", **ALL_ON_42}))
        await harness.ready()
        harness.cri.fail_next["RemoveContainer"] = [CriError(grpc.StatusCode.INTERNAL, "busy")]
        harness.cri.exit("app", 42)
        await harness.until(lambda: "FailedSync" in harness.reasons())
        await harness.settle()
        assert len(harness.cri.called("RemoveContainer")) == 1, "not in a tight loop"
        harness.clock.advance(harness.config.retry_period)
        await harness.until(lambda: harness.container("app").restart_count == 1)
        await harness.ready()


async def test_a_container_that_is_never_restarted_has_no_second_run_when_the_pod_is_over(
    harness: Harness,
) -> None:
    once = {"name": "once", "restartPolicy": "Never"}
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app"}, once, restartPolicy="OnFailure"))
        await harness.until(lambda: harness.cri.running() == ["app", "once"])
        harness.cri.exit("once", 2)
        await harness.until(lambda: harness.container("once").state.terminated)
        harness.cri.exit("app", 0)
        await harness.until(lambda: harness.pod().status.phase == "Failed")
        await harness.until(lambda: not harness.ready_sandboxes())
        await harness.settle()
        assert harness.container("once").restart_count == 0
        assert len(harness.cri.sandboxes) == 1 and harness.pod().status.phase == "Failed"

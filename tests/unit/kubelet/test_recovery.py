"""The kubelet, the runtime and the manifests come and go; pods don't notice."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api import selfsigned
from minikubelet.kubelet.objects import Pod
from tests.fake_cri import Behaviour
from tests.unit.kubelet.harness import Harness, make_pod


async def test_a_restarted_kubelet_starts_nothing_twice(harness: Harness) -> None:
    pod = make_pod(initContainers=[{"name": "init"}, {"name": "side", "restartPolicy": "Always"}])
    harness.cri.behaviours["init"] = Behaviour(exit_at_once=0)
    async with harness.running():
        harness.source.set(pod)
        await harness.ready()
        before = harness.pod().status
    calls = len(harness.cri.calls)
    async with harness.running():
        harness.source.set(pod)
        await harness.ready()
        await harness.settle()
        after = harness.pod().status
    made = [name for name, _ in harness.cri.calls[calls:]]
    assert not {"RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer"} & set(made)
    assert after.container_statuses == before.container_statuses
    assert after.init_container_statuses == before.init_container_statuses
    assert after.start_time == before.start_time


async def test_restart_counts_and_backoff_outlive_the_kubelet(harness: Harness) -> None:
    harness.cri.behaviours["app"] = Behaviour(exit_at_once=1)
    pod = make_pod()
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
        assert harness.container().restart_count == 1
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
        await harness.settle()
        assert len(harness.cri.called("StartContainer")) == 2
        waiting = harness.container().state.waiting
        assert waiting is not None and waiting.message.startswith("back-off 10s restarting")
        harness.clock.advance(10)
        await harness.until(lambda: harness.container().restart_count == 2)
        await harness.until(lambda: "back-off 20s" in (harness.container().state.waiting or waiting).message)


async def test_restart_counts_outlive_the_containers(harness: Harness) -> None:
    harness.cri.behaviours["app"] = Behaviour(exit_at_once=1)
    pod = make_pod()
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")
    harness.cri.sandboxes.clear()
    harness.cri.containers.clear()
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.container().restart_count == 2)


async def test_a_container_left_between_create_and_start_is_made_anew(harness: Harness) -> None:
    pod = make_pod()
    async with harness.running():
        harness.source.set(pod)
        await harness.ready()
    left = harness.cri.newest("app")
    left.status.state = api.CONTAINER_CREATED
    async with harness.running():
        harness.source.set(pod)
        await harness.ready()
        assert harness.cri.newest("app").status.id != left.status.id
        assert left.status.id not in harness.cri.containers
        assert harness.container().restart_count == 0


async def test_pods_without_a_manifest_are_removed_at_start_with_their_hooks(harness: Harness) -> None:
    commands: list[list[str]] = []

    async def hook(command: list[str]) -> tuple[int, bytes]:
        commands.append(command)
        return 0, b""

    harness.cri.behaviours["app"] = Behaviour(exec=hook)
    app = {"name": "app", "lifecycle": {"preStop": {"exec": {"command": ["drain"]}}}}
    async with harness.running():
        harness.source.set(make_pod("web", app, terminationGracePeriodSeconds=7))
        await harness.ready()
    async with harness.running():
        harness.source.set()
        await harness.until(lambda: not harness.cri.sandboxes)
        assert commands == [["drain"]]
        await harness.until(lambda: not list((harness.folder / "root" / "pods").iterdir()))
        await harness.until(lambda: not list((harness.folder / "logs").iterdir()))


def twins() -> tuple[Pod, Pod]:
    """Two pods of one name, as a manifest and its copy make them."""
    first, second = make_pod(), make_pod("web", {"name": "app", "args": ["copy"]})
    assert first.key == second.key and first.uid != second.uid
    return first, second


async def test_the_second_of_a_name_waits_until_the_first_has_gone(harness: Harness) -> None:
    first, second = twins()
    async with harness.running():
        harness.source.set(first)
        await harness.ready()
        harness.source.set(second, first)
        await harness.settle()
        assert harness.pod().uid == first.uid and len(harness.cri.sandboxes) == 1
        harness.source.set(second)
        await harness.until(lambda: harness.pod().uid == second.uid)
        await harness.ready()
        assert len(harness.cri.sandboxes) == 1


async def test_of_two_of_a_name_the_one_that_runs_stays_over_a_restart(harness: Harness) -> None:
    first, second = twins()
    async with harness.running():
        harness.source.set(first, second)
        await harness.ready()
    async with harness.running():
        harness.source.set(second, first)
        await harness.ready()
        await harness.settle()
        assert harness.pod().uid == first.uid
        assert harness.container("app").restart_count == 0 and len(harness.cri.sandboxes) == 1


async def test_other_peoples_sandboxes_are_left_alone(harness: Harness) -> None:
    pod = make_pod()
    async with harness.running():
        harness.source.set(pod)
        await harness.ready()
    (sandbox,) = harness.cri.sandboxes.values()
    assert sandbox.status.annotations["minikubelet.io/kubelet"] == harness.config.root
    sandbox.status.annotations["minikubelet.io/kubelet"] = "/var/lib/another"
    async with harness.running():
        harness.source.set()
        await harness.settle()
        assert harness.cri.sandboxes and harness.cri.running() == ["app"]


async def test_the_runtime_may_restart(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        await harness.cri.stop()
        harness.cri.exit("app", 1)  # nobody is told
        await harness.settle()
        await harness.cri.start()
        await harness.until(lambda: harness.container().restart_count == 1)
        await harness.ready()
        harness.cri.exit("app", 1)  # events flow again
        await harness.until(lambda: harness.waiting() == "CrashLoopBackOff")


async def test_the_kubelet_may_be_there_before_the_runtime(harness: Harness) -> None:
    await harness.cri.stop()
    async with harness.running():
        harness.source.set(make_pod())
        await harness.settle()
        await harness.cri.start()
        await harness.ready()


async def test_a_runtime_without_events_is_listed_each_second(harness: Harness) -> None:
    harness.cri.has_events = False
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        harness.cri.exit("app", 1)
        await harness.until(lambda: harness.container().restart_count == 1)


async def test_nothing_is_asked_of_a_runtime_with_events_while_nothing_happens(harness: Harness) -> None:
    import asyncio

    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        # One list when the stream is up, one a second later.
        await harness.until(lambda: len(harness.cri.called("ListContainers")) == 2)
        await harness.settle()
        calls = len(harness.cri.calls)
        await asyncio.sleep(1.5)
        assert len(harness.cri.calls) == calls


async def test_stop_pods_on_exit_leaves_nothing(harness: Harness) -> None:
    harness.config.stop_pods_on_exit = True
    async with harness.running():
        harness.source.set(make_pod("one"), make_pod("two"))
        await harness.ready("one")
        await harness.ready("two")
    assert not harness.cri.sandboxes and not harness.cri.containers
    assert not list((harness.folder / "root" / "pods").iterdir())


async def test_nobody_waits_for_the_certificate_of_a_new_node(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        go_on.wait(60)

    monkeypatch.setattr(selfsigned, "make", slow)
    harness.config.server.port = 1  # never opened
    harness.config.stop_pods_on_exit = True
    try:
        async with harness.running():
            harness.source.set(make_pod())
            await harness.ready()
            await harness.until(begun.is_set)
        assert not harness.cri.sandboxes
    finally:
        go_on.set()


async def test_readiness_and_startup_are_remembered_over_a_restart(harness: Harness) -> None:
    async def check(command: list[str]) -> tuple[int, bytes]:
        return 0, b""

    harness.cri.behaviours["app"] = Behaviour(exec=check)
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 1}
    pod = make_pod("web", {"name": "app", "startupProbe": probe, "readinessProbe": probe})
    async with harness.running():
        harness.source.set(pod)
        await harness.ready()
        since = next(c for c in harness.pod().status.conditions if c.type == "Ready").last_transition_time
        assert since
    async with harness.running() as kubelet:
        seen: list[str] = []
        harness.source.set(pod)
        await harness.until(kubelet.pods)
        seen.append(harness.condition("Ready"))
        await harness.settle()
        assert [*seen, harness.condition("Ready")] == ["True", "True"]
        assert harness.container().started


async def test_old_sandboxes_go_with_their_last_container(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        for count in range(3):
            await _lose_sandbox(harness, count)
        await harness.until(lambda: harness.container().restart_count == 3)
        await harness.ready()
        await harness.until(lambda: len(harness.cri.sandboxes) == 2)
        assert len(harness.cri.containers) == 2


async def _lose_sandbox(harness: Harness, restarts: int) -> None:
    await harness.until(lambda: harness.cri.running() == ["app"])
    await harness.until(lambda: harness.container().restart_count == restarts)
    harness.cri.kill_sandbox(harness.cri.newest("app").sandbox_id)
    await harness.until(lambda: len(harness.cri.called("RunPodSandbox")) == restarts + 2)
    harness.clock.advance(301)


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
async def test_a_job_that_has_ended_is_not_run_again_when_its_containers_are_removed(
    harness: Harness, code: int, phase: str
) -> None:
    harness.cri.behaviours["app"] = Behaviour(exit_at_once=code)
    pod = make_pod(restartPolicy="Never")
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.pod().status.phase == phase and not harness.ready_sandboxes())
        harness.lose("app")
        await harness.settle()
        harness.lose()
        await harness.settle()
        ended = harness.container().state.terminated
        assert ended is not None and ended.exit_code == code
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.pod().status.phase == phase)
        await harness.settle()
        ended = harness.container().state.terminated
        assert ended is not None and ended.exit_code == code
        assert harness.cri.containers == {} == harness.cri.sandboxes
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())
        harness.source.set(pod)
        await harness.until(lambda: harness.cri.containers, "put back, it is another run")


async def test_an_init_container_that_is_removed_while_a_later_one_runs_is_not_run_again(
    harness: Harness,
) -> None:
    harness.cri.behaviours["first"] = Behaviour(exit_at_once=0)
    async with harness.running():
        harness.source.set(make_pod(initContainers=[{"name": "first"}, {"name": "second"}]))
        await harness.until(lambda: harness.cri.running() == ["second"])
        harness.lose("first")
        await harness.settle()
        assert [each.config.metadata.name for each in harness.cri.containers.values()] == ["second"]
        harness.cri.exit("second")
        await harness.ready()
        assert harness.container("first").ready


def on_disk(harness: Harness) -> list[str]:
    """Folders of pods and of their logs."""
    config = harness.config
    return sorted(path.name for each in (config.pods_dir, config.log_dir) for path in Path(each).iterdir())


async def test_logs_go_with_a_pod_that_was_cut_off_before_it_had_a_sandbox(harness: Harness) -> None:
    harness.cri.gate["RunPodSandbox"] = asyncio.Event()
    async with harness.running():
        harness.source.set(make_pod())
        await harness.until(lambda: list(Path(harness.config.log_dir).glob("*")))
    harness.cri.gate.clear()
    async with harness.running():
        harness.source.set()
        await harness.until(lambda: not on_disk(harness))


async def test_a_pod_that_cannot_be_deleted_whole_is_known_to_the_next_kubelet(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def reluctant(path: str, **more: Any) -> None:
        if path.startswith(harness.config.log_dir):
            raise OSError(errno.EIO, "not now", path)
        remove(path, **more)

    monkeypatch.setattr(shutil, "rmtree", reluctant)
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        harness.source.set()
        await harness.until(lambda: any(each.reason == "FailedKillPod" for each in harness.kubelet.events()))
    monkeypatch.undo()
    async with harness.running():
        harness.source.set()
        await harness.until(lambda: not on_disk(harness))


async def test_what_runs_once_is_not_run_again_when_somebody_removes_it(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod(restartPolicy="Never"))
        await harness.ready()
        harness.lose("app")
        await harness.until(lambda: harness.pod().status.phase == "Failed")
        await harness.until(lambda: not harness.ready_sandboxes())
        ended = harness.container().state.terminated
        assert ended is not None and (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
        await harness.settle()
        assert harness.cri.containers == {}


async def test_what_has_ended_beside_something_that_runs_is_not_run_again_when_it_is_removed(
    harness: Harness,
) -> None:
    harness.cri.behaviours["once"] = harness.cri.behaviours["first"] = Behaviour(exit_at_once=0)
    pod = make_pod("web", {"name": "once"}, {"name": "lasting"}, initContainers=[{"name": "first"}])
    pod.spec.restart_policy = "OnFailure"
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.container("once").state.terminated)
        await harness.until(lambda: harness.container("lasting").started)
        harness.lose("once", "first")
        await harness.settle()
        assert [each.config.metadata.name for each in harness.cri.containers.values()] == ["lasting"]
        for name in ("once", "first"):
            ended = harness.container(name).state.terminated
            assert ended is not None and ended.exit_code == 0, name
        assert harness.pod().status.phase == "Running"
        harness.lose("lasting")
        await harness.until(lambda: harness.cri.running() == ["lasting"])
        await harness.until(lambda: harness.container("lasting").restart_count == 1)
        last = harness.container("lasting").last_state.terminated
        assert last is not None and last.reason == "ContainerStatusUnknown"


async def test_a_sandbox_that_dies_under_a_restart_costs_no_backoff(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        (dying,) = harness.cri.sandboxes.values()
        harness.cri.exit("app", 137)  # its event shows the sandbox ready still
        dying.status.state = api.SANDBOX_NOTREADY
        await harness.until(lambda: len(harness.ready_sandboxes()) == 1)
        await harness.ready()
        assert harness.container().restart_count == 1
        reasons = {each.reason for each in harness.kubelet.events()}
        assert not reasons & {"Failed", "BackOff"}, reasons


async def test_a_job_with_a_uid_of_its_own_runs_again_when_it_was_changed_meanwhile(harness: Harness) -> None:
    harness.cri.behaviours["app"] = Behaviour(exit_at_once=0)
    old, new = make_pod(restartPolicy="Never"), make_pod(restartPolicy="Never", hostname="changed")
    new.metadata.uid = old.uid
    for pod, runs in ((old, 1), (old, 1), (new, 2)):
        async with harness.running() as kubelet:
            harness.source.set(pod)
            await harness.until(lambda: harness.pod().status.phase == "Succeeded")
            await harness.until(kubelet._workers[pod.uid].halted.is_set)
            await harness.settle()
            assert len(harness.cri.called("StartContainer")) == runs

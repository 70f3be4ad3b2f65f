"""Pods from desired to gone, over the fake runtime."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import pod_worker
from minikubelet.kubelet.manifests.static import CONFIG_HASH
from minikubelet.kubelet.objects import PodStatus
from minikubelet.kubelet.status import make_status
from tests.fake_cri import Behaviour
from tests.fake_images import CriError
from tests.unit.kubelet.harness import IMAGE, Harness, make_pod


async def test_a_pod_comes_up_with_the_events_and_status_of_upstream(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        status = harness.pod().status
        assert status.phase == "Running"
        assert [c.type for c in status.conditions] == [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        assert all(c.status == "True" for c in status.conditions)
        assert status.pod_ip.startswith("10.1.0.") and status.host_ip == "192.0.2.9"
        app = harness.container()
        assert app.ready and app.started and app.restart_count == 0
        assert app.container_id == f"fake://{harness.cri.newest('app').status.id}"
        assert app.state.running is not None and app.state.running.started_at
        assert harness.reasons() == ["Pulled", "Created", "Started"]


async def test_init_containers_run_one_after_the_other(harness: Harness) -> None:
    pod = make_pod(initContainers=[{"name": "one"}, {"name": "two"}])
    async with harness.running():
        harness.source.set(pod)
        await harness.until(lambda: harness.cri.running() == ["one"])
        assert harness.pod().status.phase == "Pending"
        assert harness.waiting("two") == harness.waiting("app") == "PodInitializing"
        assert harness.condition("Initialized") == "False"
        harness.cri.exit("one")
        await harness.until(lambda: harness.cri.running() == ["two"])
        harness.cri.exit("two")
        await harness.ready()
        assert harness.cri.running() == ["app"]
        done = harness.container("one").state.terminated
        assert done is not None and done.reason == "Completed"


async def test_a_failed_init_container_fails_a_pod_that_never_restarts(harness: Harness) -> None:
    harness.cri.behaviours["one"] = Behaviour(exit_at_once=3)
    async with harness.running():
        harness.source.set(make_pod(initContainers=[{"name": "one"}], restartPolicy="Never"))
        await harness.until(lambda: harness.pod().status.phase == "Failed")
        await harness.settle()
        assert len(harness.cri.called("CreateContainer")) == 1
        sandboxes = [each.status.state for each in harness.cri.sandboxes.values()]
        assert sandboxes == [api.SANDBOX_NOTREADY]


async def test_a_sidecar_holds_up_the_rest_until_it_has_started(harness: Harness) -> None:
    answers = [1]

    async def check(command: list[str]) -> tuple[int, bytes]:
        return answers[-1], b""

    harness.cri.behaviours["side"] = Behaviour(exec=check)
    probe = {"exec": {"command": ["up"]}, "periodSeconds": 1, "failureThreshold": 100}
    side = {"name": "side", "restartPolicy": "Always", "startupProbe": probe}
    async with harness.running():
        harness.source.set(make_pod(initContainers=[side]))
        await harness.until(lambda: harness.cri.running() == ["side"])
        await harness.until(lambda: harness.cri.called("ExecSync"))
        await harness.settle()
        assert harness.cri.running() == ["side"] and not harness.container("side").started
        answers.append(0)
        await harness.ready()
        assert harness.cri.running() == ["app", "side"]


async def test_termination_stops_sidecars_last_and_in_reverse(harness: Harness) -> None:
    sides = [{"name": name, "restartPolicy": "Always"} for name in ("first", "second")]
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app"}, {"name": "other"}, initContainers=sides))
        await harness.ready()
        names = {c.status.id: c.config.metadata.name for c in harness.cri.containers.values()}
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())
        stopped = [names[request.container_id] for request in harness.cri.called("StopContainer")]
        assert sorted(stopped[:2]) == ["app", "other"] and stopped[2:] == ["second", "first"]
        assert not harness.cri.sandboxes and not harness.cri.containers
        assert not list((harness.folder / "root" / "pods").iterdir())
        assert not list((harness.folder / "logs").iterdir())


async def test_the_pre_stop_hook_eats_into_the_grace_period(harness: Harness) -> None:
    commands: list[list[str]] = []

    async def hook(command: list[str]) -> tuple[int, bytes]:
        commands.append(command)
        harness.clock.advance(4)
        return 0, b""

    harness.cri.behaviours["app"] = Behaviour(exec=hook)
    app = {"name": "app", "lifecycle": {"preStop": {"exec": {"command": ["drain"]}}}}
    async with harness.running():
        harness.source.set(make_pod("web", app, terminationGracePeriodSeconds=10))
        await harness.ready()
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())
        assert commands == [["drain"]]
        assert [request.timeout for request in harness.cri.called("StopContainer")] == [6]


async def test_a_hook_longer_than_the_grace_period_runs_on_until_the_container_ends(harness: Harness) -> None:
    drained: list[bool] = []

    async def hook(command: list[str]) -> tuple[int, bytes]:
        await harness.until(lambda: harness.cri.called("StopContainer"))
        drained.append(True)
        return 0, b""

    harness.cri.behaviours["app"] = Behaviour(exec=hook, stop_seconds=0.2)
    app = {"name": "app", "lifecycle": {"preStop": {"exec": {"command": ["drain"]}}}}
    async with harness.running():
        harness.source.set(make_pod("web", app, terminationGracePeriodSeconds=1))
        await harness.ready()
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())
        assert drained
        assert "FailedPreStopHook" not in harness.reasons()


async def test_a_changed_manifest_ends_the_old_pod_before_the_new_one_begins(harness: Harness) -> None:
    harness.cri.behaviours["app"] = Behaviour(stop_seconds=0.1)
    old, new = make_pod(), make_pod("web", {"name": "app", "args": ["new"]})
    assert old.uid != new.uid and old.key == new.key
    async with harness.running():
        harness.source.set(old)
        await harness.ready()
        harness.source.set(new)
        await harness.until(lambda: harness.pod().uid == new.uid)
        await harness.ready()
        order = [name for name, _ in harness.cri.calls]
        assert order.index("RemovePodSandbox") < len(order) - 1 - order[::-1].index("RunPodSandbox")
        assert len(harness.cri.sandboxes) == 1 and harness.newest_args() == ["new"]


async def test_a_pod_that_brings_its_uid_is_replaced_when_it_changes(harness: Harness) -> None:
    old, new = make_pod(), make_pod("web", {"name": "app", "args": ["new"]})
    new.metadata.uid = old.uid
    assert old.metadata.annotations[CONFIG_HASH] != new.metadata.annotations[CONFIG_HASH]
    async with harness.running():
        harness.source.set(old)
        await harness.ready()
        harness.source.set(new)
        await harness.until(lambda: harness.newest_args() == ["new"])
        await harness.ready()
        assert len(harness.cri.sandboxes) == 1


async def test_a_lost_sandbox_is_made_again(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        (first,) = harness.cri.sandboxes
        harness.cri.kill_sandbox(first)
        await harness.until(lambda: len(harness.cri.called("RunPodSandbox")) == 2)
        harness.clock.advance(11)
        await harness.ready()
        assert harness.cri.called("RunPodSandbox")[1].config.metadata.attempt == 1
        assert "SandboxChanged" in harness.reasons()
        assert harness.container().restart_count == 1


async def test_a_sandbox_that_cannot_be_made_is_tried_again_later(harness: Harness) -> None:
    harness.cri.fail_next["RunPodSandbox"] = [CriError(grpc.StatusCode.UNKNOWN, "no network")]
    async with harness.running():
        harness.source.set(make_pod())
        await harness.until(lambda: "FailedCreatePodSandBox" in harness.reasons())
        message = next(e.message for e in harness.kubelet.events() if e.reason == "FailedCreatePodSandBox")
        assert message == "Failed to create pod sandbox: no network"
        assert harness.waiting() == "ContainerCreating"
        await harness.settle()
        assert len(harness.cri.called("RunPodSandbox")) == 1
        harness.clock.advance(10)
        await harness.ready()


async def test_a_pull_under_way_does_not_hold_up_termination(harness: Harness) -> None:
    harness.cri.images.clear()
    harness.cri.gate["PullImage"] = asyncio.Event()
    async with harness.running():
        harness.source.set(make_pod())
        await harness.until(lambda: harness.cri.called("PullImage"))
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())
        assert not harness.cri.sandboxes


async def test_events_about_a_start_that_fails_are_one_event(harness: Harness) -> None:
    """Whatever the container's ID was, which the status still shows."""
    harness.cri.gate["StartContainer"] = asyncio.Event()
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app"}, restartPolicy="Never"))
        (made,) = await harness.until(lambda: list(harness.cri.containers))
        harness.cri.behaviours["app"] = Behaviour(start_error=f"task {made}: no such file")
        harness.cri.gate["StartContainer"].set()
        await harness.until(lambda: "Failed" in harness.reasons())
        (message,) = [event.message for event in harness.kubelet.events() if event.reason == "Failed"]
        assert message == "Error: task app: no such file"


async def test_calls_to_the_runtime_are_given_up_in_the_time_that_is_set(harness: Harness) -> None:
    harness.config.runtime_request_timeout = 0.2
    harness.cri.gate["CreateContainer"] = asyncio.Event()
    async with harness.running():
        harness.source.set(make_pod())
        await harness.until(lambda: harness.waiting() == "CreateContainerError")
        waiting = harness.container().state.waiting
        assert waiting is not None and "Deadline Exceeded" in waiting.message
        harness.cri.gate["CreateContainer"].set()


async def test_a_failed_post_start_hook_kills_the_container(harness: Harness) -> None:
    async def hook(command: list[str]) -> tuple[int, bytes]:
        return 1, b"secret"

    harness.cri.behaviours["app"] = Behaviour(exec=hook)
    app = {"name": "app", "lifecycle": {"postStart": {"exec": {"command": ["warm-up"]}}}}
    async with harness.running():
        harness.source.set(make_pod("web", app))
        await harness.until(lambda: "FailedPostStartHook" in harness.reasons())
        await harness.until(lambda: harness.waiting() in ("PostStartHookError", "CrashLoopBackOff"))
        assert all("secret" not in event.message for event in harness.kubelet.events())


async def test_a_missing_config_map_is_a_config_error(harness: Harness) -> None:
    reference = {"configMapKeyRef": {"name": "settings", "key": "level"}}
    app = {"name": "app", "env": [{"name": "LEVEL", "valueFrom": reference}]}
    async with harness.running():
        harness.source.set(make_pod("web", app))
        await harness.until(lambda: harness.waiting() == "CreateContainerConfigError")
        waiting = harness.container().state.waiting
        assert waiting is not None and waiting.message == 'configmap "settings" not found'
        await harness.settle()
        assert not harness.cri.called("CreateContainer")


async def test_what_the_runtime_is_told_of_a_container(harness: Harness) -> None:
    app = {
        "name": "app",
        "command": ["serve", "$(PORT)", "$$(PORT)", "$(UNKNOWN)"],
        "env": [
            {"name": "PORT", "value": "8080"},
            {"name": "URL", "value": "http://$(POD_IP):$(PORT)"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "ports": [{"containerPort": 8080, "hostPort": 80}],
    }
    async with harness.running():
        harness.source.set(make_pod("web", app))
        await harness.ready()
        request = harness.cri.called("CreateContainer")[0]
        config, sandbox = request.config, harness.cri.called("RunPodSandbox")[0].config
        ip = harness.pod().status.pod_ip
        assert list(config.command) == ["serve", "8080", "$(PORT)", "$(UNKNOWN)"]
        values = {pair.key: pair.value.decode() for pair in config.envs}
        assert values == {"PORT": "8080", "URL": "http://$(POD_IP):8080", "POD_IP": ip}
        assert config.log_path == "app/0.log"
        assert sandbox.log_directory.endswith(f"default_web-node_{harness.pod().uid}")
        assert sandbox.hostname == "web-node"
        assert [(m.host_port, m.container_port) for m in sandbox.port_mappings] == [(80, 8080)]
        assert config.labels["io.kubernetes.pod.name"] == "web-node"
        assert config.annotations["io.kubernetes.container.restartCount"] == "0"
        assert config.image.user_specified_image == IMAGE
        mounts = {mount.container_path: mount.host_path for mount in config.mounts}
        assert set(mounts) == {"/etc/hosts", "/dev/termination-log"}
        with open(mounts["/etc/hosts"]) as hosts:
            assert f"{ip}\tweb-node\n" in hosts.read()


async def test_many_pods_do_not_wait_for_one_that_hangs(harness: Harness) -> None:
    harness.cri.add_image("example.org/slow:1", here=False)
    harness.cri.gate["PullImage"] = asyncio.Event()
    slow = make_pod("slow", {"name": "app", "image": "example.org/slow:1"})
    async with harness.running():
        harness.source.set(slow, *(make_pod(f"p{number}") for number in range(10)))
        for number in range(10):
            await harness.ready(f"p{number}")
        harness.cri.gate["PullImage"].set()
        await harness.ready("slow")


async def test_a_volume_that_cannot_be_made_holds_the_pod_and_asks_nothing_meanwhile(
    harness: Harness,
) -> None:
    mount = {"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "nfs": {"server": "s", "path": "/"}}]
    async with harness.running():
        harness.source.set(make_pod("web", mount, volumes=volumes))
        await harness.until(lambda: "FailedMount" in harness.reasons())
        assert harness.waiting() == "ContainerCreating"
        await harness.until(lambda: harness.cri.sandboxes)
        await harness.until(lambda: len(harness.cri.called("ListContainers")) == 2)
        await harness.settle()
        calls, events = len(harness.cri.calls), len(harness.reasons())
        await asyncio.sleep(0.5)
        assert (len(harness.cri.calls), len(harness.reasons())) == (calls, events)
        assert not harness.cri.called("CreateContainer")


async def test_a_volume_that_comes_later_lets_the_pod_go_on(harness: Harness) -> None:
    folder = harness.folder / "data"
    volumes = [{"name": "v", "hostPath": {"path": str(folder), "type": "Directory"}}]
    app = {"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}]}
    async with harness.running():
        harness.source.set(make_pod("web", app, volumes=volumes))
        await harness.until(lambda: "FailedMount" in harness.reasons())
        folder.mkdir()
        harness.clock.advance(10)
        await harness.ready()
        mounts = harness.cri.called("CreateContainer")[0].config.mounts
        assert [(m.host_path, m.readonly) for m in mounts if m.container_path == "/v"] == [
            (str(folder), True)
        ]


async def test_a_start_takes_no_more_looks_than_it_needs(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a look has seen already, events of it included, is no reason for another one."""
    made = 0

    def counted(*args: Any) -> PodStatus:
        nonlocal made
        made += 1
        return make_status(*args)

    monkeypatch.setattr(pod_worker, "make_status", counted)
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "one"}, {"name": "two"}))
        await harness.ready()
        await harness.settle()
        assert harness.container("one").started and harness.container("two").started
        # At the beginning, before the sandbox, between the containers, before and after looking again; and
        # two for each event that a fake runtime may send after its answer.
        assert made <= 5 + 2 * 2

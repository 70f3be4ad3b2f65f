"""Ephemeral containers: added to a running pod, started once, kept over a restart of the kubelet."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import msgspec
import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.ephemeral import MOST, admit
from minikubelet.kubelet.kubelet import Kubelet
from minikubelet.kubelet.objects import ContainerStatus
from minikubelet.kubelet.objects.containers import EphemeralContainer
from tests.fake_cri import Behaviour
from tests.fake_images import CriError
from tests.unit.kubelet.harness import IMAGE, Harness, make_pod


def ephemeral(name: str = "debugger", **more: Any) -> EphemeralContainer:
    return msgspec.convert({"name": name, "image": IMAGE, **more}, EphemeralContainer)


def waits(harness: Harness) -> str:
    waiting = status(harness).state.waiting
    return waiting.reason if waiting else ""


def status(harness: Harness, name: str = "debugger") -> ContainerStatus:
    return next(s for s in harness.pod().status.ephemeral_container_statuses if s.name == name)


@contextlib.asynccontextmanager
async def beside_a_pod(harness: Harness, **more: Any) -> AsyncIterator[Kubelet]:
    """A pod that is Ready, with an ephemeral container added to it."""
    async with harness.running() as kubelet:
        harness.source.set(make_pod())
        await harness.ready()
        kubelet.add_ephemeral(harness.pod().uid, ephemeral(**more))
        yield kubelet


async def test_it_is_started_in_the_running_pod_and_sees_its_targets_processes(harness: Harness) -> None:
    async with beside_a_pod(harness, targetContainerName="app", stdin=True, tty=True) as kubelet:
        await harness.until(lambda: status(harness).state.running)
        made = harness.cri.newest("debugger")
        options = made.config.linux.security_context.namespace_options
        assert (options.pid, options.target_id) == (api.TARGET, harness.cri.newest("app").status.id)
        assert made.config.stdin and made.config.tty
        shown = status(harness)
        assert (shown.ready, shown.started, shown.restart_count) == (False, None, 0)
        assert [each.name for each in harness.pod().spec.ephemeral_containers] == ["debugger"]
        assert harness.condition("Ready") == "True" and harness.container("app").restart_count == 0
        paths = {e.involved_object.field_path for e in kubelet.events() if e.reason == "Started"}
        assert paths == {"spec.containers{app}", "spec.ephemeralContainers{debugger}"}


@pytest.mark.parametrize("code", [0, 3])
async def test_it_is_never_restarted(harness: Harness, code: int) -> None:
    harness.cri.behaviours["debugger"] = Behaviour(exit_at_once=code)
    async with beside_a_pod(harness):
        await harness.until(lambda: status(harness).state.terminated)
        harness.clock.advance(1000)
        await harness.settle()
        ended = status(harness).state.terminated
        assert ended is not None and ended.exit_code == code
        assert len(harness.cri.called("StartContainer")) == 2 and harness.pod().status.phase == "Running"


async def test_one_that_cannot_start_has_had_its_chance(harness: Harness) -> None:
    harness.cri.behaviours["debugger"] = Behaviour(start_error='exec: "nope": not found')
    async with beside_a_pod(harness):
        await harness.until(lambda: status(harness).state.terminated)
        harness.clock.advance(1000)
        await harness.settle()
        assert len(harness.cri.called("StartContainer")) == 2
        ended = status(harness).state.terminated
        assert ended is not None and ended.reason == "StartError" and harness.condition("Ready") == "True"


async def test_a_pull_that_fails_is_tried_again(harness: Harness) -> None:
    async with beside_a_pod(harness, image="example.org/tools:1"):
        await harness.until(lambda: waits(harness) == "ErrImagePull")
        harness.cri.add_image("example.org/tools:1")
        harness.clock.advance(60)
        await harness.until(lambda: status(harness).state.running)


async def test_it_runs_beside_an_init_container_that_hangs(harness: Harness) -> None:
    async with harness.running() as kubelet:
        harness.source.set(make_pod(initContainers=[{"name": "init"}]))
        await harness.until(lambda: harness.container("init").state.running)
        kubelet.add_ephemeral(harness.pod().uid, ephemeral(targetContainerName="init"))
        await harness.until(lambda: status(harness).state.running)
        assert harness.pod().status.phase == "Pending"


async def test_a_target_that_was_never_made_is_waited_for(harness: Harness) -> None:
    async with harness.running() as kubelet:
        harness.source.set(make_pod(initContainers=[{"name": "init"}]))
        await harness.until(lambda: harness.container("init").state.running)
        kubelet.add_ephemeral(harness.pod().uid, ephemeral(targetContainerName="app"))
        await harness.until(lambda: status(harness).state.waiting)
        await harness.until(lambda: waits(harness) == "CreateContainerConfigError")
        harness.cri.exit("init", 0)
        await harness.ready()
        harness.clock.advance(60)
        await harness.until(lambda: status(harness).state.running)


async def test_it_survives_the_kubelet_and_is_not_started_twice(harness: Harness) -> None:
    async with harness.running() as kubelet:
        harness.source.set(make_pod())
        await harness.ready()
        uid = harness.pod().uid
        kubelet.add_ephemeral(uid, ephemeral("stays"))
        kubelet.add_ephemeral(uid, ephemeral("ends"))
        await harness.until(lambda: status(harness, "stays").state.running)
        await harness.until(lambda: status(harness, "ends").state.running)
    harness.cri.exit("ends", 5)
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        assert status(harness, "stays").state.running is not None
        ended = status(harness, "ends").state.terminated
        assert ended is not None and ended.exit_code == 5
        await harness.settle()
        assert len(harness.cri.called("StartContainer")) == 3
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())
        assert harness.cri.running() == [] and harness.cri.sandboxes == {}


async def test_one_that_the_runtime_has_lost_is_not_made_again(harness: Harness) -> None:
    async with beside_a_pod(harness):
        await harness.until(lambda: status(harness).state.running)
    harness.cri.containers.clear()  # a reboot
    harness.cri.sandboxes.clear()
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        await harness.settle()
        ended = status(harness).state.terminated
        assert ended is not None and ended.reason == "ContainerStatusUnknown"
        made = [r.config.metadata.name for r in harness.cri.called("CreateContainer")]
        assert made == ["app", "debugger", "app"]


async def test_it_does_not_keep_a_finished_pod_alive(harness: Harness) -> None:
    async with harness.running() as kubelet:
        harness.source.set(make_pod(restartPolicy="Never"))
        await harness.ready()
        uid = harness.pod().uid
        kubelet.add_ephemeral(uid, ephemeral())
        await harness.until(lambda: status(harness).state.running)
        harness.cri.exit("app", 0)
        await harness.until(lambda: harness.pod().status.phase == "Succeeded")
        await harness.until(lambda: harness.cri.running() == [])
        with pytest.raises(NodeError, match=r"has ended \(Succeeded\)"):
            kubelet.add_ephemeral(uid, ephemeral("late"))


async def test_a_resize_keeps_it(harness: Harness) -> None:
    def sized(cpu: str) -> dict[str, Any]:
        return {"name": "app", "resources": {"requests": {"cpu": cpu}}}

    async with harness.running() as kubelet:
        harness.source.set(make_pod("web", sized("100m")))
        await harness.ready()
        kubelet.add_ephemeral(harness.pod().uid, ephemeral())
        await harness.until(lambda: status(harness).state.running)
        harness.source.set(make_pod("web", sized("200m")))
        await harness.until(lambda: harness.pod().spec.containers[0].resources.requests["cpu"] == "200m")
        assert [each.name for each in harness.pod().spec.ephemeral_containers] == ["debugger"]
        assert status(harness).state.running is not None


async def test_the_checkpoint_that_can_not_be_written_is_an_error(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness.running() as kubelet:
        harness.source.set(make_pod())
        await harness.ready()

        def full(*args: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("minikubelet.kubelet.checkpoint.save", full)
            with pytest.raises(NodeError, match="No space left"):
                kubelet.add_ephemeral(harness.pod().uid, ephemeral())
        await harness.settle()
        assert harness.pod().spec.ephemeral_containers == []
        with pytest.raises(NodeError, match="gone") as caught:
            kubelet.add_ephemeral("nobody", ephemeral())
        assert caught.value.code is Code.NOT_FOUND


async def test_create_errors_are_tried_again(harness: Harness) -> None:
    async with harness.running() as kubelet:
        harness.source.set(make_pod())
        await harness.ready()
        harness.cri.fail_next["CreateContainer"] = [CriError(grpc.StatusCode.INTERNAL, "not now")]
        kubelet.add_ephemeral(harness.pod().uid, ephemeral())
        await harness.until(lambda: waits(harness) == "CreateContainerError")
        harness.clock.advance(harness.config.retry_period)
        await harness.until(lambda: status(harness).state.running)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": ""}, "name: Required value"),
        ({"name": "Caps"}, "lowercase RFC 1123 label"),
        ({"name": "app"}, 'name: Duplicate value: "app"'),
        ({"name": "old"}, 'name: Duplicate value: "old"'),
        ({"image": ""}, "image: Required value"),
        ({"targetContainerName": "old"}, 'targetContainerName: Not found: "old"'),
        ({"ports": [{"containerPort": 80}]}, "ports: Forbidden"),
        ({"resources": {"limits": {"cpu": "1"}}}, "resources: Forbidden"),
        ({"restartPolicy": "Always"}, "restartPolicy: Forbidden"),
        ({"livenessProbe": {"tcpSocket": {"port": 1}}}, "livenessProbe: Forbidden"),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}, "lifecycle: Forbidden"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a"}]}, "subPath: Forbidden"),
        ({"volumeMounts": [{"name": "none", "mountPath": "/v"}]}, 'name: Not found: "none"'),
    ],
)
def test_what_is_refused(more: dict[str, Any], words: str) -> None:
    pod = make_pod(volumes=[{"name": "v", "emptyDir": {}}])
    pod.spec.ephemeral_containers = [ephemeral("old")]
    with pytest.raises(NodeError) as caught:
        admit(pod, ephemeral(**more))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert words in str(caught.value) and "spec.ephemeralContainers[1]" in str(caught.value)


def test_defaults_and_limits() -> None:
    pod = make_pod(volumes=[{"name": "v", "emptyDir": {}}])
    asked = ephemeral(volumeMounts=[{"name": "v", "mountPath": "/v"}], image="tools")
    got = admit(pod, asked)
    assert (got.image_pull_policy, got.termination_message_policy) == ("Always", "File")
    assert asked.image_pull_policy == ""
    pod.spec.ephemeral_containers = [ephemeral(f"c{n}") for n in range(MOST)]
    with pytest.raises(NodeError, match="already"):
        admit(pod, ephemeral())

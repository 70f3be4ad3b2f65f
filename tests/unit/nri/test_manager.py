"""Plugins over a real socket: who is asked when, what their answers do, and what a bad plugin can't do."""

from __future__ import annotations

import asyncio
import os
import struct

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.nri.manager import Manager
from minikubelet.nri.plugin import Timeouts
from minikubelet.nri.server import NriServer
from minikubelet.runtime.models import LinuxResources
from tests.unit.nri.conftest import MakeScene, Scene, until
from tests.unit.nri.fake import FakePlugin, Refuse, container, sandbox, start_request


def create(*keys: str, **fields: object) -> nri.CreateContainerResponse:
    """An answer that sets variables."""
    answer = nri.CreateContainerResponse()
    for key in keys:
        answer.adjust.env.add(key=key, value="plugin")
    return answer


def mask(*events: int) -> int:
    return sum(1 << (event - 1) for event in events)


async def test_without_plugins_nobody_is_asked(scene: Scene) -> None:
    assert not scene.manager.active
    made = container(sandbox())
    assert await scene.manager.create_container(made, start_request(made)) is None


async def test_the_socket_is_for_root_alone_and_goes_away(scene: Scene) -> None:
    assert os.stat(scene.path).st_mode & 0o777 == 0o600
    with pytest.raises(NodeError, match="another process serves"):
        await NriServer(scene.path, scene.manager).start()


async def test_a_stale_socket_is_replaced(scene: Scene, tmp_path: object) -> None:
    path = f"{tmp_path}/stale.sock"
    server = await asyncio.start_unix_server(lambda reader, writer: None, path)
    server.close()
    await server.wait_closed()
    assert os.path.exists(path)
    again = NriServer(path, Manager(scene.node))
    await again.start()
    await again.close()
    assert not os.path.exists(path)


async def test_registration_configuration_and_what_exists(scene: Scene) -> None:
    pod = sandbox("web", labels={"a": "b"})
    scene.node.pods.append(pod)
    scene.node.add(container(pod, "app"))
    ended = scene.node.add(container(pod, "ended"))
    ended.status.finished_at = 1
    plugin = await scene.plugin("seen", "07")
    assert plugin.methods() == ["Configure", "Synchronize"]
    configured, existing = (asked for _, asked in plugin.asked)
    assert configured.runtime_name == "minikubelet"
    assert configured.request_timeout == 10_000
    assert [each.name for each in existing.pods] == ["web"]
    assert existing.pods[0].labels == {"a": "b"}
    assert [each.id for each in existing.containers] == ["app-id"]
    assert list(existing.containers[0].args) == ["sleep", "1"]
    assert [each.destination for each in existing.containers[0].mounts] == ["/proc", "/data"]


async def test_what_exists_comes_in_pieces(scene: Scene) -> None:
    for number in range(40):
        pod = sandbox(f"pod{number}", annotations={"long": "x" * 100_000})
        scene.node.pods.append(pod)
        scene.node.add(container(pod, f"app{number}"))
    plugin = await scene.plugin("large", "01")
    await until(lambda: bool(plugin.asked) and not plugin.asked[-1][1].more)
    pieces = [asked for method, asked in plugin.asked if method == "Synchronize"]
    assert len(pieces) > 3
    assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert all(piece.ByteSize() < 2 << 20 for piece in pieces)
    assert [pod.name for piece in pieces for pod in piece.pods] == [f"pod{n}" for n in range(40)]
    assert sum(len(piece.containers) for piece in pieces) == 40
    # Go's reader has no room for a longer first frame.
    assert plugin.longest_first_frame <= 4096


async def test_a_plugin_that_takes_no_pieces_is_let_go(scene: Scene) -> None:
    for number in range(30):
        scene.node.pods.append(sandbox(f"pod{number}", annotations={"long": "x" * 100_000}))
    plugin = FakePlugin("old", "01", Synchronize=lambda asked: nri.SynchronizeResponse())
    scene.plugins.append(plugin)
    await plugin.connect(scene.path)
    await asyncio.wait_for(plugin.closed.wait(), 10)
    assert not scene.manager.active


async def test_plugins_are_asked_in_order_and_see_each_other(scene: Scene) -> None:
    late = await scene.plugin("late", "90", CreateContainer=lambda asked: create("LATE"))
    early = await scene.plugin("early", "10", CreateContainer=lambda asked: create("EARLY"))
    await until(lambda: len(scene.manager._plugins) == 2)
    made = container(sandbox())
    adjusted = await scene.manager.create_container(made, start_request(made))
    assert adjusted is not None
    assert adjusted.env == ("EARLY=plugin", "LATE=plugin")
    assert list(early.asked[-2][1].container.env) == ["A=1", "B=2"]
    assert list(late.asked[-2][1].container.env) == ["A=1", "B=2", "EARLY=plugin"]


async def test_two_plugins_that_set_the_same_are_a_conflict(scene: Scene) -> None:
    await scene.plugin("one", "10", CreateContainer=lambda asked: create("SAME"))
    await scene.plugin("two", "20", CreateContainer=lambda asked: create("SAME"))
    await until(lambda: len(scene.manager._plugins) == 2)
    made = container(sandbox())
    with pytest.raises(NodeError, match="'10-one' and '20-two' both set Env 'SAME'") as caught:
        await scene.manager.create_container(made, start_request(made))
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_only_events_of_the_mask_are_sent(scene: Scene) -> None:
    plugin = await scene.plugin("narrow", "10", mask(nri.STOP_POD_SANDBOX))
    pod = sandbox()
    await scene.manager.run_sandbox(pod)
    await scene.manager.stop_sandbox(pod, -1)
    await scene.manager.start_container(container(pod))
    assert plugin.methods() == ["Configure", "Synchronize", "StopPodSandbox"]


async def test_a_pod_that_has_stopped_is_shown_with_the_namespace_that_is_still_held(scene: Scene) -> None:
    plugin = await scene.plugin("net", "10")
    pod = sandbox()
    pod.status.pid = 4711
    await scene.manager.stop_sandbox(pod, 7)
    await scene.manager.stop_sandbox(pod, -1)
    shown = [
        [(each.type, each.path) for each in asked.pod.linux.namespaces]
        for method, asked in plugin.asked
        if method == "StopPodSandbox"
    ]
    assert shown[0] == [("network", f"/proc/{os.getpid()}/fd/7")]
    assert shown[1] == [("network", "/proc/4711/ns/net")]


async def test_an_old_plugin_gets_state_changes(scene: Scene) -> None:
    def unknown(asked: object) -> None:
        raise Refuse(12, "unimplemented")

    plugin = await scene.plugin("old", "10", StartContainer=unknown)
    await scene.manager.start_container(container(sandbox()))
    method, change = plugin.asked[-1]
    assert method == "StateChange"
    assert change.event == nri.START_CONTAINER
    assert change.container.id == "app-id"


async def test_a_refusal_fails_what_it_may_fail(scene: Scene) -> None:
    def refuse(asked: object) -> None:
        raise Refuse(9, "not today")

    methods = ("RunPodSandbox", "CreateContainer", "StartContainer", "PostStartContainer", "StopContainer")
    plugin = await scene.plugin("strict", "10", 0, **dict.fromkeys(methods, refuse))
    pod = sandbox()
    made = container(pod)
    for asked in (
        scene.manager.run_sandbox(pod),
        scene.manager.create_container(made, start_request(made)),
        scene.manager.start_container(made),
    ):
        with pytest.raises(NodeError, match=r"'10-strict' refuses .*: not today"):
            await asked
    await scene.manager.container_started(made)
    await scene.manager.stop_container(made)
    # A pod that a plugin has refused ends for all of them.
    assert plugin.methods()[2:5] == ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"]
    assert scene.manager.active


async def test_a_validator_rejects(scene: Scene) -> None:
    def reject(asked: nri.ValidateContainerAdjustmentRequest) -> nri.ValidateContainerAdjustmentResponse:
        owners = asked.owners.owners[asked.container.id].compound[nri.Field.Env].owners
        assert list(asked.container.env) == ["A=1", "B=2"]
        return nri.ValidateContainerAdjustmentResponse(reject=True, reason=f"by {owners['SECRET']}")

    await scene.plugin("sets", "10", CreateContainer=lambda asked: create("SECRET"))
    await scene.plugin(
        "guard", "50", mask(nri.VALIDATE_CONTAINER_ADJUSTMENT), ValidateContainerAdjustment=reject
    )
    await until(lambda: len(scene.manager._plugins) == 2)
    made = container(sandbox())
    with pytest.raises(NodeError, match="'50-guard' rejects the adjustment: by 10-sets"):
        await scene.manager.create_container(made, start_request(made))


async def test_updates_of_other_containers(scene: Scene) -> None:
    def answer(asked: nri.CreateContainerRequest) -> nri.CreateContainerResponse:
        result = nri.CreateContainerResponse()
        for name in ("other-id", "gone-id"):
            result.update.add(container_id=name).linux.resources.cpu.shares.value = 77
        return result

    await scene.plugin("shifts", "10", CreateContainer=answer)
    pod = sandbox()
    scene.node.add(container(pod, "other", resources=LinuxResources(memory_limit=9)))
    made = container(pod)
    assert await scene.manager.create_container(made, start_request(made)) is None
    assert scene.node.set == [("other-id", LinuxResources(memory_limit=9, cpu_shares=77))]


async def test_update_container(scene: Scene) -> None:
    def answer(asked: nri.UpdateContainerRequest) -> nri.UpdateContainerResponse:
        assert asked.linux_resources.memory.limit.value == 100
        result = nri.UpdateContainerResponse()
        result.update.add(container_id="app-id").linux.resources.memory.limit.value = 200
        return result

    await scene.plugin("doubles", "10", UpdateContainer=answer)
    made = scene.node.add(container(sandbox()))
    update = LinuxResources(memory_limit=100, cpu_shares=5)
    changed = await scene.manager.update_container(made, update)
    assert changed == LinuxResources(memory_limit=200, cpu_shares=5)
    assert scene.node.set == []


async def test_unasked_updates(scene: Scene) -> None:
    plugin = await scene.plugin("asks", "10")
    scene.node.add(container(sandbox()))
    request = nri.UpdateContainersRequest()
    request.update.add(container_id="app-id").linux.resources.unified["memory.high"] = "1000"
    request.update.add(container_id="app-id").linux.resources.memory.kernel.value = 5
    response = await plugin.request("UpdateContainers", request)
    failed = nri.UpdateContainersResponse.FromString(response.payload).failed
    assert [each.linux.resources.memory.kernel.value for each in failed] == [5]
    assert scene.node.set == [("app-id", LinuxResources(unified={"memory.high": "1000"}))]
    evict = nri.UpdateContainersRequest(evict=[nri.ContainerEviction(container_id="app-id")])
    assert (await plugin.request("UpdateContainers", evict)).status.code == 12


async def test_a_container_on_its_way_is_told_once(scene: Scene) -> None:
    """It is in nobody's list yet, and its event has gone out before the second plugin came."""
    await scene.plugin("first", "10")
    made = container(sandbox())
    await scene.manager.create_container(made, start_request(made))
    second = await scene.plugin("second", "20")
    await until(lambda: len(scene.manager._plugins) == 2)
    assert [each.id for each in second.asked[1][1].containers] == ["app-id"]
    await scene.manager.remove_container(made)
    third = await scene.plugin("third", "30")
    assert list(third.asked[1][1].containers) == []


# --- plugins that behave badly -----------------------------------------------------------------------


async def test_a_plugin_that_does_not_register_is_let_go(make_scene: MakeScene) -> None:
    scene = await make_scene(Timeouts(registration=0.1, request=5))
    plugin = FakePlugin("silent", "10")
    await plugin.connect(scene.path, register=False)
    await asyncio.wait_for(plugin.closed.wait(), 10)


async def test_a_plugin_that_does_not_answer_is_let_go_and_pods_go_on(make_scene: MakeScene) -> None:
    scene = await make_scene(Timeouts(registration=5, request=0.2))
    hangs = await scene.plugin("hangs", "10", CreateContainer=lambda asked: None)
    await scene.plugin("works", "20", CreateContainer=lambda asked: create("B"))
    await until(lambda: len(scene.manager._plugins) == 2)
    made = container(sandbox())
    adjusted = await scene.manager.create_container(made, start_request(made))
    assert adjusted is not None and adjusted.env == ("B=plugin",)
    await asyncio.wait_for(hangs.closed.wait(), 10)
    await until(lambda: len(scene.manager._plugins) == 1)


@pytest.mark.parametrize(("name", "index"), [("", "10"), ("a/b", "10"), ("fine", "1"), ("fine", "1x")])
async def test_bad_names_and_indices_are_refused(scene: Scene, name: str, index: str) -> None:
    plugin = FakePlugin(name, index)
    scene.plugins.append(plugin)
    await plugin.connect(scene.path, register=False)
    response = await plugin.register()
    assert response.status.code == Code.INVALID_ARGUMENT.value
    assert plugin.methods() == []


async def test_unknown_events_are_refused(scene: Scene) -> None:
    plugin = FakePlugin("odd", "10", 1 << 20)
    await plugin.connect(scene.path)
    await asyncio.wait_for(plugin.closed.wait(), 10)
    assert plugin.methods() == ["Configure"]


def _message(stream: int, kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("!IIBB", len(body) if length is None else length, stream, kind, 0) + body


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!II", 2, 0xFFFFFFFF),
        struct.pack("!II", 2, 10) + _message(1, 1, length=0x7FFFFFFF),
        struct.pack("!II", 2, 10) + _message(2, 1),
        struct.pack("!II", 2, 10) + _message(1, 3),
        struct.pack("!II", 1, 12) + _message(1, 2, b"\xff\xff"),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["long frame", "long message", "even stream", "unknown type", "not protobuf", "another protocol"],
)
async def test_broken_bytes_end_the_connection(scene: Scene, data: bytes) -> None:
    plugin = FakePlugin("broken", "10", Configure=lambda asked: None)
    await plugin.connect(scene.path)
    await until(lambda: "Configure" in plugin.methods())
    plugin.writer.write(data)
    await asyncio.wait_for(plugin.closed.wait(), 10)
    assert not scene.manager.active


async def test_a_flood_of_requests_ends_the_connection(scene: Scene) -> None:
    plugin = await scene.plugin("flood", "10")
    body = b""
    for number in range(100):
        body += _message(101 + 2 * number, 1)
    plugin.send(2, body)
    await asyncio.wait_for(plugin.closed.wait(), 10)


async def test_a_plugin_that_goes_within_a_call(scene: Scene) -> None:
    def leave(asked: object) -> None:
        plugin.writer.close()

    plugin = await scene.plugin("leaves", "10", CreateContainer=leave)
    made = container(sandbox())
    assert await scene.manager.create_container(made, start_request(made)) is None
    await until(lambda: not scene.manager.active)

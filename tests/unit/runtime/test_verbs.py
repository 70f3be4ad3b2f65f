"""The verbs against fake monitors: what is recorded, undone and refused."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.exec_sync import exec_sync
from minikubelet.runtime.lifecycle import LOST_EXIT_CODE
from minikubelet.runtime.models import (
    ContainerState,
    ImageSpec,
    LinuxResources,
    MountConfig,
    Port,
    SandboxState,
)
from minikubelet.runtime.recovery import recover
from minikubelet.runtime.remove_container import remove_container
from minikubelet.runtime.remove_sandbox import remove_sandbox
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.start_container import start_container
from minikubelet.runtime.stop_container import stop_container
from minikubelet.runtime.stop_sandbox import stop_sandbox
from minikubelet.runtime.streams import Wanted, open_exec
from minikubelet.runtime.update_resources import update_resources
from minikubelet.wire import messages as wire
from tests.unit.runtime.fakes import IMAGE_ID, FakeNode, container_config, sandbox_config


async def running(node: FakeNode, name: str = "app") -> tuple[str, str]:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    container_id = await create_container(node.context, sandbox_id, container_config(name))
    await start_container(node.context, container_id)
    return sandbox_id, container_id


def nothing_is_left(node: FakeNode) -> None:
    config = node.context.config
    assert os.listdir(f"{config.run}/pods") == []
    assert os.listdir(f"{config.root}/containers") == []
    assert node.context.store.load() == []
    assert not node.network.attached
    assert not node.images.held
    assert not node.context.sandboxes
    assert not node.context.containers
    assert all(monitor.sock.fileno() < 0 for monitor in node.spawner.monitors)


async def test_a_pods_life(node: FakeNode) -> None:
    sandbox_id, container_id = await running(node)
    sandbox = node.context.sandbox(sandbox_id)
    container = node.context.container(container_id)
    assert sandbox.state == SandboxState.READY
    assert sandbox.status.ips == ("10.0.0.2",)
    assert container.state == ContainerState.RUNNING
    assert container.status.user == wire.ResolvedUser(uid=7)
    assert node.images.held == {container_id: IMAGE_ID}
    await stop_container(node.context, container_id, 0)
    assert (container.status.exit_code, container.status.reason) == (137, "Error")
    assert node.context.container(container_id).state is ContainerState.EXITED
    await remove_container(node.context, container_id)
    await stop_sandbox(node.context, sandbox_id)
    assert node.context.sandbox(sandbox_id).state is SandboxState.NOT_READY
    assert not node.network.attached
    await remove_sandbox(node.context, sandbox_id)
    nothing_is_left(node)


async def test_stopping_and_removing_again_is_no_error(node: FakeNode) -> None:
    sandbox_id, container_id = await running(node)
    for _ in range(2):
        await stop_container(node.context, container_id, 0)
        await stop_sandbox(node.context, sandbox_id)
    for _ in range(2):
        await remove_container(node.context, container_id)
        await remove_sandbox(node.context, sandbox_id)
    await stop_container(node.context, "no-such", 5)
    nothing_is_left(node)


async def test_removing_a_ready_sandbox_takes_its_running_containers_along(node: FakeNode) -> None:
    sandbox_id, _ = await running(node)
    await remove_sandbox(node.context, sandbox_id)
    nothing_is_left(node)


@pytest.mark.parametrize("step", ["StartSandbox"])
async def test_a_sandbox_that_cannot_start_leaves_nothing(node: FakeNode, step: str) -> None:
    node.spawner.failures[step] = wire.Failure(step="clone", number=errno.ENOSPC, path="/x")
    with pytest.raises(StepError, match="clone '/x'") as caught:
        await run_sandbox(node.context, sandbox_config(), "")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    nothing_is_left(node)
    node.spawner.failures.clear()
    await run_sandbox(node.context, sandbox_config(), "")


async def test_a_network_that_cannot_attach_undoes_the_sandbox(node: FakeNode) -> None:
    node.network.failure = NodeError(Code.RESOURCE_EXHAUSTED, "the subnet is full")
    with pytest.raises(NodeError, match="full"):
        await run_sandbox(node.context, sandbox_config(), "")
    nothing_is_left(node)


async def test_a_cancelled_sandbox_undoes_itself(node: FakeNode) -> None:
    node.spawner.silent.add("StartSandbox")
    call = asyncio.ensure_future(node.context.run(run_sandbox(node.context, sandbox_config(), "")))
    await asyncio.sleep(0.05)
    assert node.spawner.monitors[0].names() == ["StartSandbox"]
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await node.context.drain(5)
    nothing_is_left(node)


async def test_a_name_belongs_to_one_sandbox(node: FakeNode) -> None:
    calls = [run_sandbox(node.context, sandbox_config(), "") for _ in range(10)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    made = [result for result in results if isinstance(result, str)]
    refused = [result for result in results if isinstance(result, NodeError)]
    assert len(made) == 1
    assert len(refused) == 9
    assert all(error.code is Code.ALREADY_EXISTS and made[0] in str(error) for error in refused)


async def test_pods_do_not_wait_for_one_another(node: FakeNode) -> None:
    first = await run_sandbox(node.context, sandbox_config("first"), "")
    node.spawner.silent.add("StopSandbox")
    stuck = asyncio.ensure_future(stop_sandbox(node.context, first))
    await asyncio.sleep(0.02)
    await asyncio.wait_for(run_sandbox(node.context, sandbox_config("second"), ""), 5)
    waiting = asyncio.ensure_future(create_container(node.context, first, container_config()))
    done, _ = await asyncio.wait([stuck, waiting], timeout=0.05)
    assert not done
    for task in (stuck, waiting):
        task.cancel()
    await asyncio.wait([stuck, waiting])


async def test_an_unknown_runtime_handler_is_refused(node: FakeNode) -> None:
    with pytest.raises(NodeError, match="no runtime handler 'kata'"):
        await run_sandbox(node.context, sandbox_config(), "kata")
    nothing_is_left(node)


async def test_a_container_needs_a_ready_sandbox_and_an_image(node: FakeNode) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    with pytest.raises(NodeError) as caught:
        await create_container(node.context, sandbox_id, container_config(image=type_image("nope")))
    assert caught.value.code is Code.NOT_FOUND
    await stop_sandbox(node.context, sandbox_id)
    with pytest.raises(NodeError) as caught:
        await create_container(node.context, sandbox_id, container_config())
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert os.listdir(f"{node.context.config.root}/containers") == []


def type_image(name: str) -> object:
    from minikubelet.runtime.models import ImageSpec

    return ImageSpec(image=name)


async def test_a_container_that_cannot_start_has_ended_with_start_error(node: FakeNode) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    container_id = await create_container(node.context, sandbox_id, container_config())
    node.spawner.failures["StartContainer"] = wire.Failure(step="exec", number=errno.ENOENT, path="/app")
    with pytest.raises(StepError, match="exec '/app'"):
        await start_container(node.context, container_id)
    container = node.context.container(container_id)
    assert container.state is ContainerState.EXITED
    assert (container.status.exit_code, container.status.reason) == (128, "StartError")
    assert "/app" in container.status.message
    with pytest.raises(NodeError, match="CONTAINER_EXITED"):
        await start_container(node.context, container_id)


async def test_a_container_that_ends_at_once_is_recorded_after_its_start(node: FakeNode) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    container_id = await create_container(node.context, sandbox_id, container_config())
    monitor = node.spawner.monitors[0]
    handle = monitor.handle

    def answer_and_exit(message: object) -> None:
        handle(message)
        if isinstance(message, wire.StartContainer):
            monitor.exit(container_id, 3)

    monitor.handle = answer_and_exit  # type: ignore[method-assign]
    await start_container(node.context, container_id)
    container = node.context.container(container_id)
    await asyncio.wait_for(container.exited.wait(), 5)
    assert container.status.started_at == 5
    assert container.status.exit_code == 3
    (stored,) = node.context.store.load()
    assert stored.containers[container_id].status == container.status


async def test_the_stop_signal_is_sent_once_and_grace_is_kept(node: FakeNode) -> None:
    _, container_id = await running(node)
    patient = asyncio.ensure_future(stop_container(node.context, container_id, 60))
    await asyncio.sleep(0.02)
    again = asyncio.ensure_future(stop_container(node.context, container_id, 60))
    await asyncio.sleep(0.02)
    assert not patient.done()
    await stop_container(node.context, container_id, 0)
    await asyncio.wait_for(asyncio.gather(patient, again), 5)
    signals = [r for r in node.spawner.monitors[0].requests if isinstance(r, wire.SignalContainer)]
    assert [(request.signal, request.all) for request in signals] == [(15, False), (9, True)]


async def test_a_monitor_that_dies_ends_its_containers(node: FakeNode) -> None:
    sandbox_id, container_id = await running(node)
    node.spawner.monitors[0].die()
    container = node.context.container(container_id)
    await asyncio.wait_for(container.exited.wait(), 5)
    assert (container.status.exit_code, container.status.reason) == (LOST_EXIT_CODE, "Error")
    assert "monitor" in container.status.message
    assert node.context.sandbox(sandbox_id).state is SandboxState.NOT_READY
    await remove_sandbox(node.context, sandbox_id)
    nothing_is_left(node)


async def test_a_monitor_that_dies_has_written_down_the_exits_it_saw(node: FakeNode) -> None:
    sandbox_id, container_id = await running(node)
    folder = Path(node.context.run_dir(sandbox_id)) / "exits"
    folder.mkdir()
    (folder / container_id).write_bytes(b'{"exit_code":42,"finished_at":77}')
    node.spawner.monitors[0].die()
    container = node.context.container(container_id)
    await asyncio.wait_for(container.exited.wait(), 5)
    assert (container.status.exit_code, container.status.finished_at) == (42, 77)


async def test_a_pause_that_ends_makes_the_sandbox_not_ready(node: FakeNode) -> None:
    from minikubelet.wire import channel

    sandbox_id, _ = await running(node)
    event = wire.SandboxExited(status=wire.ExitStatus(exit_code=137))
    channel.send(node.spawner.monitors[0].sock, event)
    for _ in range(100):
        if node.context.sandbox(sandbox_id).state is SandboxState.NOT_READY:
            break
        await asyncio.sleep(0.01)
    assert node.context.sandbox(sandbox_id).state is SandboxState.NOT_READY
    assert "pause" in node.context.sandbox(sandbox_id).status.message


async def test_exec_that_outlives_its_timeout_is_killed(node: FakeNode) -> None:
    _, container_id = await running(node)
    with pytest.raises(NodeError) as caught:
        await exec_sync(node.context, container_id, ("sleep", "9"), 1)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert "KillExec" in node.spawner.monitors[0].names()
    assert not node.context.execs


@pytest.mark.parametrize("waited", [False, True])
async def test_a_streamed_exec_whose_monitor_dies_is_forgotten(node: FakeNode, waited: bool) -> None:
    _, container_id = await running(node)
    streams = await open_exec(node.context, container_id, ("cat",), Wanted(False, True, False))
    assert len(node.context.execs) == 1
    node.spawner.monitors[0].die()
    await asyncio.wait_for(node.context.container(container_id).exited.wait(), 5)
    if waited:
        assert await asyncio.wait_for(streams.wait(), 5) == 137
    else:
        await streams.cancel()
    os.close(streams.stdout)
    assert not node.context.execs


@pytest.mark.parametrize("stream", [False, True])
async def test_an_exec_without_descriptors_leaves_none_open(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    _, container_id = await running(node)
    pipe2 = os.pipe2
    made: list[tuple[int, int]] = []

    def scarce(flags: int) -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(pipe2(flags))
        return made[-1]

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "pipe2", scarce)
    with pytest.raises(OSError, match="Too many open files"):
        if stream:
            await open_exec(node.context, container_id, ("true",), Wanted(False, True, True))
        else:
            await exec_sync(node.context, container_id, ("true",), 0)
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == before
    assert not node.context.execs


async def test_exec_needs_a_command_and_a_running_container(node: FakeNode) -> None:
    _, container_id = await running(node)
    for command in ((), ("",), ("a\0b",)):
        with pytest.raises(NodeError) as caught:
            await exec_sync(node.context, container_id, command, 0)
        assert caught.value.code is Code.INVALID_ARGUMENT
    await stop_container(node.context, container_id, 0)
    with pytest.raises(NodeError) as caught:
        await exec_sync(node.context, container_id, ("true",), 0)
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_limits_that_cannot_be_enforced_are_refused(node: FakeNode) -> None:
    _, container_id = await running(node)
    with pytest.raises(NodeError, match=r"memory\.max") as caught:
        await update_resources(node.context, container_id, LinuxResources(memory_limit=1 << 26))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert node.context.container(container_id).resources == LinuxResources()
    await update_resources(node.context, container_id, LinuxResources(cpu_shares=512))
    assert node.context.container(container_id).resources.cpu_shares == 512


async def test_identifiers_are_exact_but_for_the_short_form(node: FakeNode) -> None:
    sandbox_id, container_id = await running(node)
    assert node.context.container(container_id[:13]).id == container_id
    assert node.context.sandbox(sandbox_id[:13]).id == sandbox_id
    for length in (1, 12, 14, 63):
        with pytest.raises(NodeError) as caught:
            node.context.container(container_id[:length])
        assert caught.value.code is Code.NOT_FOUND


async def test_port_mappings_reach_the_network(node: FakeNode) -> None:
    ports = (Port(container_port=80, host_port=8080), Port(protocol="UDP", container_port=53))
    sandbox_id = await run_sandbox(node.context, sandbox_config(ports=ports), "")
    given = node.network.attached[sandbox_id]
    assert [(port.protocol, port.container_port, port.host_port) for port in given] == [
        ("TCP", 80, 8080),
        ("UDP", 53, 0),
    ]


class TestRecovery:
    async def test_vanished_monitors(self, node: FakeNode, tmp_path: Path) -> None:
        sandbox_id, container_id = await running(node)
        node.context.sandbox(sandbox_id).monitor.close()
        again = FakeNode(tmp_path / "node")
        await recover(again.context)
        assert again.context.sandbox(sandbox_id).state is SandboxState.NOT_READY
        container = again.context.container(container_id)
        assert container.state is ContainerState.EXITED
        assert container.status.exit_code == LOST_EXIT_CODE
        assert again.network.collected == []
        await remove_sandbox(again.context, sandbox_id)
        nothing_is_left(again)
        again.close()

    async def test_half_made_sandboxes_are_undone(self, node: FakeNode, tmp_path: Path) -> None:
        sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
        sandbox = node.context.sandbox(sandbox_id)
        sandbox.status.ready_at = 0
        node.context.store.save_sandbox(sandbox)
        again = FakeNode(tmp_path / "node")
        await recover(again.context)
        nothing_is_left(again)
        await run_sandbox(again.context, sandbox_config(), "")
        again.close()

    async def test_a_record_that_says_too_little_leaves_no_container(
        self, node: FakeNode, tmp_path: Path
    ) -> None:
        """Damaged to an empty status, it looks half made; but its containers have layers."""
        sandbox_id, _ = await running(node)
        node.db.execute("UPDATE sandboxes SET status='{}' WHERE id=?", (sandbox_id,))
        again = FakeNode(tmp_path / "node")
        await recover(again.context)
        assert not again.context.containers
        nothing_is_left(again)
        again.close()

    async def test_strays_go(self, node: FakeNode) -> None:
        config = node.context.config
        os.makedirs(f"{config.run}/pods/stray/exits")
        os.makedirs(f"{config.root}/containers/stray/upper")
        await recover(node.context)
        nothing_is_left(node)

    async def test_an_unreadable_record_is_set_aside(self, node: FakeNode, tmp_path: Path) -> None:
        good = await run_sandbox(node.context, sandbox_config("good"), "")
        bad = await run_sandbox(node.context, sandbox_config("bad"), "")
        node.db.execute("UPDATE sandboxes SET config='{' WHERE id=?", (bad,))
        loaded = node.context.store.load()
        assert [sandbox.id for sandbox in loaded] == [good]
        rows = node.db.execute("SELECT id, kind FROM unreadable").fetchall()
        assert [tuple(row) for row in rows] == [(bad, "sandbox")]


async def test_an_image_volume_is_held_and_mounted(node: FakeNode) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    mount = MountConfig(
        container_path="/data/", image=ImageSpec(image="app"), image_sub_path="a/b", options=("noexec",)
    )
    config = container_config(mounts=(mount,))
    container_id = await create_container(node.context, sandbox_id, config)
    (stored,) = node.context.store.load()
    assert stored.containers[container_id].image.volumes == (("2", "1"),)
    await start_container(node.context, container_id)
    (request,) = [r for r in node.spawner.monitors[0].requests if isinstance(r, wire.StartContainer)]
    assert request.mounts[-1] == wire.Mount(
        kind="image",
        target="/data",
        flags=["noexec", "ro"],
        layers=["2", "1"],
        sub_path="a/b",
        field="config.mounts[0].image_sub_path",
    )


async def test_an_image_volume_that_is_not_here(node: FakeNode) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    mounts = (
        MountConfig(container_path="/a", image=ImageSpec(image="app")),
        MountConfig(container_path="/b", image=ImageSpec(image="other")),
    )
    with pytest.raises(NodeError) as caught:
        await create_container(node.context, sandbox_id, container_config(mounts=mounts))
    assert (caught.value.code, caught.value.field) == (Code.NOT_FOUND, "config.mounts[1].image")
    assert not node.images.held

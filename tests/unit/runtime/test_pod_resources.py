"""Resources of a pod's own cgroup: at RunPodSandbox and by UpdatePodSandboxResources."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.linux.cgroup.core import ensure
from minikubelet.runtime.models import LinuxResources
from minikubelet.runtime.resources import Enforcement, with_overhead
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.stop_sandbox import stop_sandbox
from minikubelet.runtime.update_sandbox_resources import update_sandbox_resources
from minikubelet.wire import messages as wire
from tests.unit.runtime.fakes import FakeNode, sandbox_config

_LIMITED = LinuxResources(memory_limit=1 << 20, cpu_shares=1024, cpu_quota=50_000, cpu_period=100_000)
_OVERHEAD = LinuxResources(memory_limit=1 << 10, cpu_shares=1, cpu_quota=10_000, cpu_period=200_000)


@pytest.fixture(autouse=True)
def enforced(node: FakeNode) -> None:
    node.context.enforcement = Enforcement(frozenset({"cpu", "memory"}), False)


def started(node: FakeNode) -> wire.StartSandbox:
    (request,) = [r for r in node.spawner.monitors[-1].requests if isinstance(r, wire.StartSandbox)]
    return request


def make_cgroup(node: FakeNode, path: str) -> Path:
    ensure(node.context.cgroups.path, path, ())
    folder = Path(node.context.cgroups.path + path)
    for name in ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight"):
        (folder / name).touch()
    return folder


def test_overhead_is_added_to_limits_only() -> None:
    total = with_overhead(_LIMITED, _OVERHEAD)
    assert total.memory_limit == (1 << 20) + (1 << 10)
    assert total.cpu_shares == 1025
    assert total.cpu_quota == 55_000
    assert with_overhead(None, _OVERHEAD) == LinuxResources()
    assert with_overhead(LinuxResources(memory_limit=-1), _OVERHEAD).memory_limit == -1
    assert with_overhead(_LIMITED, None) == _LIMITED


async def test_the_pods_own_cgroup_gets_the_sum(node: FakeNode) -> None:
    await run_sandbox(node.context, sandbox_config(resources=_LIMITED, overhead=_OVERHEAD), "")
    pod, pause = started(node).cgroups
    assert pod.files["memory.max"] == str((1 << 20) + (1 << 10))
    assert pod.files["cpu.max"] == "55000 100000"
    assert pause.files == {}


async def test_a_cgroup_that_was_named_is_left_to_its_owner(node: FakeNode) -> None:
    config = sandbox_config(resources=_LIMITED, cgroup_parent="/kubepods/pod1")
    sandbox_id = await run_sandbox(node.context, config, "")
    assert [group.files for group in started(node).cgroups] == [{}]
    folder = make_cgroup(node, "/kubepods/pod1")
    await update_sandbox_resources(node.context, sandbox_id, None, LinuxResources(memory_limit=2 << 20))
    assert (folder / "memory.max").read_text() == ""
    kept = node.context.sandbox(sandbox_id).status.resources
    assert kept is not None and kept.memory_limit == 2 << 20


async def test_what_cannot_be_is_refused_before_anything_is_made(node: FakeNode) -> None:
    for parent in ("", "/kubepods/pod1"):
        config = sandbox_config(resources=LinuxResources(cpu_quota=-1, cpu_period=1), cgroup_parent=parent)
        with pytest.raises(NodeError) as caught:
            await run_sandbox(node.context, config, "")
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert caught.value.field == "config.linux.resources.cpu_period"
    node.context.enforcement = Enforcement(frozenset(), False)
    with pytest.raises(NodeError) as caught:
        await run_sandbox(node.context, sandbox_config(resources=_LIMITED), "")
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert not node.spawner.monitors
    assert node.context.store.load() == []


async def test_an_update_is_written_and_kept(node: FakeNode) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(resources=_LIMITED), "")
    folder = make_cgroup(node, node.context.sandbox(sandbox_id).cgroup)
    await update_sandbox_resources(
        node.context, sandbox_id, LinuxResources(memory_limit=1 << 10), LinuxResources(memory_limit=4 << 20)
    )
    assert (folder / "memory.max").read_text() == str((4 << 20) + (1 << 10))
    assert (folder / "cpu.max").read_text() == "50000 100000", "what is not named stays"
    (stored,) = node.context.store.load()
    assert stored.status.resources is not None
    assert stored.status.resources.memory_limit == 4 << 20
    assert stored.status.overhead == LinuxResources(memory_limit=1 << 10)


async def test_a_failed_update_changes_nothing(node: FakeNode) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(resources=_LIMITED), "")
    with pytest.raises(StepError, match=r"memory\.max"):
        await update_sandbox_resources(node.context, sandbox_id, None, LinuxResources(memory_limit=2 << 20))
    assert node.context.sandbox(sandbox_id).status.resources is None
    with pytest.raises(NodeError) as caught:
        await update_sandbox_resources(node.context, sandbox_id, None, LinuxResources(memory_limit=-7))
    assert caught.value.code is Code.INVALID_ARGUMENT
    await stop_sandbox(node.context, sandbox_id)
    with pytest.raises(NodeError) as caught:
        await update_sandbox_resources(node.context, sandbox_id, None, _LIMITED)
    assert caught.value.code is Code.FAILED_PRECONDITION

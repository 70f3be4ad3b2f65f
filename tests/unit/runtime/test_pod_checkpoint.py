"""CheckpointPod and RestorePod without CRIU: what is refused, what is taken back, what is compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.runtime import checkpoint_pod, criu
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.models import Container
from minikubelet.runtime.restore_pod import PodRestore, named, restore_pod
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.start_container import start_container
from tests.unit.runtime.fakes import FakeNode, container_config, sandbox_config


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir(mode=0o700)
    return folder


class Captures:
    """In CRIU's place: takes note of who stands still meanwhile."""

    def __init__(self, node: FakeNode, monkeypatch: pytest.MonkeyPatch, fails_at: int = -1) -> None:
        self.frozen: list[list[str]] = []
        self._node = node
        self._fails_at = fails_at
        monkeypatch.setattr(checkpoint_pod, "capture", self)
        monkeypatch.setattr(criu, "find", lambda: "/criu")

    async def __call__(
        self, context: Any, container: Container, program: str, folder: str, status: dict[str, Any]
    ) -> None:
        Path(folder, "status.dump").write_text(status["id"])
        self.frozen.append(sorted(name for name, state in freezers(self._node).items() if state == "1"))
        if len(self.frozen) == self._fails_at:
            raise NodeError(Code.FAILED_PRECONDITION, "CRIU can't")


def freezers(node: FakeNode) -> dict[str, str]:
    result = {}
    for container in node.context.containers.values():
        path = Path(node.context.cgroups.path + container.cgroup, "cgroup.freeze")
        result[container.config.metadata.name] = path.read_text() if path.exists() else ""
    return result


async def two(node: FakeNode) -> tuple[str, list[str]]:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    containers = []
    for name in ("a", "b"):
        container_id = await create_container(node.context, sandbox_id, container_config(name))
        await start_container(node.context, container_id)
        folder = Path(node.context.cgroups.path + node.context.container(container_id).cgroup)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.freeze").write_text("0")
        containers.append(container_id)
    return sandbox_id, containers


def describe(container: Container) -> dict[str, Any]:
    return {"id": container.id}


async def test_all_stand_still_until_the_last_is_captured(
    node: FakeNode, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_id, containers = await two(node)
    captures = Captures(node, monkeypatch)
    await checkpoint_pod.checkpoint_pod(node.context, sandbox_id, str(output), containers, {}, describe)
    assert captures.frozen == [["a", "b"], ["a", "b"]]
    assert freezers(node) == {"a": "0", "b": "0"}
    assert sorted(os.listdir(output)) == ["container-0.tar", "container-1.tar", "pod.json"]


async def test_a_failure_leaves_the_folder_empty_and_nobody_frozen(
    node: FakeNode, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_id, containers = await two(node)
    Captures(node, monkeypatch, fails_at=2)
    with pytest.raises(NodeError, match="CRIU can't"):
        await checkpoint_pod.checkpoint_pod(node.context, sandbox_id, str(output), containers, {}, describe)
    assert freezers(node) == {"a": "0", "b": "0"}
    assert os.listdir(output) == []
    assert os.listdir(node.context.trash) == []


async def test_a_container_of_another_pod(
    node: FakeNode, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, containers = await two(node)
    other = await run_sandbox(node.context, sandbox_config("other"), "")
    Captures(node, monkeypatch)
    with pytest.raises(NodeError) as caught:
        await checkpoint_pod.checkpoint_pod(node.context, other, str(output), containers, {}, describe)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, "container_ids[0]")


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"null", b'{"version": 2, "checkpointed_at": 1, "members": []}']
)
async def test_a_folder_that_is_no_checkpoint(node: FakeNode, output: Path, content: bytes | None) -> None:
    if content is not None:
        (output / "pod.json").write_bytes(content)
    wanted = PodRestore(str(output), sandbox_config(), "", {}, (container_config("a"),))
    with pytest.raises(NodeError) as caught:
        await restore_pod(node.context, wanted)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, "checkpoint_path")
    assert not node.context.sandboxes


async def test_a_file_outside_of_the_checkpoint(
    node: FakeNode, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_id, containers = await two(node)
    Captures(node, monkeypatch)
    await checkpoint_pod.checkpoint_pod(node.context, sandbox_id, str(output), containers, {}, describe)
    index = output / "pod.json"
    index.write_text(index.read_text().replace("container-1.tar", "../container-1.tar"))
    configs = tuple(container_config(name) for name in ("a", "b"))
    with pytest.raises(NodeError, match="a file elsewhere"):
        await restore_pod(node.context, PodRestore(str(output), sandbox_config("new"), "", {}, configs))


def test_errors_name_the_field_that_the_caller_knows() -> None:
    with pytest.raises(NodeError) as caught, named("container_configs[3]"):
        raise invalid("config.mounts[0].host_path", "is wrong")
    assert caught.value.field == "container_configs[3].mounts[0].host_path"

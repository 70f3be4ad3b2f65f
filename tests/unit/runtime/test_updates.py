"""What an update changes in a container that runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.linux import oom
from minikubelet.linux.cgroup.core import ensure
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.models import HugepageLimit, LinuxResources
from minikubelet.runtime.resources import merge
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.start_container import start_container
from minikubelet.runtime.update_resources import update_resources
from tests.unit.runtime.fakes import FakeNode, container_config, sandbox_config


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_the_oom_score_of_processes_that_run(node: FakeNode, sleeper: int) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    container_id = await create_container(node.context, sandbox_id, container_config())
    container = node.context.container(container_id)
    ensure(node.context.cgroups.path, container.cgroup + "/exec", ())
    folder = Path(node.context.cgroups.path + container.cgroup)
    (folder / "cgroup.procs").write_text("0\n4194305\n")  # one of an outer namespace, one that has ended
    (folder / "exec" / "cgroup.procs").write_text(f"{sleeper}\n")
    await update_resources(node.context, container_id, LinuxResources(oom_score_adj=900))
    assert score(sleeper) != 900, "a container that doesn't run gets its score when it starts"
    await start_container(node.context, container_id)
    await update_resources(node.context, container_id, LinuxResources(oom_score_adj=987))
    assert score(sleeper) == 987
    assert container.resources.oom_score_adj == 987


def test_a_score_that_may_not_be_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.procs").write_text("7\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    allowed = oom.set_scores(str(tmp_path), -5)
    monkeypatch.undo()
    assert not allowed


def test_huge_pages_of_another_size_stay() -> None:
    current = LinuxResources(
        hugepages=(HugepageLimit(page_size="1GB", limit=1 << 30), HugepageLimit(page_size="2MB", limit=1))
    )
    merged = merge(current, LinuxResources(hugepages=(HugepageLimit(page_size="2MB", limit=2 << 20),)))
    assert {each.page_size: each.limit for each in merged.hugepages} == {"1GB": 1 << 30, "2MB": 2 << 20}

"""Events, statistics, folders: the parts that need no monitor."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.runtime import log_files, stats
from minikubelet.runtime.events import Event, EventBroker, EventKind
from minikubelet.runtime.models import Sandbox
from tests.unit.runtime.fakes import sandbox_config


def sandbox() -> Sandbox:
    return Sandbox(id="s", config=sandbox_config(), created_at=1, cgroup="/x")


async def collect(broker: EventBroker, into: list[Event], gate: asyncio.Event | None = None) -> None:
    async for event in broker.subscribe():
        into.append(event)
        if gate is not None:
            await gate.wait()


async def test_events_reach_everyone_in_order() -> None:
    broker = EventBroker()
    seen: list[list[Event]] = [[], []]
    tasks = [asyncio.ensure_future(collect(broker, into)) for into in seen]
    await asyncio.sleep(0)
    for kind in EventKind:
        broker.publish(kind, sandbox())
    await asyncio.sleep(0.01)
    broker.close()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert [[event.kind for event in each] for each in seen] == [list(EventKind)] * 2


async def test_a_slow_consumer_is_cut_off_alone() -> None:
    broker = EventBroker(limit=10)
    stuck: list[Event] = []
    quick: list[Event] = []
    slow = asyncio.ensure_future(collect(broker, stuck, asyncio.Event()))
    other = asyncio.ensure_future(collect(broker, quick))
    await asyncio.sleep(0)
    for _ in range(30):
        broker.publish(EventKind.CREATED, sandbox())
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(slow, 5)
    await asyncio.sleep(0.01)
    assert len(stuck) == 1
    assert len(quick) == 30
    broker.close()
    await asyncio.wait_for(other, 5)


def test_log_folders_stay_inside(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    log_files.make_folder(str(logs), "app/0.log")
    assert (logs / "app").is_dir()
    log_files.make_folder(str(logs), "0.log")
    (logs / "link").symlink_to(tmp_path)
    with pytest.raises(NodeError, match=r"config\.log_path"):
        log_files.make_folder(str(logs), "link/evil/0.log")
    assert not (tmp_path / "evil").exists()


def test_the_size_of_a_writable_layer(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"x" * 5000)
    os.link(tmp_path / "folder/file", tmp_path / "again")
    (tmp_path / "loop").symlink_to(tmp_path)
    used, inodes = stats.tree_size(str(tmp_path))
    assert inodes == 3
    assert used >= 5000
    assert stats.tree_size(str(tmp_path / "none")) == (0, 0)


def test_memory_and_cpu_come_from_cgroup_files(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 7\nuser_usec 3\nsystem_usec 4\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 200\npgfault 5\npgmajfault 1\n")
    assert stats.cpu_time(str(tmp_path)) == 7000
    memory = stats.memory_use(str(tmp_path))
    assert (memory.usage, memory.working_set, memory.available, memory.rss) == (1000, 800, 3200, 300)


def test_without_the_controller_processes_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n0\n")
    memory = stats.memory_use(str(tmp_path))
    assert memory.usage > 1 << 20
    assert 0 < memory.rss <= memory.usage


def test_interfaces_of_a_process() -> None:
    names = [interface.name for interface in stats.interfaces(os.getpid())]
    assert "lo" not in names
    assert stats.interfaces(0) == []

"""Restoring in the monitor: CRIU's plan, and a child that somebody else has made."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.base.errors import StepError
from minikubelet.linux.namespaces import CLONE_NEWNET
from minikubelet.spawner.loop import ChildWatcher, Loop
from minikubelet.spawner.restored import check_restorable, restored_pid
from minikubelet.spawner.steps.plans import restore_plan
from minikubelet.wire import messages as m
from tests.unit.spawner.test_plans import container


def restore(work: Path | str = "/w") -> m.Restore:
    return m.Restore(criu="/sbin/criu", path="/sbin", images="/i", work=str(work), root="/r")


@pytest.fixture
def watcher() -> Iterator[ChildWatcher]:
    yield ChildWatcher(Loop())
    signal.set_wakeup_fd(-1)


def ends(monkeypatch: pytest.MonkeyPatch, *found: tuple[int, int]) -> None:
    waiting = iter([*found, (0, 0)])
    monkeypatch.setattr(os, "waitpid", lambda _pid, _options: next(waiting))


def test_a_child_that_ended_before_it_was_adopted(
    watcher: ChildWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    watcher.expect()
    ends(monkeypatch, (41, 0x700), (42, 0x100))
    watcher.reap()
    watcher.adopt(41, told.append)
    assert told == [0x700]
    watcher.expect()
    watcher.adopt(42, told.append)  # that one was of the time before, and may have been anybody
    assert told == [0x700]
    ends(monkeypatch, (42, 0x200))
    watcher.reap()
    assert told == [0x700, 0x200]


def test_orphans_are_forgotten_where_none_is_expected(
    watcher: ChildWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    ends(monkeypatch, (41, 0x700))
    watcher.reap()
    watcher.expect()
    watcher.adopt(41, told.append)
    assert told == []


def test_the_plan_ends_in_criu() -> None:
    request = container(
        restore=restore(), mounts=[m.Mount(kind="proc", target="/proc")], masked_paths=["/proc/kcore"]
    )
    described = [step.describe() for step in restore_plan(request, CLONE_NEWNET, fetch_shm=False)]
    assert described[-5:] == [
        "resolve the user",
        "mask",
        "make read-only",
        "provide the root",
        "execute CRIU",
    ]
    assert "pivot into the root" not in described
    with pytest.raises(StepError, match="no checkpoint"):
        restore_plan(container(), CLONE_NEWNET, fetch_shm=False)


def test_what_can_not_be_restored() -> None:
    check_restorable(container(), users=False)
    for request, users in (
        (container(), True),
        (container(pid_namespace="pod"), False),
        (container(process=m.Process(args=[b"sh"], tty=True)), False),
    ):
        with pytest.raises(StepError, match="restore the container"):
            check_restorable(request, users)


def test_what_criu_says(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="has not said"):
        restored_pid(restore(tmp_path), 0)
    (tmp_path / "restored.pid").write_text("123")
    assert restored_pid(restore(tmp_path), 0) == 123
    with pytest.raises(StepError, match="ended with 1"):
        restored_pid(restore(tmp_path), 1 << 8)
    with pytest.raises(StepError, match="ended with -9"):
        restored_pid(restore(tmp_path), 9)

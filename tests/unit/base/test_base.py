"""Undo stack, atomic files, database, errors."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from pathlib import Path

import pytest

from minikubelet.base import clock, ids
from minikubelet.base.config import DaemonConfig
from minikubelet.base.database import Database
from minikubelet.base.errors import Code, StepError, invalid
from minikubelet.base.files import write_atomic
from minikubelet.base.undo import UndoStack


async def test_unwind_runs_every_step_last_first_although_one_fails() -> None:
    ran: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(0)
        ran.append("slow")

    def broken() -> None:
        ran.append("broken")
        raise OSError("no")

    with pytest.raises(ValueError, match="original"):
        async with UndoStack("test") as undo:
            undo.push("first", lambda: ran.append("first"))
            undo.push("broken", broken)
            undo.push("slow", slow)
            raise ValueError("original")
    assert ran == ["slow", "broken", "first"]


async def test_success_keeps_everything() -> None:
    ran: list[str] = []
    async with UndoStack("test") as undo:
        undo.push("step", lambda: ran.append("step"))
    assert await undo.unwind() == []
    assert ran == []


async def test_cancelled_operation_unwinds() -> None:
    ran: list[str] = []

    async def operation() -> None:
        async with UndoStack("test") as undo:
            undo.push("step", lambda: ran.append("undone"))
            await asyncio.sleep(60)

    task = asyncio.create_task(operation())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ran == ["undone"]


def test_atomic_write_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    write_atomic(target, b"new", mode=0o640, sync=True)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_failed_atomic_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(OSError):
        write_atomic(target, b"new")
    assert os.listdir(tmp_path) == ["folder"]


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    path = str(tmp_path / "state" / "state.db")
    first = Database(path)
    first.migrate("room", ["CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1)"])
    first.close()
    second = Database(path)
    second.migrate("room", ["this is not run again", "ALTER TABLE t ADD COLUMN b INTEGER"])
    assert tuple(second.execute("SELECT a, b FROM t").fetchone()) == (1, None)
    assert os.stat(path).st_mode & 0o777 == 0o600
    with pytest.raises(RuntimeError, match="newer"):
        second.migrate("room", [])
    second.close()


def test_failed_transaction_changes_nothing(tmp_path: Path) -> None:
    db = Database(str(tmp_path / "state.db"))
    db.migrate("room", ["CREATE TABLE t (a INTEGER UNIQUE)"])
    with pytest.raises(sqlite3.IntegrityError), db.transaction():
        db.execute("INSERT INTO t VALUES (1)")
        db.execute("INSERT INTO t VALUES (1)")
    assert db.execute("SELECT count(*) FROM t").fetchone()[0] == 0
    db.close()


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_corrupt_database_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(damage)
    db = Database(str(path))
    db.migrate("room", ["CREATE TABLE t (a INTEGER)"])
    db.execute("INSERT INTO t VALUES (1)")
    db.close()
    aside = [name for name in os.listdir(tmp_path) if ".corrupt-" in name]
    assert bool(aside) == bool(damage)


def test_nobody_else_reads_the_database(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        database = Database(f"{tmp_path}/state.db")
        database.migrate("room", ["CREATE TABLE secrets (value TEXT)"])
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_step_error_names_step_path_and_errno() -> None:
    error = StepError("mount", errno.ENOSPC, "/proc")
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert str(error) == "mount '/proc': No space left on device (ENOSPC)"


def test_invalid_names_its_field() -> None:
    assert str(invalid("config.metadata.name", "is empty")) == "config.metadata.name: is empty"


def test_rfc3339_keeps_nanoseconds() -> None:
    assert clock.rfc3339(1_700_000_000_000_000_007) == "2023-11-14T22:13:20.000000007Z"
    assert clock.rfc3339(0) == ""


def test_ids_are_exact() -> None:
    identifier = ids.new_id()
    assert ids.is_id(identifier)
    assert not ids.is_id(identifier[:-1])
    assert not ids.is_id(identifier + "\n")


def test_instances_differ_by_state_folder() -> None:
    assert DaemonConfig(root="/a").instance != DaemonConfig(root="/b").instance
    assert DaemonConfig(listen="unix:///x/y.sock").socket_path == "/x/y.sock"


async def test_a_second_cancellation_does_not_stop_the_undoing() -> None:
    undone: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(0.05)
        undone.append("slow")

    async def operation() -> None:
        async with UndoStack("test") as undo:
            undo.push("first", lambda: undone.append("first"))
            undo.push("slow", slow)
            await asyncio.sleep(60)

    task = asyncio.create_task(operation())
    await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == ["slow", "first"]

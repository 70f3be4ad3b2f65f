"""Nothing can be recorded: what has happened has happened all the same, and is recorded later."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from minikubelet.base.database import Database
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.lifecycle import record_exit
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.start_container import start_container
from minikubelet.wire.messages import ExitStatus
from tests.unit.runtime.fakes import FakeNode, container_config, sandbox_config


def limit(db: Database, pages: int) -> None:
    """SQLite's own limit: beyond it every write fails as on a full disk."""
    db.execute(f"PRAGMA max_page_count={pages}")


async def test_an_exit_is_told_and_recorded_once_there_is_room(node: FakeNode) -> None:
    context = node.context
    sandbox_id = await run_sandbox(context, sandbox_config(), "")
    container_id = await create_container(context, sandbox_id, container_config())
    await start_container(context, container_id)
    container = context.container(container_id)
    limit(context.store.db, 1)
    record_exit(context, container, ExitStatus(exit_code=3, finished_at=9, message="x" * 100_000))
    assert container.exited.is_set(), "StopContainer waits for this"
    (sandbox,) = context.store.load()
    assert not sandbox.containers[container_id].status.finished_at
    limit(context.store.db, 1 << 20)
    context.store.settle(context.sandbox(sandbox_id))
    (sandbox,) = context.store.load()
    status = sandbox.containers[container_id].status
    assert (status.exit_code, status.finished_at, len(status.message)) == (3, 9, 100_000)


def test_a_full_disk_is_named_and_undoes_the_transaction(tmp_path: Path) -> None:
    db = Database(f"{tmp_path}/state.db")
    db.migrate("room", ["CREATE TABLE t (a TEXT)"])
    limit(db, 1)
    with pytest.raises(OSError, match="No space left on device") as caught, db.transaction():
        db.execute("INSERT INTO t VALUES ('small')")
        db.execute("INSERT INTO t VALUES (?)", ("x" * 100_000,))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, f"{tmp_path}/state.db")
    limit(db, 1 << 20)
    with db.transaction():
        assert db.execute("SELECT count(*) FROM t").fetchone()[0] == 0
    db.close()


def test_room_for_the_log_is_there_from_the_start(tmp_path: Path) -> None:
    db = Database(f"{tmp_path}/state.db")
    db.migrate("room", ["CREATE TABLE t (a TEXT)"])
    for _ in range(3000):
        db.execute("INSERT INTO t VALUES ('row')")
    log = os.stat(f"{tmp_path}/state.db-wal")
    assert log.st_size == 6 << 20, "it neither grows nor is cut"
    assert log.st_blocks * 512 >= 6 << 20
    # As after a crash: frames and the zeros behind them are read back.
    os.mkdir(f"{tmp_path}/after")
    for name in ("state.db", "state.db-wal"):
        shutil.copy(f"{tmp_path}/{name}", f"{tmp_path}/after/{name}")
    db.close()
    after = Database(f"{tmp_path}/after/state.db")
    assert after.execute("SELECT count(*) FROM t").fetchone()[0] == 3000
    after.close()

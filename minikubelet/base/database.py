"""The one SQLite database (WAL): connection, transactions, per-room schema migrations."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

_RESERVE = 6 << 20
"""Bytes of write-ahead log that are on the disk from the start. SQLite begins it anew after some 4 MiB, so
that records can be changed and removed (which is what gives space back) while the disk is full."""


class Database:
    """A connection used from one thread (the event loop's); statements are short, so they run in place.

    Each room owns its tables: it calls :meth:`migrate` with the full list of its migrations once at
    start. The version reached is kept per room in ``schema_versions``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._db = self._open_or_set_aside()

    def _open_or_set_aside(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError) and "locked" in str(exc):
                raise
            aside = f"{self.path}.corrupt-{int(time.time())}"
            log.error("state database %s can't be read (%s); set aside as %s", self.path, exc, aside)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self.path + suffix, aside + suffix)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        # Containers' environments are in here. SQLite gives -wal and -shm the mode that the file has by then.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.chmod(self.path, 0o600)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA foreign_keys=ON")
            db.execute("PRAGMA busy_timeout=2000")
            problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            # SQLite 3.40 misreads NOT NULL columns of WITHOUT ROWID tables: nothing to lose all state for.
            if problem != "ok" and not problem.startswith("NULL value in"):
                raise sqlite3.DatabaseError(f"quick_check: {problem}")
            db.execute("CREATE TABLE IF NOT EXISTS schema_versions (room TEXT PRIMARY KEY, version INTEGER)")
        except BaseException:
            db.close()
            raise
        self._reserve()
        return db

    def _reserve(self) -> None:
        """Zeros behind the log's last frame are no frame, and stay until the log gets there."""
        with contextlib.suppress(OSError):
            fd = os.open(f"{self.path}-wal", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.posix_fallocate(fd, 0, _RESERVE)
            finally:
                os.close(fd)

    def migrate(self, room: str, migrations: Sequence[str]) -> None:
        """Bring ``room``'s tables to ``len(migrations)``; each entry is one script of SQL statements."""
        row = self._db.execute("SELECT version FROM schema_versions WHERE room=?", (room,)).fetchone()
        version = row[0] if row else 0
        if version > len(migrations):
            raise RuntimeError(f"{self.path}: {room} tables are version {version}, newer than this program")
        for number in range(version, len(migrations)):
            with self.transaction():
                for statement in migrations[number].split(";"):
                    if statement.strip():
                        self._db.execute(statement)
                self._db.execute("INSERT OR REPLACE INTO schema_versions VALUES (?, ?)", (room, number + 1))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside take effect together or not at all. No ``await`` may happen inside."""
        if self._db.in_transaction:
            yield
            return
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself has ended it where the disk is full
                self._db.execute("ROLLBACK")
            raise

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement; outside :meth:`transaction` it commits by itself.

        Raises sqlite3.Error, or OSError ENOSPC when the disk is full.
        """
        try:
            return self._db.execute(sql, parameters)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path) from exc

    def close(self) -> None:
        """Close the connection; a checkpoint folds the log into the file."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

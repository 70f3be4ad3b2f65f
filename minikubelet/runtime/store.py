"""Sandboxes and containers in the state database: one row each, configuration and status as JSON."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator

import msgspec

from minikubelet.base.database import Database
from minikubelet.runtime.models import (
    Container,
    ContainerConfig,
    ContainerStatus,
    ImageFacts,
    Sandbox,
    SandboxConfig,
    SandboxStatus,
)

log = logging.getLogger(__name__)

_MIGRATIONS = [
    """
    CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, cgroup TEXT NOT NULL, runtime_handler TEXT NOT NULL,
        made_cgroups TEXT NOT NULL, config BLOB NOT NULL, status BLOB NOT NULL);
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL, created_at INTEGER NOT NULL, image_id TEXT NOT NULL,
        image BLOB NOT NULL, stop_signal TEXT NOT NULL, log_path TEXT NOT NULL, cgroup TEXT NOT NULL,
        config BLOB NOT NULL, status BLOB NOT NULL);
    CREATE INDEX containers_of_sandbox ON containers (sandbox_id);
    CREATE TABLE unreadable (id TEXT, kind TEXT, reason TEXT, config BLOB, status BLOB)
    """,
]

_encode = msgspec.json.Encoder().encode
_sandbox_config = msgspec.json.Decoder(SandboxConfig)
_sandbox_status = msgspec.json.Decoder(SandboxStatus)
_container_config = msgspec.json.Decoder(ContainerConfig)
_container_status = msgspec.json.Decoder(ContainerStatus)
_image_facts = msgspec.json.Decoder(ImageFacts)
_strings = msgspec.json.Decoder(tuple[str, ...])


class Store:
    """Rows of sandboxes and containers. Each method is one transaction of its own unless inside another."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._owed: dict[str, Sandbox | Container] = {}
        """What has changed and could not be recorded yet."""
        db.migrate("runtime", _MIGRATIONS)

    def add_sandbox(self, sandbox: Sandbox) -> None:
        """Record a new sandbox."""
        self.db.execute(
            "INSERT INTO sandboxes VALUES (?,?,?,?,?,?,?)",
            (
                sandbox.id,
                sandbox.created_at,
                sandbox.cgroup,
                sandbox.runtime_handler,
                _encode(sandbox.made_cgroups),
                _encode(sandbox.config),
                _encode(sandbox.status),
            ),
        )

    def save_sandbox(self, sandbox: Sandbox) -> None:
        """Record the sandbox's status."""
        self.db.execute("UPDATE sandboxes SET status=? WHERE id=?", (_encode(sandbox.status), sandbox.id))

    def settle(self, item: Sandbox | Container) -> None:
        """Record a status that is a fact already, such as an exit: never fails.

        Where it can't be written (the disk is full), the next one takes it along; meanwhile monitors know it.
        """
        self._owed[item.id] = item
        try:
            for each in list(self._owed.values()):
                if isinstance(each, Sandbox):
                    self.save_sandbox(each)
                else:
                    self.save_container(each)
                del self._owed[each.id]
        except (OSError, sqlite3.Error) as exc:
            log.error("the state of %d objects can't be recorded yet: %s", len(self._owed), exc)

    def delete_sandbox(self, sandbox_id: str) -> None:
        """Forget a sandbox and the containers still recorded under it."""
        with self.db.transaction():
            self.db.execute("DELETE FROM containers WHERE sandbox_id=?", (sandbox_id,))
            self.db.execute("DELETE FROM sandboxes WHERE id=?", (sandbox_id,))

    def add_container(self, container: Container) -> None:
        """Record a new container."""
        self.db.execute(
            "INSERT INTO containers VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                container.id,
                container.sandbox.id,
                container.created_at,
                container.image_id,
                _encode(container.image),
                container.stop_signal,
                container.log_path,
                container.cgroup,
                _encode(container.config),
                _encode(container.status),
            ),
        )

    def save_container(self, container: Container) -> None:
        """Record the container's status."""
        self.db.execute(
            "UPDATE containers SET status=? WHERE id=?", (_encode(container.status), container.id)
        )

    def delete_container(self, container_id: str) -> None:
        """Forget a container."""
        self.db.execute("DELETE FROM containers WHERE id=?", (container_id,))

    def load(self) -> list[Sandbox]:
        """All sandboxes with their containers. Unreadable ones go to table ``unreadable``, logged."""
        sandboxes = {sandbox.id: sandbox for sandbox in self._load_sandboxes()}
        for container in self._load_containers(sandboxes):
            container.sandbox.containers[container.id] = container
            if container.status.finished_at:
                container.exited.set()
        return list(sandboxes.values())

    def _load_sandboxes(self) -> Iterator[Sandbox]:
        for row in self.db.execute("SELECT * FROM sandboxes ORDER BY created_at").fetchall():
            try:
                yield Sandbox(
                    id=row["id"],
                    created_at=row["created_at"],
                    cgroup=row["cgroup"],
                    runtime_handler=row["runtime_handler"],
                    made_cgroups=_strings.decode(row["made_cgroups"]),
                    config=_sandbox_config.decode(row["config"]),
                    status=_sandbox_status.decode(row["status"]),
                )
            except (msgspec.MsgspecError, TypeError, ValueError) as exc:
                self._set_aside("sandbox", row["id"], row["config"], row["status"], exc)

    def _load_containers(self, sandboxes: dict[str, Sandbox]) -> Iterator[Container]:
        for row in self.db.execute("SELECT * FROM containers ORDER BY created_at").fetchall():
            try:
                sandbox = sandboxes.get(row["sandbox_id"])
                if sandbox is None:
                    raise ValueError(f"its sandbox {row['sandbox_id']!r} is not recorded")
                yield Container(
                    id=row["id"],
                    sandbox=sandbox,
                    created_at=row["created_at"],
                    image_id=row["image_id"],
                    image=_image_facts.decode(row["image"]),
                    stop_signal=row["stop_signal"],
                    log_path=row["log_path"],
                    cgroup=row["cgroup"],
                    config=_container_config.decode(row["config"]),
                    status=_container_status.decode(row["status"]),
                )
            except (msgspec.MsgspecError, TypeError, ValueError) as exc:
                self._set_aside("container", row["id"], row["config"], row["status"], exc)

    def _set_aside(self, kind: str, identifier: str, config: object, status: object, exc: Exception) -> None:
        log.error("the record of %s %s can't be read and is set aside: %s", kind, identifier, exc)
        table = "sandboxes" if kind == "sandbox" else "containers"
        with self.db.transaction():
            self.db.execute(
                "INSERT INTO unreadable VALUES (?,?,?,?,?)", (identifier, kind, str(exc), config, status)
            )
            self.db.execute(f"DELETE FROM {table} WHERE id=?", (identifier,))

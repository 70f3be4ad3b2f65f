"""What all verbs share: the rooms the runtime stands on, and every sandbox and container by ID."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.config import DaemonConfig
from minikubelet.base.database import Database
from minikubelet.base.errors import Code, NodeError, not_found, precondition
from minikubelet.images.store import ImageStore
from minikubelet.linux.cgroup.mount import CgroupMount
from minikubelet.network.choice import Network
from minikubelet.runtime.container_spec import Places
from minikubelet.runtime.events import EventBroker
from minikubelet.runtime.models import Container, Sandbox, SandboxMetadata, SandboxState
from minikubelet.runtime.monitor_client import MonitorClient
from minikubelet.runtime.plugins import NoPlugins, Plugins
from minikubelet.runtime.resources import Enforcement
from minikubelet.runtime.spawner_client import SpawnerClient
from minikubelet.runtime.store import Store
from minikubelet.wire.messages import ExitStatus

log = logging.getLogger(__name__)

SHORT_ID = 13
"""Digits of an ID that crictl shows and hands back to the server."""


@dataclass(eq=False)
class Reservation:
    """Who has a sandbox's name."""

    sandbox_id: str
    made: bool = False
    """The call that took it has succeeded."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is made, or free again."""

    def keep(self) -> None:
        """The sandbox is there."""
        self.made = True
        self.settled.set()


class Context:
    """Shared by the verbs; used from the event loop only."""

    def __init__(
        self,
        config: DaemonConfig,
        db: Database,
        images: ImageStore,
        network: Network,
        cgroups: CgroupMount,
        spawner: SpawnerClient,
    ) -> None:
        self.config = config
        self.store = Store(db)
        self.images = images
        self.network = network
        self.cgroups = cgroups
        self.enforcement = Enforcement(
            cgroups.controllers, config.unenforced_limits == "allow", f"cgroup2 ({cgroups.mode} host)"
        )
        self.spawner = spawner
        self.events = EventBroker()
        self.plugins: Plugins = NoPlugins()
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Container] = {}
        self.execs: dict[str, asyncio.Future[ExitStatus]] = {}
        """Running execs by ID; their end is told by a monitor's event."""
        self._names: dict[SandboxMetadata, Reservation] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._deleter = ThreadPoolExecutor(1, thread_name_prefix="deleter")

    # --- paths ---

    def run_dir(self, sandbox_id: str) -> str:
        """The pod's folder on tmpfs."""
        return f"{self.config.run}/pods/{sandbox_id}"

    def container_dir(self, container_id: str) -> str:
        """The container's writable layer."""
        return f"{self.config.root}/containers/{container_id}"

    def places(self, container: Container) -> Places:
        """Folders a container is started with."""
        return Places(
            self.images.layers_dir, self.container_dir(container.id), self.run_dir(container.sandbox.id)
        )

    @property
    def trash(self) -> str:
        """Where folders go to be deleted off the request path."""
        return f"{self.config.root}/trash"

    def discard(self, path: str) -> None:
        """Move a folder away at once and delete it in a thread; a missing one is fine. Raises OSError."""
        self._discard(path, self.trash)

    def discard_run_dir(self, sandbox_id: str) -> None:
        """The same for a pod's folder on tmpfs."""
        self._discard(self.run_dir(sandbox_id), f"{self.config.run}/trash")

    def _discard(self, path: str, trash: str) -> None:
        target = f"{trash}/{secrets.token_hex(8)}"
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return
        self._deleter.submit(_delete, target)

    def empty_trash(self) -> None:
        """Delete what an earlier daemon did not get to."""
        for trash in (self.trash, f"{self.config.run}/trash"):
            for name in os.listdir(trash):
                self._deleter.submit(_delete, f"{trash}/{name}")

    # --- lookups ---

    def find_sandbox(self, identifier: str) -> Sandbox | None:
        """By ID or by the 13 digits that crictl shows; None if there is none."""
        found: Sandbox | None = _find(self.sandboxes, identifier)
        return found

    def sandbox(self, identifier: str) -> Sandbox:
        """:meth:`find_sandbox`, where there has to be one. Raises NOT_FOUND."""
        found = self.find_sandbox(identifier)
        if found is None:
            raise not_found("pod sandbox", identifier)
        return found

    def find_container(self, identifier: str) -> Container | None:
        """By ID or by the 13 digits that crictl shows; None if there is none."""
        found: Container | None = _find(self.containers, identifier)
        return found

    def container(self, identifier: str) -> Container:
        """:meth:`find_container`, where there has to be one. Raises NOT_FOUND."""
        found = self.find_container(identifier)
        if found is None:
            raise not_found("container", identifier)
        return found

    def running(self, identifier: str) -> tuple[Container, MonitorClient]:
        """A running container and its monitor. Raises NOT_FOUND, FAILED_PRECONDITION."""
        container = self.container(identifier)
        if not container.status.started_at or container.status.finished_at:
            raise precondition(f"container {container.id} is in state {container.state.value}")
        return container, self.monitor(container.sandbox)

    def ready(self, sandbox: Sandbox) -> MonitorClient:
        """The monitor of a ready sandbox that still exists. Raises NOT_FOUND, FAILED_PRECONDITION."""
        self.still_there(sandbox)
        if sandbox.state is not SandboxState.READY:
            raise precondition(f"pod sandbox {sandbox.id} is not ready")
        return self.monitor(sandbox)

    def still_there(self, sandbox: Sandbox) -> None:
        """Call after waiting for the sandbox's lock. Raises NOT_FOUND when it was removed meanwhile."""
        if sandbox.id not in self.sandboxes:
            raise not_found("pod sandbox", sandbox.id)

    def monitor(self, sandbox: Sandbox) -> MonitorClient:
        """The sandbox's monitor. Raises UNAVAILABLE when it has ended."""
        monitor: MonitorClient | None = sandbox.monitor
        if monitor is None or monitor.gone:
            raise NodeError(Code.UNAVAILABLE, f"the monitor of pod sandbox {sandbox.id} has ended")
        return monitor

    # --- names ---

    def reserve(self, metadata: SandboxMetadata, sandbox_id: str) -> Reservation:
        """Take a sandbox's name. Raises ALREADY_EXISTS naming who has it."""
        holder = self._names.setdefault(metadata, Reservation(sandbox_id))
        if holder.sandbox_id != sandbox_id:
            name = f"{metadata.name}_{metadata.namespace}_{metadata.uid}_{metadata.attempt}"
            raise NodeError(
                Code.ALREADY_EXISTS,
                f"pod sandbox name {name!r} is reserved for {holder.sandbox_id}",
                field="config.metadata",
            )
        return holder

    async def until_free(self, metadata: SandboxMetadata) -> None:
        """Wait while another call makes a sandbox of this name: when that fails, a retry succeeds."""
        while (holder := self._names.get(metadata)) is not None and not holder.made:
            await holder.settled.wait()

    def give_up_name(self, sandbox: Sandbox) -> None:
        """Free a sandbox's name if it is the one that holds it."""
        holder = self._names.get(sandbox.config.metadata)
        if holder is not None and holder.sandbox_id == sandbox.id:
            del self._names[sandbox.config.metadata]
            holder.settled.set()

    # --- tasks ---

    async def run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        """Run a verb in a task of its own.

        A caller that goes away cancels the verb, which undoes itself in peace: the caller's own task may be
        cancelled again or thrown away at any time.
        """
        task = asyncio.get_running_loop().create_task(operation)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    def background(self, operation: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Something nobody waits for; failures are logged."""
        task = asyncio.get_running_loop().create_task(operation)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, NodeError):
            log.debug("%s ended with %r", task.get_coro(), error)

    async def drain(self, seconds: float) -> None:
        """Let verbs under way come to an end, then cancel them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def close(self) -> None:
        """Let go of monitors and spawner; pods live on."""
        self.events.close()
        for sandbox in self.sandboxes.values():
            if sandbox.monitor is not None:
                sandbox.monitor.close()
        self.spawner.close()
        self._deleter.shutdown(wait=True)


def _find(known: dict[str, Any], identifier: str) -> Any:
    """Exact, but for the short form, which must be unique: a prefix of another length names nothing."""
    found = known.get(identifier)
    if found is None and len(identifier) == SHORT_ID:
        matches = [item for key, item in known.items() if key.startswith(identifier)]
        found = matches[0] if len(matches) == 1 else None
    return found


def _delete(path: str) -> None:
    try:
        shutil.rmtree(path)
    except OSError as exc:
        log.warning("%s could not be deleted, the next start tries again: %s", path, exc)

"""The runtime: pod sandboxes and containers. One method a verb; each verb is in a module of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from minikubelet.base.config import DaemonConfig
from minikubelet.base.database import Database
from minikubelet.base.errors import Code, NodeError
from minikubelet.images.store import ImageStore
from minikubelet.linux.cgroup import core
from minikubelet.linux.host import HostFacts, detect
from minikubelet.network.choice import Network
from minikubelet.runtime import container_spec, streams
from minikubelet.runtime.checkpoint import checkpoint_container
from minikubelet.runtime.checkpoint_pod import Describe, checkpoint_pod
from minikubelet.runtime.context import Context
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.events import Event
from minikubelet.runtime.exec_sync import ExecResult, exec_sync
from minikubelet.runtime.metrics import PodMetrics, measure
from minikubelet.runtime.models import (
    Container,
    ContainerConfig,
    ContainerState,
    LinuxResources,
    Sandbox,
    SandboxConfig,
    SandboxState,
)
from minikubelet.runtime.plugins import Plugins
from minikubelet.runtime.recovery import recover
from minikubelet.runtime.remove_container import remove_container
from minikubelet.runtime.remove_sandbox import remove_sandbox
from minikubelet.runtime.reopen_log import reopen_log
from minikubelet.runtime.restore_pod import PodRestore, restore_pod
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.security import warm_up, warm_up_apparmor
from minikubelet.runtime.spawner_client import SpawnerClient
from minikubelet.runtime.start_container import start_container
from minikubelet.runtime.stats import Meter, PodUsage, Usage
from minikubelet.runtime.stop_container import stop_container
from minikubelet.runtime.stop_sandbox import stop_sandbox
from minikubelet.runtime.update_resources import put_in_force, update_resources
from minikubelet.runtime.update_sandbox_resources import update_sandbox_resources
from minikubelet.wire.messages import StartContainer

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 5.0


class Runtime:
    """What the CRI server and the streaming server call. All methods raise NodeError."""

    def __init__(
        self,
        config: DaemonConfig,
        db: Database,
        images: ImageStore,
        network: Network,
        spawner: SpawnerClient,
    ) -> None:
        self.host: HostFacts = detect()
        self.images = images
        self.network = network
        self._context = Context(config, db, images, network, self.host.cgroup, spawner)
        self._meter = Meter(self._context)

    # --- life ---

    async def start(self) -> None:
        """Take over what an earlier daemon left."""
        self._make_cgroup_root()
        await recover(self._context)
        self._context.background(asyncio.to_thread(warm_up))
        self._context.background(asyncio.to_thread(warm_up_apparmor))

    @property
    def root(self) -> str:
        """The folder that images and writable layers are in."""
        return self._context.config.root

    def _make_cgroup_root(self) -> None:
        cgroups = self._context.cgroups
        if not cgroups.path:
            log.error("this host has no cgroup2 mounted: no pod can run")
            return
        try:
            core.ensure(cgroups.path, self._context.config.cgroup_root, cgroups.controllers)
        except OSError as exc:
            log.error("the cgroup %s can't be made: %s", self._context.config.cgroup_root, exc)

    async def close(self) -> None:
        """Let go of everything; pods run on. Where there are none, bridge, rules and cgroup go, too."""
        await self._context.drain(_DRAIN_SECONDS)
        self._context.close()
        if self._context.sandboxes:
            return
        try:
            await self.network.teardown()
        except NodeError as exc:
            log.warning("the pod network stays: %s", exc)
        with contextlib.suppress(OSError):
            os.rmdir(self.cgroup_folder(self._context.config.cgroup_root))

    # --- sandboxes ---

    async def run_sandbox(self, config: SandboxConfig, runtime_handler: str = "") -> str:
        """RunPodSandbox; returns the ID."""
        identifier: str = await self._context.run(run_sandbox(self._context, config, runtime_handler))
        return identifier

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """StopPodSandbox."""
        await self._context.run(stop_sandbox(self._context, sandbox_id))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """RemovePodSandbox."""
        await self._context.run(remove_sandbox(self._context, sandbox_id))

    async def update_sandbox_resources(
        self, sandbox_id: str, overhead: LinuxResources | None, resources: LinuxResources | None
    ) -> None:
        """UpdatePodSandboxResources."""
        verb = update_sandbox_resources(self._context, sandbox_id, overhead, resources)
        await self._context.run(verb)

    def sandbox(self, sandbox_id: str) -> Sandbox:
        """One sandbox. Raises NOT_FOUND."""
        return self._context.sandbox(sandbox_id)

    def sandboxes(self) -> Iterable[Sandbox]:
        """All sandboxes, oldest first."""
        return self._context.sandboxes.values()

    # --- containers ---

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        """CreateContainer; returns the ID."""
        identifier: str = await self._context.run(create_container(self._context, sandbox_id, config))
        return identifier

    async def start_container(self, container_id: str) -> None:
        """StartContainer."""
        await self._context.run(start_container(self._context, container_id))

    async def stop_container(self, container_id: str, grace: int) -> None:
        """StopContainer; ``grace`` in seconds."""
        await self._context.run(stop_container(self._context, container_id, grace))

    async def remove_container(self, container_id: str) -> None:
        """RemoveContainer."""
        await self._context.run(remove_container(self._context, container_id))

    def container(self, container_id: str) -> Container:
        """One container. Raises NOT_FOUND."""
        return self._context.container(container_id)

    def containers(self) -> Iterable[Container]:
        """All containers, oldest first."""
        return self._context.containers.values()

    async def update_resources(self, container_id: str, resources: LinuxResources) -> None:
        """UpdateContainerResources."""
        await self._context.run(update_resources(self._context, container_id, resources))

    async def checkpoint(
        self, container_id: str, location: str, timeout: int, status: dict[str, Any]
    ) -> None:
        """CheckpointContainer."""
        await self._context.run(checkpoint_container(self._context, container_id, location, timeout, status))

    async def checkpoint_pod(
        self,
        sandbox_id: str,
        path: str,
        container_ids: Sequence[str],
        options: Mapping[str, str],
        describe: Describe,
    ) -> None:
        """CheckpointPod."""
        verb = checkpoint_pod(self._context, sandbox_id, path, container_ids, options, describe)
        await self._context.run(verb)

    async def restore_pod(self, wanted: PodRestore) -> tuple[str, dict[str, str]]:
        """RestorePod; returns the pod's ID and its containers' by name."""
        made: tuple[str, dict[str, str]] = await self._context.run(restore_pod(self._context, wanted))
        return made

    async def reopen_log(self, container_id: str) -> None:
        """ReopenContainerLog."""
        await reopen_log(self._context, container_id)

    # --- plugins ---

    def use_plugins(self, plugins: Plugins) -> None:
        """Ask ``plugins`` from now on."""
        self._context.plugins = plugins

    def start_request(self, container: Container) -> StartContainer | None:
        """What a container is started with; None where that can't be told any more."""
        try:
            places = self._context.places(container)
            return container_spec.start_request(container, places, self._context.enforcement)
        except NodeError:
            return None

    def set_resources(self, container: Container, resources: LinuxResources) -> None:
        """Put all resources in force, asking nobody. One that is just starting can't be changed: ABORTED."""
        if container.starting:
            raise NodeError(Code.ABORTED, f"container {container.id} is being started")
        put_in_force(self._context, container, resources)

    # --- programs and streams ---

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout: int) -> ExecResult:
        """ExecSync; ``timeout`` in seconds."""
        result: ExecResult = await self._context.run(exec_sync(self._context, container_id, command, timeout))
        return result

    async def open_exec(
        self, container_id: str, command: tuple[str, ...], wanted: streams.Wanted
    ) -> streams.OpenStreams:
        """Exec."""
        return await streams.open_exec(self._context, container_id, command, wanted)

    async def open_attach(self, container_id: str, wanted: streams.Wanted) -> streams.OpenStreams:
        """Attach."""
        return await streams.open_attach(self._context, container_id, wanted)

    async def connect(self, sandbox_id: str, port: int) -> socket.socket:
        """PortForward."""
        return await streams.connect(self._context, sandbox_id, port)

    def require_running(self, container_id: str) -> Container:
        """A running container. Raises NOT_FOUND, FAILED_PRECONDITION."""
        return self._context.running(container_id)[0]

    def require_ready(self, sandbox_id: str) -> Sandbox:
        """A ready sandbox. Raises NOT_FOUND, FAILED_PRECONDITION."""
        sandbox = self._context.sandbox(sandbox_id)
        self._context.ready(sandbox)
        return sandbox

    # --- watching ---

    def events(self) -> AsyncIterator[Event]:
        """Events from now on."""
        return self._context.events.subscribe()

    async def container_usage(self, containers: Iterable[Container]) -> list[Usage]:
        """Measure containers."""
        return await self._meter.containers(containers)

    async def pod_usage(self, sandboxes: Iterable[Sandbox]) -> list[PodUsage]:
        """Measure pods."""
        return await self._meter.pods(sandboxes)

    async def metrics(self, sandboxes: Iterable[Sandbox]) -> list[PodMetrics]:
        """Everything that can be told of ready pods and their running containers."""
        result = []
        for sandbox in [item for item in sandboxes if item.state is SandboxState.READY]:
            running = [c for c in sandbox.containers.values() if c.state is ContainerState.RUNNING]
            disks = {container.id: await self._meter.disk(container) for container in running}
            mount = self._context.cgroups.path
            result.append(await asyncio.to_thread(measure, sandbox, disks, running, mount))
        return result

    def ready(self) -> tuple[bool, str, str]:
        """The CRI condition RuntimeReady: (ready, reason, message)."""
        if not self.host.cgroup.path:
            return False, "CgroupMissing", "this host has no cgroup2 mounted"
        return True, "", ""

    def image_in_use(self, image_id: str) -> list[str]:
        """The IDs of containers made from an image."""
        return [c.id for c in self._context.containers.values() if c.image_id == image_id]

    def info(self, container: Container) -> dict[str, str]:
        """Facts for people: where a container is on this host."""
        return {
            "rootfs": f"{self._context.container_dir(container.id)}/upper",
            "cgroup": container.cgroup,
            "logPath": container.log_path,
        }

    def cgroup_folder(self, path: str) -> str:
        """A cgroup's folder on this host."""
        return os.path.join(self._context.cgroups.path, path.lstrip("/"))

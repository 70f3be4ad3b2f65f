"""All connected plugins behind the runtime's interface: who is asked, in which order, what comes of it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Protocol

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.nri import from_proto
from minikubelet.nri.merge import Adjustments, Updates
from minikubelet.nri.multiplex import Trunk
from minikubelet.nri.plugin import Plugin, PluginGone, Timeouts
from minikubelet.nri.to_proto import container_message, resources_message, sandbox_message
from minikubelet.runtime.models import Adjusted, Container, ContainerState, LinuxResources, Sandbox
from minikubelet.wire.messages import StartContainer

log = logging.getLogger(__name__)

_MOST = 64
"""Connections at a time."""


class Node(Protocol):
    """What plugins see and may change of the runtime."""

    def sandboxes(self) -> Iterable[Sandbox]:
        """All of them."""

    def containers(self) -> Iterable[Container]:
        """All of them."""

    def container(self, container_id: str) -> Container:
        """One. Raises NOT_FOUND."""

    def start_request(self, container: Container) -> StartContainer | None:
        """What it is started with; None where that can't be told any more."""

    def set_resources(self, container: Container, resources: LinuxResources) -> None:
        """Put all of them in force, asking nobody. Raises NodeError."""


class Manager:
    """Implements :class:`minikubelet.runtime.plugins.Plugins`."""

    def __init__(self, node: Node, timeouts: Timeouts | None = None) -> None:
        self._node = node
        self._timeouts = timeouts or Timeouts()
        self._plugins: list[Plugin] = []
        self._connections: set[Plugin] = set()
        self._joining = 0
        self._pending: dict[str, tuple[Container, StartContainer]] = {}
        """Containers that plugins have been told of and that are not in the node's list yet."""
        self._lock = asyncio.Lock()

    @property
    def active(self) -> bool:
        return bool(self._plugins or self._joining)

    # --- connections ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last."""
        trunk = Trunk(reader, writer)
        if len(self._connections) >= _MOST:
            log.error("an NRI plugin is turned away: %d are connected", _MOST)
            trunk.close()
            return
        plugin = Plugin(trunk, self._timeouts, self._update_unasked)
        self._connections.add(plugin)
        reading = asyncio.ensure_future(plugin.read())
        try:
            await self._join(plugin)
            await reading
        except (PluginGone, NodeError) as exc:
            log.error("NRI plugin %s is turned away: %s", plugin.name, exc)
        finally:
            plugin.close()
            reading.cancel()
            self._connections.discard(plugin)
            if plugin in self._plugins:
                self._plugins.remove(plugin)
                log.info("NRI plugin %s has gone", plugin.name)

    async def _join(self, plugin: Plugin) -> None:
        await plugin.start()
        self._joining += 1
        try:
            async with self._lock:
                pods, containers = self._existing()
                updates = await plugin.synchronize(pods, containers)
                if plugin.closed:
                    raise PluginGone("the connection has ended")
                self._plugins.append(plugin)
                self._plugins.sort(key=lambda each: each.index)
        finally:
            self._joining -= 1
        log.info("NRI plugin %s is connected", plugin.name)
        for failed in self._update_unasked(plugin, updates):
            log.warning("NRI plugin %s: container %s is not updated", plugin.name, failed.container_id)

    def close(self) -> None:
        """Let all plugins go."""
        for plugin in list(self._connections):
            plugin.close()

    def _existing(self) -> tuple[list[nri.PodSandbox], list[nri.Container]]:
        pods = [sandbox_message(sandbox) for sandbox in self._node.sandboxes()]
        known = [each for each in self._node.containers() if each.state is not ContainerState.EXITED]
        containers = [self._container(container) for container in known]
        ids = {container.id for container in known}
        for container, request in self._pending.values():
            if container.id not in ids:
                containers.append(container_message(container, request))
        return pods, containers

    def _container(self, container: Container) -> nri.Container:
        return container_message(container, self._node.start_request(container))

    # --- updates ---

    def _update_unasked(
        self, plugin: Plugin, updates: Sequence[nri.ContainerUpdate]
    ) -> list[nri.ContainerUpdate]:
        """Carry them out; returns those that failed."""
        failed = []
        for update in updates:
            try:
                self._update(update)
            except NodeError as exc:
                log.warning("NRI plugin %s: container %s: %s", plugin.name, update.container_id, exc)
                if not update.ignore_failure:
                    failed.append(update)
        return failed

    def _update(self, update: nri.ContainerUpdate) -> None:
        wanted = update.linux.resources
        from_proto.refuse_unknown_resources(wanted, "update.linux.resources")
        try:
            container = self._node.container(update.container_id)
        except NodeError as exc:
            if exc.code is Code.NOT_FOUND:
                return  # it has gone meanwhile
            raise
        if container.state is not ContainerState.EXITED:
            self._node.set_resources(container, from_proto.changed_resources(container.resources, wanted))

    def _update_all(self, updates: Updates, without: str = "") -> None:
        for update in updates.updates.values():
            if update.container_id == without:
                continue
            try:
                self._update(update)
            except NodeError as exc:
                if not update.ignore_failure:
                    raise
                log.warning("container %s is not updated: %s", update.container_id, exc)

    # --- plain events ---

    async def _tell(self, method: str, event: int, request: object) -> None:
        async with self._lock:
            for plugin in list(self._plugins):
                if plugin.wants(event):
                    await plugin.tell(method, event, request)

    async def _note(self, method: str, event: int, request: object) -> None:
        """An event whose failure changes nothing."""
        try:
            await self._tell(method, event, request)
        except NodeError as exc:
            log.warning("%s", exc)

    async def run_sandbox(self, sandbox: Sandbox) -> None:
        request = nri.RunPodSandboxRequest(pod=sandbox_message(sandbox))
        try:
            await self._tell("RunPodSandbox", nri.RUN_POD_SANDBOX, request)
        except NodeError:
            await self.stop_sandbox(sandbox, -1)
            await self.remove_sandbox(sandbox)
            raise

    async def update_sandbox(
        self, sandbox: Sandbox, overhead: LinuxResources | None, resources: LinuxResources | None
    ) -> None:
        request = nri.UpdatePodSandboxRequest(
            pod=sandbox_message(sandbox),
            overhead_linux_resources=resources_message(overhead) if overhead else None,
            linux_resources=resources_message(resources) if resources else None,
        )
        async with self._lock:
            for plugin in list(self._plugins):
                if plugin.wants(nri.UPDATE_POD_SANDBOX):
                    await plugin.ask("UpdatePodSandbox", request, nri.UpdatePodSandboxResponse)

    async def sandbox_updated(self, sandbox: Sandbox) -> None:
        request = nri.PostUpdatePodSandboxRequest(pod=sandbox_message(sandbox))
        await self._note("PostUpdatePodSandbox", nri.POST_UPDATE_POD_SANDBOX, request)

    async def stop_sandbox(self, sandbox: Sandbox, netns: int) -> None:
        request = nri.StopPodSandboxRequest(pod=sandbox_message(sandbox))
        if netns >= 0:  # pause has gone: until the call ends, the daemon alone keeps the namespace
            del request.pod.linux.namespaces[:]
            request.pod.linux.namespaces.add(type="network", path=f"/proc/{os.getpid()}/fd/{netns}")
        await self._note("StopPodSandbox", nri.STOP_POD_SANDBOX, request)

    async def remove_sandbox(self, sandbox: Sandbox) -> None:
        request = nri.RemovePodSandboxRequest(pod=sandbox_message(sandbox))
        await self._note("RemovePodSandbox", nri.REMOVE_POD_SANDBOX, request)

    async def container_created(self, container: Container) -> None:
        self._pending.pop(container.id, None)
        pod, message = sandbox_message(container.sandbox), self._container(container)
        request = nri.PostCreateContainerRequest(pod=pod, container=message)
        await self._note("PostCreateContainer", nri.POST_CREATE_CONTAINER, request)

    async def start_container(self, container: Container) -> None:
        pod, message = sandbox_message(container.sandbox), self._container(container)
        request = nri.StartContainerRequest(pod=pod, container=message)
        await self._tell("StartContainer", nri.START_CONTAINER, request)

    async def container_started(self, container: Container) -> None:
        pod, message = sandbox_message(container.sandbox), self._container(container)
        request = nri.PostStartContainerRequest(pod=pod, container=message)
        await self._note("PostStartContainer", nri.POST_START_CONTAINER, request)

    async def container_updated(self, container: Container) -> None:
        pod, message = sandbox_message(container.sandbox), self._container(container)
        request = nri.PostUpdateContainerRequest(pod=pod, container=message)
        await self._note("PostUpdateContainer", nri.POST_UPDATE_CONTAINER, request)

    async def remove_container(self, container: Container) -> None:
        self._pending.pop(container.id, None)
        pod, message = sandbox_message(container.sandbox), self._container(container)
        request = nri.RemoveContainerRequest(pod=pod, container=message)
        await self._note("RemoveContainer", nri.REMOVE_CONTAINER, request)

    # --- events with answers ---

    async def create_container(self, container: Container, request: StartContainer) -> Adjusted | None:
        async with self._lock:
            if not self._plugins:
                return None
            asked = nri.CreateContainerRequest(
                pod=sandbox_message(container.sandbox), container=container_message(container, request)
            )
            pristine = nri.CreateContainerRequest()
            pristine.CopyFrom(asked)
            self._pending[container.id] = (container, request)
            made = Adjustments(asked)
            for plugin in list(self._plugins):
                if plugin.wants(nri.CREATE_CONTAINER):
                    answer = await plugin.ask("CreateContainer", asked, nri.CreateContainerResponse)
                    if answer is not None:
                        _refuse_unknown(answer, plugin)
                        made.apply(answer, plugin.name)
            await self._validate(pristine, made)
            adjusted = from_proto.adjusted(
                made.adjust, container.resources, container.sandbox.config.namespaces
            )
            self._update_all(made)
        return None if adjusted == Adjusted() else adjusted

    async def _validate(self, pristine: nri.CreateContainerRequest, made: Adjustments) -> None:
        event = nri.VALIDATE_CONTAINER_ADJUSTMENT
        # A plugin that subscribes to everything by default is asked, too, as upstream does.
        validators = [plugin for plugin in self._plugins if plugin.wants(event)]
        if not validators:
            return
        request = nri.ValidateContainerAdjustmentRequest(
            pod=pristine.pod,
            container=pristine.container,
            adjust=made.adjust,
            update=list(made.updates.values()),
            owners=made.owners.message(),
            plugins=[nri.PluginInstance(name=each.base, index=each.index) for each in self._plugins],
        )
        for plugin in validators:
            response = nri.ValidateContainerAdjustmentResponse
            answer = await plugin.ask("ValidateContainerAdjustment", request, response)
            if answer is None:
                raise NodeError(Code.UNAVAILABLE, f"NRI plugin {plugin.name!r}, which validates, has gone")
            if answer.reject:
                text = f"NRI plugin {plugin.name!r} rejects the adjustment: {answer.reason[:2000]}"
                raise NodeError(Code.FAILED_PRECONDITION, text)

    async def update_container(self, container: Container, update: LinuxResources) -> LinuxResources:
        async with self._lock:
            made = Updates()
            shown = resources_message(update)
            for plugin in list(self._plugins):
                if not plugin.wants(nri.UPDATE_CONTAINER):
                    continue
                request = nri.UpdateContainerRequest(
                    pod=sandbox_message(container.sandbox),
                    container=self._container(container),
                    linux_resources=shown,
                )
                answer = await plugin.ask("UpdateContainer", request, nri.UpdateContainerResponse)
                if answer is not None:
                    _refuse_evictions(answer, plugin)
                    made.add(answer.update, plugin.name)
                    if own := made.updates.get(container.id):
                        update = _wanted(update, own)
                        shown = resources_message(update)
            self._update_all(made, without=container.id)
        return update

    async def stop_container(self, container: Container) -> None:
        try:
            async with self._lock:
                made = Updates()
                request = nri.StopContainerRequest(
                    pod=sandbox_message(container.sandbox), container=self._container(container)
                )
                for plugin in list(self._plugins):
                    if plugin.wants(nri.STOP_CONTAINER):
                        answer = await plugin.ask("StopContainer", request, nri.StopContainerResponse)
                        if answer is not None:
                            made.add(answer.update, plugin.name)
                self._update_all(made)
        except NodeError as exc:
            log.warning("%s", exc)


def _wanted(update: LinuxResources, own: nri.ContainerUpdate) -> LinuxResources:
    from_proto.refuse_unknown_resources(own.linux.resources, "update.linux.resources")
    return from_proto.changed_resources(update, own.linux.resources)


def _refuse_unknown(answer: nri.CreateContainerResponse, plugin: Plugin) -> None:
    _refuse_evictions(answer, plugin)
    try:
        from_proto.refuse_unknown(answer.adjust)
    except NodeError as exc:
        raise NodeError(exc.code, f"NRI plugin {plugin.name!r}: {exc}") from exc


def _refuse_evictions(
    answer: nri.CreateContainerResponse | nri.UpdateContainerResponse, plugin: Plugin
) -> None:
    if answer.evict:
        text = f"NRI plugin {plugin.name!r}: evict: containers are not evicted for plugins"
        raise NodeError(Code.UNIMPLEMENTED, text)

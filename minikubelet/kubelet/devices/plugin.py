"""One registered device plugin: its devices as they come and go, and the calls to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import deviceplugin_pb2 as dp
from minikubelet.criapi import services

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds until a call to a plugin is given up."""
HEALTHY = "Healthy"


@dataclass(frozen=True)
class Device:
    """One device as its plugin tells of it."""

    id: str
    healthy: bool
    nodes: tuple[int, ...] = ()
    """NUMA nodes it is close to."""


class Plugin:
    """The client of one plugin. ``changed`` is called whenever its devices are others than before."""

    def __init__(self, resource: str, socket: str, changed: Callable[[], None]) -> None:
        self.resource = resource
        self.options = dp.DevicePluginOptions()
        self.devices: dict[str, Device] = {}
        self.socket = socket
        self._changed = changed
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}",
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)],
        )
        self._stub = services.DEVICE_PLUGIN.connect(self._channel)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask what the plugin wants, and follow its devices from now on. Raises NodeError."""
        self.options = await self._call(self._stub.GetDevicePluginOptions, dp.Empty(), wait_for_ready=True)
        self._task = asyncio.create_task(self._watch(), name=f"device plugin {self.resource}")

    async def close(self) -> None:
        """End the connection; the devices count as gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close(None)

    async def _watch(self) -> None:
        """Follow ListAndWatch. When it ends the plugin is gone: no device of it is healthy any more."""
        try:
            async for answer in self._stub.ListAndWatch(dp.Empty()):
                self.devices = {
                    each.ID: Device(
                        each.ID, each.health == HEALTHY, tuple(node.ID for node in each.topology.nodes)
                    )
                    for each in answer.devices
                }
                self._changed()
        except grpc.aio.AioRpcError as exc:
            log.warning("device plugin %s: %s", self.resource, exc.details())
        self._ended()

    def _ended(self) -> None:
        log.warning("device plugin %s has ended: its devices are not healthy", self.resource)
        self.devices = {each.id: Device(each.id, False, each.nodes) for each in self.devices.values()}
        self._changed()

    async def end(self) -> None:
        """End the connection, as if the plugin had: its devices are known and not healthy."""
        await self.close()
        self._ended()

    async def prefer(self, available: list[str], must: list[str], count: int) -> list[str]:
        """Which of ``available`` the plugin would rather give. Raises NodeError."""
        request = dp.PreferredAllocationRequest(
            container_requests=[
                dp.ContainerPreferredAllocationRequest(
                    available_deviceIDs=available, must_include_deviceIDs=must, allocation_size=count
                )
            ]
        )
        answer = await self._call(self._stub.GetPreferredAllocation, request)
        return [each for response in answer.container_responses for each in response.deviceIDs]

    async def allocate(self, devices: list[str]) -> dp.ContainerAllocateResponse:
        """What a container needs to use ``devices``. Raises NodeError."""
        request = dp.AllocateRequest(container_requests=[dp.ContainerAllocateRequest(devices_ids=devices)])
        answer: dp.AllocateResponse = await self._call(self._stub.Allocate, request)
        if len(answer.container_responses) != 1:
            raise NodeError(Code.INTERNAL, f"device plugin {self.resource} answers for another container")
        return answer.container_responses[0]

    async def before_start(self, devices: list[str]) -> None:
        """Tell the plugin that a container with ``devices`` is about to start. Raises NodeError."""
        await self._call(self._stub.PreStartContainer, dp.PreStartContainerRequest(devices_ids=devices))

    async def _call(self, method: Any, request: Any, **options: Any) -> Any:
        try:
            return await method(request, timeout=TIMEOUT, **options)
        except grpc.aio.AioRpcError as exc:
            message = f"device plugin {self.resource}: {exc.details() or exc.code().name}"
            raise NodeError(Code.UNAVAILABLE, message) from None

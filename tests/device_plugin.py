"""A small device plugin: three of ``example.com/widget``, for containers to see as variable, file and device.

python -m tests.device_plugin FOLDER
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from minikubelet.criapi import deviceplugin_pb2 as dp
from minikubelet.criapi import pluginregistration_pb2 as registration
from minikubelet.criapi import services

RESOURCE = "example.com/widget"


class DevicePlugin:
    """Serves in ``folder``; register it with the kubelet there."""

    def __init__(self, folder: str, *, prefers: list[str] | None = None, name: str = "widget") -> None:
        self.folder = folder
        self.endpoint = f"{name}.sock"
        self.health = {"w1": True, "w2": True, "w3": True}
        self.options = dp.DevicePluginOptions(
            pre_start_required=True, get_preferred_allocation_available=prefers is not None
        )
        self.prefers = prefers or []
        self.allocated: list[list[str]] = []
        self.started: list[list[str]] = []
        self.info = registration.PluginInfo(
            type="DevicePlugin", name=RESOURCE, supported_versions=["v1beta2", "v1beta1"]
        )
        """What it says of itself where it is found by its socket."""
        self.told: list[registration.RegistrationStatus] = []
        self._news: set[asyncio.Event] = set()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Serve on the plugin's socket, in place of an earlier one."""
        await self.stop()
        self._server = grpc.aio.server()
        for service in (services.DEVICE_PLUGIN, services.PLUGIN_REGISTRATION):
            handlers: dict[str, Any] = {}
            for method in service:
                make = getattr(grpc, f"{method.kind}_rpc_method_handler")
                handlers[method.name] = make(
                    getattr(self, f"_{method.name}"),
                    request_deserializer=method.request.FromString,
                    response_serializer=method.response.SerializeToString,
                )
            generic = grpc.method_handlers_generic_handler(service.name, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self._server.add_insecure_port(f"unix:{os.path.join(self.folder, self.endpoint)}")
        await self._server.start()

    async def register(self, resource: str = RESOURCE, version: str = "v1beta1", endpoint: str = "") -> None:
        """Tell the kubelet. Raises grpc.aio.AioRpcError."""
        if not os.path.exists(os.path.join(self.folder, self.endpoint)):
            await self.start()  # a kubelet that begins removes what it finds
        async with grpc.aio.insecure_channel(f"unix:{self.folder}/kubelet.sock") as channel:
            request = dp.RegisterRequest(
                version=version, endpoint=endpoint or self.endpoint, resource_name=resource
            )
            await services.DEVICE_REGISTRATION.connect(channel).Register(request, timeout=10)

    async def stop(self) -> None:
        """Go away."""
        if self._server is not None:
            await self._server.stop(None)

    def set_health(self, device: str, healthy: bool) -> None:
        """A device falls ill or is well again."""
        self.health[device] = healthy
        for each in self._news:
            each.set()

    async def _GetInfo(self, request: registration.InfoRequest, context: Any) -> registration.PluginInfo:
        return self.info

    async def _NotifyRegistrationStatus(
        self, request: registration.RegistrationStatus, context: Any
    ) -> registration.RegistrationStatusResponse:
        self.told.append(request)
        return registration.RegistrationStatusResponse()

    async def _GetDevicePluginOptions(self, request: dp.Empty, context: Any) -> dp.DevicePluginOptions:
        return self.options

    async def _ListAndWatch(self, request: dp.Empty, context: Any) -> AsyncIterator[dp.ListAndWatchResponse]:
        news = asyncio.Event()
        self._news.add(news)
        while True:
            yield dp.ListAndWatchResponse(
                devices=[
                    dp.Device(
                        ID=name,
                        health="Healthy" if healthy else "Unhealthy",
                        topology=dp.TopologyInfo(nodes=[dp.NUMANode(ID=0)]),
                    )
                    for name, healthy in self.health.items()
                ]
            )
            await news.wait()
            news.clear()

    async def _GetPreferredAllocation(
        self, request: dp.PreferredAllocationRequest, context: Any
    ) -> dp.PreferredAllocationResponse:
        wanted = request.container_requests[0]
        order = sorted(wanted.available_deviceIDs, key=lambda each: each not in self.prefers)
        chosen = order[: wanted.allocation_size]
        answer = dp.ContainerPreferredAllocationResponse(deviceIDs=chosen)
        return dp.PreferredAllocationResponse(container_responses=[answer])

    async def _Allocate(self, request: dp.AllocateRequest, context: Any) -> dp.AllocateResponse:
        answers = []
        for each in request.container_requests:
            devices = list(each.devices_ids)
            self.allocated.append(devices)
            answers.append(
                dp.ContainerAllocateResponse(
                    envs={"WIDGETS": ",".join(devices)},
                    mounts=[dp.Mount(container_path="/widgets", host_path=self.folder, read_only=True)],
                    devices=[
                        dp.DeviceSpec(container_path=f"/dev/{name}", host_path="/dev/null", permissions="rw")
                        for name in devices
                    ],
                    annotations={"example.com/widgets": ",".join(devices)},
                )
            )
        return dp.AllocateResponse(container_responses=answers)

    async def _PreStartContainer(
        self, request: dp.PreStartContainerRequest, context: Any
    ) -> dp.PreStartContainerResponse:
        self.started.append(list(request.devices_ids))
        return dp.PreStartContainerResponse()


async def _serve(folder: str) -> None:
    plugin = DevicePlugin(folder)
    await plugin.start()
    await plugin.register()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))

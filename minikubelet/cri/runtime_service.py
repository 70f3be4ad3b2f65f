"""runtime.v1.RuntimeService: thin servicers; methods that are missing here answer UNIMPLEMENTED."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

import minikubelet
from minikubelet.base.clock import now_ns
from minikubelet.base.errors import invalid, unimplemented
from minikubelet.cri import (
    filters,
    from_proto,
    go_json,
    info,
    kept,
    metrics_to_proto,
    stats_to_proto,
    to_proto,
)
from minikubelet.cri.stream_sessions import StreamUrls
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.models import Container, ContainerState
from minikubelet.runtime.runtime import Runtime
from minikubelet.runtime.validation import RUNTIME_HANDLERS

log = logging.getLogger(__name__)

NAME = "minikubelet"
_LIST_CHUNK = 200
_METRICS_CHUNK = 20
"""Pods a message: each may have hundreds of samples."""

_T = TypeVar("_T")


class RuntimeService:
    """One method a call; each takes the request and returns the response."""

    def __init__(self, runtime: Runtime, urls: StreamUrls) -> None:
        self._runtime = runtime
        self._urls = urls

    # --- the runtime itself ---

    async def Version(self, request: api.VersionRequest) -> api.VersionResponse:
        return api.VersionResponse(
            version="0.1.0",
            runtime_name=NAME,
            runtime_version=minikubelet.__version__,
            runtime_api_version="v1",
        )

    async def Status(self, request: api.StatusRequest) -> api.StatusResponse:
        ready, reason, message = self._runtime.ready()
        net_ready, net_reason, net_message = self._runtime.network.status()
        features = api.RuntimeHandlerFeatures(
            recursive_read_only_mounts=True, user_namespaces=self._runtime.host.maps_users
        )
        return api.StatusResponse(
            status=api.RuntimeStatus(
                conditions=[
                    api.RuntimeCondition(type="RuntimeReady", status=ready, reason=reason, message=message),
                    api.RuntimeCondition(
                        type="NetworkReady", status=net_ready, reason=net_reason, message=net_message
                    ),
                ]
            ),
            info=info.runtime(self._runtime) if request.verbose else None,
            runtime_handlers=[api.RuntimeHandler(name=name, features=features) for name in RUNTIME_HANDLERS],
            features=api.RuntimeFeatures(supplemental_groups_policy=True, mount_options=True),
        )

    async def RuntimeConfig(self, request: api.RuntimeConfigRequest) -> api.RuntimeConfigResponse:
        return api.RuntimeConfigResponse(linux=api.LinuxRuntimeConfiguration(cgroup_driver=api.CGROUPFS))

    async def UpdateRuntimeConfig(
        self, request: api.UpdateRuntimeConfigRequest
    ) -> api.UpdateRuntimeConfigResponse:
        """The pod CIDR is the built-in network's own affair: checked and taken note of."""
        text = request.runtime_config.network_config.pod_cidr
        for part in filter(None, text.split(",")):
            try:
                ipaddress.ip_network(part)
            except ValueError as exc:
                raise invalid("runtime_config.network_config.pod_cidr", str(exc)) from exc
        if text:
            log.info("the pod CIDR %s is taken note of; the pod network keeps its own subnet", text)
        return api.UpdateRuntimeConfigResponse()

    # --- sandboxes ---

    async def RunPodSandbox(self, request: api.RunPodSandboxRequest) -> api.RunPodSandboxResponse:
        if not request.HasField("config"):
            raise invalid("config", "is missing")
        config = from_proto.sandbox_config(request.config)
        return api.RunPodSandboxResponse(
            pod_sandbox_id=await self._runtime.run_sandbox(config, request.runtime_handler)
        )

    async def StopPodSandbox(self, request: api.StopPodSandboxRequest) -> api.StopPodSandboxResponse:
        await self._runtime.stop_sandbox(request.pod_sandbox_id)
        return api.StopPodSandboxResponse()

    async def RemovePodSandbox(self, request: api.RemovePodSandboxRequest) -> api.RemovePodSandboxResponse:
        await self._runtime.remove_sandbox(request.pod_sandbox_id)
        return api.RemovePodSandboxResponse()

    async def PodSandboxStatus(self, request: api.PodSandboxStatusRequest) -> api.PodSandboxStatusResponse:
        sandbox = self._runtime.sandbox(request.pod_sandbox_id)
        return api.PodSandboxStatusResponse(
            status=to_proto.sandbox_status(sandbox),
            info=info.sandbox(self._runtime, sandbox) if request.verbose else None,
            containers_statuses=to_proto.container_statuses(sandbox.containers.values()),
            timestamp=now_ns(),
        )

    async def ListPodSandbox(self, request: api.ListPodSandboxRequest) -> api.ListPodSandboxResponse:
        found = filters.sandboxes(self._runtime, request.filter)
        return api.ListPodSandboxResponse(items=[kept.sandbox_item(item) for item in found])

    async def StreamPodSandboxes(
        self, request: api.StreamPodSandboxesRequest
    ) -> AsyncIterator[api.StreamPodSandboxesResponse]:
        found = filters.sandboxes(self._runtime, request.filter)
        for chunk in _chunks(found):
            yield api.StreamPodSandboxesResponse(pod_sandboxes=[kept.sandbox_item(item) for item in chunk])

    async def UpdatePodSandboxResources(
        self, request: api.UpdatePodSandboxResourcesRequest
    ) -> api.UpdatePodSandboxResourcesResponse:
        overhead = from_proto.linux_resources(request.overhead) if request.HasField("overhead") else None
        resources = from_proto.linux_resources(request.resources) if request.HasField("resources") else None
        await self._runtime.update_sandbox_resources(request.pod_sandbox_id, overhead, resources)
        return api.UpdatePodSandboxResourcesResponse()

    # --- containers ---

    async def CreateContainer(self, request: api.CreateContainerRequest) -> api.CreateContainerResponse:
        if not request.HasField("config"):
            raise invalid("config", "is missing")
        config = from_proto.container_config(request.config)
        return api.CreateContainerResponse(
            container_id=await self._runtime.create_container(request.pod_sandbox_id, config)
        )

    async def StartContainer(self, request: api.StartContainerRequest) -> api.StartContainerResponse:
        await self._runtime.start_container(request.container_id)
        return api.StartContainerResponse()

    async def StopContainer(self, request: api.StopContainerRequest) -> api.StopContainerResponse:
        await self._runtime.stop_container(request.container_id, request.timeout)
        return api.StopContainerResponse()

    async def RemoveContainer(self, request: api.RemoveContainerRequest) -> api.RemoveContainerResponse:
        await self._runtime.remove_container(request.container_id)
        return api.RemoveContainerResponse()

    async def ListContainers(self, request: api.ListContainersRequest) -> api.ListContainersResponse:
        found = filters.containers(self._runtime, request.filter)
        return api.ListContainersResponse(containers=[kept.container_item(item) for item in found])

    async def StreamContainers(
        self, request: api.StreamContainersRequest
    ) -> AsyncIterator[api.StreamContainersResponse]:
        found = filters.containers(self._runtime, request.filter)
        for chunk in _chunks(found):
            yield api.StreamContainersResponse(containers=[kept.container_item(item) for item in chunk])

    async def ContainerStatus(self, request: api.ContainerStatusRequest) -> api.ContainerStatusResponse:
        container = self._runtime.container(request.container_id)
        return api.ContainerStatusResponse(
            status=to_proto.container_status(container),
            info=info.container(self._runtime, container) if request.verbose else None,
        )

    async def UpdateContainerResources(
        self, request: api.UpdateContainerResourcesRequest
    ) -> api.UpdateContainerResourcesResponse:
        if request.HasField("windows"):
            raise unimplemented("windows: resources of Windows containers")
        for name in request.annotations:
            raise unimplemented(f"annotations[{name[:100]!r}]: none is known that changes resources")
        if not request.HasField("linux"):
            raise invalid("linux", "is missing")
        resources = from_proto.linux_resources(request.linux)
        await self._runtime.update_resources(request.container_id, resources)
        return api.UpdateContainerResourcesResponse()

    async def ReopenContainerLog(
        self, request: api.ReopenContainerLogRequest
    ) -> api.ReopenContainerLogResponse:
        await self._runtime.reopen_log(request.container_id)
        return api.ReopenContainerLogResponse()

    async def CheckpointContainer(
        self, request: api.CheckpointContainerRequest
    ) -> api.CheckpointContainerResponse:
        container = self._runtime.require_running(request.container_id)
        status = go_json.plain(to_proto.container_status(container))
        await self._runtime.checkpoint(container.id, request.location, request.timeout, status)
        return api.CheckpointContainerResponse()

    async def CheckpointPod(self, request: api.CheckpointPodRequest) -> api.CheckpointPodResponse:
        await self._runtime.checkpoint_pod(
            request.pod_sandbox_id,
            request.output_path,
            tuple(request.container_ids),
            dict(request.options),
            lambda container: go_json.plain(to_proto.container_status(container)),
        )
        return api.CheckpointPodResponse()

    async def RestorePod(self, request: api.RestorePodRequest) -> api.RestorePodResponse:
        sandbox_id, containers = await self._runtime.restore_pod(from_proto.pod_restore(request))
        restored = [
            api.RestoredContainer(name=name, container_id=container_id)
            for name, container_id in containers.items()
        ]
        return api.RestorePodResponse(pod_sandbox_id=sandbox_id, restored_containers=restored)

    # --- programs and streams ---

    async def ExecSync(self, request: api.ExecSyncRequest) -> api.ExecSyncResponse:
        result = await self._runtime.exec_sync(request.container_id, tuple(request.cmd), request.timeout)
        return api.ExecSyncResponse(stdout=result.stdout, stderr=result.stderr, exit_code=result.exit_code)

    async def Exec(self, request: api.ExecRequest) -> api.ExecResponse:
        return api.ExecResponse(url=self._urls.exec(request))

    async def Attach(self, request: api.AttachRequest) -> api.AttachResponse:
        return api.AttachResponse(url=self._urls.attach(request))

    async def PortForward(self, request: api.PortForwardRequest) -> api.PortForwardResponse:
        return api.PortForwardResponse(url=self._urls.port_forward(request))

    # --- watching ---

    async def ContainerStats(self, request: api.ContainerStatsRequest) -> api.ContainerStatsResponse:
        container = self._runtime.container(request.container_id)
        (usage,) = await self._runtime.container_usage([container])
        return api.ContainerStatsResponse(stats=stats_to_proto.container(usage))

    async def ListContainerStats(
        self, request: api.ListContainerStatsRequest
    ) -> api.ListContainerStatsResponse:
        found = _running(filters.containers_for_stats(self._runtime, request.filter))
        usages = await self._runtime.container_usage(found)
        return api.ListContainerStatsResponse(stats=[stats_to_proto.container(usage) for usage in usages])

    async def StreamContainerStats(
        self, request: api.StreamContainerStatsRequest
    ) -> AsyncIterator[api.StreamContainerStatsResponse]:
        found = _running(filters.containers_for_stats(self._runtime, request.filter))
        for chunk in _chunks(found):
            usages = await self._runtime.container_usage(chunk)
            yield api.StreamContainerStatsResponse(
                container_stats=[stats_to_proto.container(usage) for usage in usages]
            )

    async def PodSandboxStats(self, request: api.PodSandboxStatsRequest) -> api.PodSandboxStatsResponse:
        sandbox = self._runtime.sandbox(request.pod_sandbox_id)
        (usage,) = await self._runtime.pod_usage([sandbox])
        return api.PodSandboxStatsResponse(stats=stats_to_proto.pod(usage))

    async def ListPodSandboxStats(
        self, request: api.ListPodSandboxStatsRequest
    ) -> api.ListPodSandboxStatsResponse:
        found = filters.sandboxes_for_stats(self._runtime, request.filter)
        usages = await self._runtime.pod_usage(found)
        return api.ListPodSandboxStatsResponse(stats=[stats_to_proto.pod(usage) for usage in usages])

    async def StreamPodSandboxStats(
        self, request: api.StreamPodSandboxStatsRequest
    ) -> AsyncIterator[api.StreamPodSandboxStatsResponse]:
        found = filters.sandboxes_for_stats(self._runtime, request.filter)
        for chunk in _chunks(found):
            usages = await self._runtime.pod_usage(chunk)
            yield api.StreamPodSandboxStatsResponse(
                pod_sandbox_stats=[stats_to_proto.pod(usage) for usage in usages]
            )

    async def ListMetricDescriptors(
        self, request: api.ListMetricDescriptorsRequest
    ) -> api.ListMetricDescriptorsResponse:
        return api.ListMetricDescriptorsResponse(descriptors=metrics_to_proto.descriptors())

    async def ListPodSandboxMetrics(
        self, request: api.ListPodSandboxMetricsRequest
    ) -> api.ListPodSandboxMetricsResponse:
        found = await self._runtime.metrics(list(self._runtime.sandboxes()))
        return api.ListPodSandboxMetricsResponse(pod_metrics=[metrics_to_proto.pod(item) for item in found])

    async def StreamPodSandboxMetrics(
        self, request: api.StreamPodSandboxMetricsRequest
    ) -> AsyncIterator[api.StreamPodSandboxMetricsResponse]:
        for chunk in _chunks(list(self._runtime.sandboxes()), _METRICS_CHUNK):
            found = await self._runtime.metrics(chunk)
            yield api.StreamPodSandboxMetricsResponse(
                pod_sandbox_metrics=[metrics_to_proto.pod(item) for item in found]
            )

    async def GetContainerEvents(
        self, request: api.GetEventsRequest
    ) -> AsyncIterator[api.ContainerEventResponse]:
        async for event in self._runtime.events():
            yield to_proto.event(event)


def _running(containers: Iterable[Container]) -> list[Container]:
    return [item for item in containers if item.state is ContainerState.RUNNING]


def _chunks(items: list[_T], size: int = _LIST_CHUNK) -> Iterator[list[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

"""A thin asyncio client of the CRI socket: one method a verb, gRPC statuses become NodeError."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import grpc

from minikubelet.base.clock import monotonic
from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services

_MAX_MESSAGE = 64 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
TIMEOUT = 120.0
"""Seconds until a call that makes or changes something is given up, as upstream's default; twice that for
sandboxes."""
_QUERY = 30.0
"""Seconds for calls that only ask."""

_CODES = {code.value: code for code in Code}


class Channel(Protocol):
    """What is used of a ``grpc.aio.Channel`` here, beside the methods that :mod:`services` makes of it."""

    def get_state(self, try_to_connect: bool = False) -> object:
        """Begin to connect."""

    async def channel_ready(self) -> None:
        """Wait for a connection."""

    async def close(self, grace: float | None = None) -> None:
        """End it."""


class CriClient:
    """The runtime and image services behind one or two sockets.

    Every method raises NodeError with the code the runtime answered with (UNAVAILABLE when it is away).
    """

    def __init__(
        self,
        endpoint: str,
        image_endpoint: str = "",
        observe: Observe | None = None,
        timeout: float = TIMEOUT,
        channel: Channel | None = None,
    ) -> None:
        """``observe`` hears of every call that has ended. ``timeout``: see :data:`TIMEOUT`.

        ``channel``: a way to what serves at ``endpoint`` that is there already; it is closed with the client.
        """
        self._short, self._query, self._long = timeout, min(_QUERY, timeout), 2 * timeout
        self.endpoint = endpoint
        self._channel: Channel = channel or grpc.aio.insecure_channel(_target(endpoint), options=_OPTIONS)
        self._channels = [self._channel]
        image_channel: Channel = self._channel
        if image_endpoint and image_endpoint != endpoint:
            image_channel = grpc.aio.insecure_channel(_target(image_endpoint), options=_OPTIONS)
            self._channels.append(image_channel)
        self._runtime = _timed(services.RUNTIME, self._channel, observe)
        self._images = _timed(services.IMAGE, image_channel, observe)

    async def close(self) -> None:
        """Close the channels; calls under way fail."""
        for channel in self._channels:
            await channel.close(None)

    async def wait_ready(self) -> None:
        """Wait until the socket answers."""
        self._channel.get_state(try_to_connect=True)
        await self._channel.channel_ready()

    async def version(self) -> api.VersionResponse:
        """Name and version of the runtime."""
        return await _call(self._runtime.Version(api.VersionRequest(version="v1"), timeout=self._query))  # type: ignore[no-any-return]

    async def status(self) -> api.StatusResponse:
        """Conditions RuntimeReady and NetworkReady, features."""
        return await _call(self._runtime.Status(api.StatusRequest(), timeout=self._query))  # type: ignore[no-any-return]

    async def has_systemd_cgroups(self) -> bool:
        """Whether the runtime names cgroups as systemd slices; runtimes that don't tell use cgroupfs."""
        try:
            reply = await _call(self._runtime.RuntimeConfig(api.RuntimeConfigRequest(), timeout=self._query))
        except NodeError as exc:
            if exc.code is not Code.UNIMPLEMENTED:
                raise
            return False
        return bool(reply.HasField("linux") and reply.linux.cgroup_driver == api.SYSTEMD)

    async def run_pod_sandbox(self, config: api.PodSandboxConfig, handler: str = "") -> str:
        """Create and start a sandbox; returns its ID."""
        request = api.RunPodSandboxRequest(config=config, runtime_handler=handler)
        reply = await _call(self._runtime.RunPodSandbox(request, timeout=self._long))
        return str(reply.pod_sandbox_id)

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Stop a sandbox and whatever runs in it; idempotent."""
        request = api.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)
        await _call(self._runtime.StopPodSandbox(request, timeout=self._long))

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox and its containers; idempotent."""
        request = api.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        await _call(self._runtime.RemovePodSandbox(request, timeout=self._long))

    async def pod_sandbox_status(self, sandbox_id: str) -> api.PodSandboxStatusResponse:
        """Status of one sandbox; some runtimes add the containers' statuses."""
        request = api.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        return await _call(self._runtime.PodSandboxStatus(request, timeout=self._query))  # type: ignore[no-any-return]

    async def list_pod_sandboxes(self, labels: dict[str, str] | None = None) -> list[api.PodSandbox]:
        """All sandboxes, or those with ``labels``."""
        request = api.ListPodSandboxRequest(filter=api.PodSandboxFilter(label_selector=labels or {}))
        return list((await _call(self._runtime.ListPodSandbox(request, timeout=self._query))).items)

    async def create_container(
        self, sandbox_id: str, config: api.ContainerConfig, sandbox: api.PodSandboxConfig
    ) -> str:
        """Create a container in a sandbox; returns its ID."""
        request = api.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox)
        return str((await _call(self._runtime.CreateContainer(request, timeout=self._short))).container_id)

    async def start_container(self, container_id: str) -> None:
        """Start a created container."""
        await _call(
            self._runtime.StartContainer(
                api.StartContainerRequest(container_id=container_id), timeout=self._short
            )
        )

    async def stop_container(self, container_id: str, grace: int) -> None:
        """Stop a container: stop signal, SIGKILL after ``grace`` seconds; returns when it is stopped."""
        request = api.StopContainerRequest(container_id=container_id, timeout=grace)
        await _call(self._runtime.StopContainer(request, timeout=grace + self._short))

    async def remove_container(self, container_id: str) -> None:
        """Remove a container; idempotent."""
        request = api.RemoveContainerRequest(container_id=container_id)
        await _call(self._runtime.RemoveContainer(request, timeout=self._short))

    async def container_status(self, container_id: str) -> api.ContainerStatus:
        """Status of one container. NOT_FOUND if there is none."""
        request = api.ContainerStatusRequest(container_id=container_id)
        return (await _call(self._runtime.ContainerStatus(request, timeout=self._query))).status  # type: ignore[no-any-return]

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[api.Container]:
        """All containers, or those with ``labels``."""
        request = api.ListContainersRequest(filter=api.ContainerFilter(label_selector=labels or {}))
        return list((await _call(self._runtime.ListContainers(request, timeout=self._query))).containers)

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> api.ExecSyncResponse:
        """Run a command in a container; DEADLINE_EXCEEDED after ``timeout`` seconds (0: none)."""
        request = api.ExecSyncRequest(container_id=container_id, cmd=command, timeout=int(timeout))
        limit = timeout + self._short if timeout else None
        return await _call(self._runtime.ExecSync(request, timeout=limit))  # type: ignore[no-any-return]

    async def exec(self, request: api.ExecRequest) -> str:
        """The URL of a streaming exec."""
        return str((await _call(self._runtime.Exec(request, timeout=self._query))).url)

    async def reopen_container_log(self, container_id: str) -> None:
        """Make the runtime write to a new log file, after the old one was renamed."""
        request = api.ReopenContainerLogRequest(container_id=container_id)
        await _call(self._runtime.ReopenContainerLog(request, timeout=self._query))

    async def list_container_stats(self) -> list[api.ContainerStats]:
        """CPU, memory and writable layer of all containers that run."""
        request = api.ListContainerStatsRequest()
        return list((await _call(self._runtime.ListContainerStats(request, timeout=self._query))).stats)

    async def update_container_resources(
        self, container_id: str, resources: api.LinuxContainerResources
    ) -> None:
        """Change the limits of a container, also while it runs."""
        request = api.UpdateContainerResourcesRequest(container_id=container_id, linux=resources)
        await _call(self._runtime.UpdateContainerResources(request, timeout=self._short))

    async def update_pod_sandbox_resources(
        self, sandbox_id: str, resources: api.LinuxContainerResources
    ) -> None:
        """Tell a sandbox the new sum over its containers."""
        request = api.UpdatePodSandboxResourcesRequest(pod_sandbox_id=sandbox_id, resources=resources)
        await _call(self._runtime.UpdatePodSandboxResources(request, timeout=self._short))

    async def attach(self, request: api.AttachRequest) -> str:
        """The URL of an attach."""
        return str((await _call(self._runtime.Attach(request, timeout=self._query))).url)

    async def port_forward(self, request: api.PortForwardRequest) -> str:
        """The URL of connections into a pod."""
        return str((await _call(self._runtime.PortForward(request, timeout=self._query))).url)

    async def checkpoint_container(self, request: api.CheckpointContainerRequest) -> None:
        """Write a container's state to a file. UNIMPLEMENTED where the runtime can't."""
        limit = request.timeout or self._short
        await _call(self._runtime.CheckpointContainer(request, timeout=limit))

    async def list_pod_sandbox_stats(self) -> list[api.PodSandboxStats]:
        """CPU, memory, network and processes of all pods that run, and of their containers."""
        request = api.ListPodSandboxStatsRequest()
        return list((await _call(self._runtime.ListPodSandboxStats(request, timeout=self._query))).stats)

    async def list_metric_descriptors(self) -> list[api.MetricDescriptor]:
        """Names, help and labels of what :meth:`list_pod_sandbox_metrics` measures."""
        request = api.ListMetricDescriptorsRequest()
        return list(
            (await _call(self._runtime.ListMetricDescriptors(request, timeout=self._query))).descriptors
        )

    async def list_pod_sandbox_metrics(self) -> list[api.PodSandboxMetrics]:
        """Metrics under cAdvisor's names."""
        request = api.ListPodSandboxMetricsRequest()
        return list(
            (await _call(self._runtime.ListPodSandboxMetrics(request, timeout=self._query))).pod_metrics
        )

    async def container_events(self) -> AsyncIterator[api.ContainerEventResponse]:
        """Container events as they happen; ends with NodeError when the connection does.

        The call is on the wire when the first ``None``-free item is awaited; see :mod:`pleg`.
        """
        call = self._runtime.GetContainerEvents(api.GetEventsRequest())
        try:
            async for event in call:
                yield event
        except grpc.aio.AioRpcError as exc:
            raise _translate(exc) from None
        finally:
            call.cancel()

    async def image_status(self, image: str) -> api.Image | None:
        """The image if the runtime has it."""
        request = api.ImageStatusRequest(image=api.ImageSpec(image=image))
        reply = await _call(self._images.ImageStatus(request, timeout=self._query))
        return reply.image if reply.HasField("image") and reply.image.id else None

    async def list_images(self) -> list[api.Image]:
        """All images."""
        return list(
            (await _call(self._images.ListImages(api.ListImagesRequest(), timeout=self._query))).images
        )

    async def remove_image(self, image: str) -> None:
        """Remove an image; idempotent."""
        request = api.RemoveImageRequest(image=api.ImageSpec(image=image))
        await _call(self._images.RemoveImage(request, timeout=self._short))

    async def image_fs_info(self) -> api.ImageFsInfoResponse:
        """The file systems that hold images and writable layers."""
        return await _call(self._images.ImageFsInfo(api.ImageFsInfoRequest(), timeout=self._query))  # type: ignore[no-any-return]

    async def pull_image(
        self, spec: api.ImageSpec, auth: api.AuthConfig | None, sandbox: api.PodSandboxConfig | None
    ) -> str:
        """Pull an image, however long it takes; returns the reference to create containers with."""
        request = api.PullImageRequest(image=spec, auth=auth, sandbox_config=sandbox)
        return str((await _call(self._images.PullImage(request))).image_ref)


def _target(endpoint: str) -> str:
    return endpoint if "://" not in endpoint else endpoint.replace("unix://", "unix:", 1)


Observe = Callable[[str, float, NodeError | None], None]
"""Takes an operation's name as upstream has it, seconds, and the error it ended with."""
_OPERATIONS = {"UpdateContainerResources": "update_container", "ListPodSandbox": "list_podsandbox"}


@dataclass(frozen=True, slots=True)
class _Call:
    """A call under way."""

    call: Any
    operation: str
    observe: Observe | None


def _operation(method: str) -> str:
    name = re.sub(r"(?<!^)([A-Z])", r"_\1", method.replace("PodSandbox", "Podsandbox")).lower()
    return _OPERATIONS.get(method, name)


def _timed(service: services.Service, channel: Channel, observe: Observe | None) -> SimpleNamespace:
    """The service's methods; answers of those that are one message are awaited by :func:`_call`."""
    stubs = service.connect(channel)
    for method in service:
        if method.kind == "unary_unary":
            stub, operation = getattr(stubs, method.name), _operation(method.name)
            setattr(stubs, method.name, functools.partial(_begin, stub, operation, observe))
    return stubs


def _begin(
    stub: Any, operation: str, observe: Observe | None, request: Any, timeout: float | None = None
) -> _Call:
    return _Call(stub(request, timeout=timeout), operation, observe)


async def _call(begun: _Call) -> Any:
    call, error, started = begun.call, None, monotonic()
    try:
        return await call
    except grpc.aio.AioRpcError as exc:
        error = _translate(exc)
        raise error from None
    finally:
        if begun.observe is not None:
            begun.observe(begun.operation, monotonic() - started, error)
        with contextlib.suppress(Exception):
            if not call.done():
                call.cancel()


def _translate(exc: grpc.aio.AioRpcError) -> NodeError:
    number = exc.code().value[0]
    return NodeError(_CODES.get(number, Code.INTERNAL), exc.details() or exc.code().name)

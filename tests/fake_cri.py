"""A small, faithful CRI runtime in memory, served over gRPC on a unix socket; nothing really runs.

It keeps CRI's promises that a kubelet leans on: names are reserved (a second sandbox or container of the
same name and attempt is refused), stop and remove are idempotent, states only move forward, every change
makes an event. Tests say what containers do through :class:`Behaviour` and :meth:`FakeCri.exit`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from tests.fake_images import CriError, FakeImages

Status = grpc.StatusCode


@dataclass
class Behaviour:
    """What the containers of one name do."""

    exit_at_once: int | None = None
    """Exit code of a container that ends as soon as it is started."""
    start_error: str = ""
    """StartContainer fails with this; the container ends as with runc: exit code 128, StartError."""
    create_error: str = ""
    ignores_term: bool = False
    """Only SIGKILL after the grace period ends it."""
    stop_seconds: float = 0.0
    """How long it takes to end after the stop signal."""
    exec: Callable[[list[str]], Awaitable[tuple[int, bytes]]] | None = None
    """Answers ExecSync: exit code and output."""


@dataclass
class Sandbox:
    """A pod sandbox."""

    status: api.PodSandboxStatus
    config: api.PodSandboxConfig


@dataclass
class Container:
    """A container."""

    status: api.ContainerStatus
    config: api.ContainerConfig
    sandbox_id: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeCri(FakeImages):
    """The runtime; use as an async context manager."""

    def __init__(self, socket: str) -> None:
        super().__init__()
        self.socket = socket
        self.endpoint = f"unix://{socket}"
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Container] = {}
        self.runtime_handlers: list[api.RuntimeHandler] = []
        self.strict_groups = False
        self.conditions: list[api.RuntimeCondition] = []
        self.behaviours: dict[str, Behaviour] = {}
        self.calls: list[tuple[str, Any]] = []
        """Every call: the method's name and its request."""
        self.fail_next: dict[str, list[CriError]] = {}
        """Errors for the next calls of a method."""
        self.now_ns: Callable[[], int] = time.time_ns
        """The clock of its time stamps."""
        self.has_events = True
        self.stats: dict[str, api.ContainerStats] = {}
        """Measurements by container name."""
        self.started_twice: list[str] = []
        """Names of containers that were started while another one of the same pod and name ran."""
        self.gate: dict[str, asyncio.Event] = {}
        """A method in here waits for its event before it does anything."""
        self._subscribers: set[asyncio.Queue[api.ContainerEventResponse | None]] = set()
        self._numbers = itertools.count(1)
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> FakeCri:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serve (again): what was there before is still there."""
        self._server = grpc.aio.server()
        for service in (services.RUNTIME, services.IMAGE):
            handlers = {method.name: self._handler(method) for method in service}
            generic = grpc.method_handlers_generic_handler(service.name, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def stop(self) -> None:
        """Go away, as a runtime that is stopped: connections break, the state stays."""
        for queue in self._subscribers:
            queue.put_nowait(None)
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def _handler(self, method: services.Method) -> Any:
        code: dict[str, Any] = {
            "request_deserializer": method.request.FromString,
            "response_serializer": method.response.SerializeToString,
        }
        if method.server_streaming:
            if method.name == "GetContainerEvents":
                return grpc.unary_stream_rpc_method_handler(self._events, **code)
            return grpc.unary_stream_rpc_method_handler(self._unimplemented_stream, **code)

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self.calls.append((method.name, request))
            try:
                if method.name in self.gate:
                    await self.gate[method.name].wait()
                if self.fail_next.get(method.name):
                    raise self.fail_next[method.name].pop(0)
                verb = getattr(self, f"_{method.name}", None)
                if verb is None:
                    raise CriError(Status.UNIMPLEMENTED, f"{method.name} is not part of the fake")
                return await verb(request)
            except CriError as exc:
                await context.abort(exc.code, exc.message)

        return grpc.unary_unary_rpc_method_handler(call, **code)

    # --- for tests -------------------------------------------------------------------------------------

    def called(self, method: str) -> list[Any]:
        """The requests of all calls of a method."""
        return [request for name, request in self.calls if name == method]

    def newest(self, name: str) -> Container:
        """The newest container of that name."""
        found = [each for each in self.containers.values() if each.config.metadata.name == name]
        return max(found, key=lambda each: each.status.created_at)

    def exit(self, name: str, code: int = 0, reason: str = "") -> None:
        """The newest container of that name ends by itself."""
        self._end(self.newest(name), code, reason)

    def kill_sandbox(self, sandbox_id: str) -> None:
        """The sandbox and everything in it dies, as by a crash."""
        for container in self._inside(sandbox_id):
            self._end(container, 137)
        self.sandboxes[sandbox_id].status.state = api.SANDBOX_NOTREADY
        self.tell(api.CONTAINER_STOPPED_EVENT, sandbox_id, sandbox_id)

    def running(self) -> list[str]:
        """Names of running containers, sorted."""
        alive = [c for c in self.containers.values() if c.status.state == api.CONTAINER_RUNNING]
        return sorted(each.config.metadata.name for each in alive)

    # --- events ----------------------------------------------------------------------------------------

    def tell(self, kind: api.ContainerEventType, identifier: str, sandbox_id: str) -> None:
        """Send an event to whoever listens."""
        sandbox = self.sandboxes.get(sandbox_id)
        event = api.ContainerEventResponse(
            container_id=identifier,
            container_event_type=kind,
            created_at=self.now_ns(),
            pod_sandbox_status=sandbox.status if sandbox else None,
            containers_statuses=[each.status for each in self._inside(sandbox_id)],
        )
        for queue in self._subscribers:
            queue.put_nowait(event)

    async def _events(
        self, request: api.GetEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[api.ContainerEventResponse]:
        if not self.has_events:
            await context.abort(Status.UNIMPLEMENTED, "GetContainerEvents is not part of the fake")
        queue: asyncio.Queue[api.ContainerEventResponse | None] = asyncio.Queue()
        self._subscribers.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._subscribers.discard(queue)

    async def _unimplemented_stream(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        await context.abort(Status.UNIMPLEMENTED, "not part of the fake")
        yield None

    # --- sandboxes -------------------------------------------------------------------------------------

    async def _Version(self, request: api.VersionRequest) -> api.VersionResponse:
        return api.VersionResponse(
            version="0.1.0", runtime_name="fake", runtime_version="1", runtime_api_version="v1"
        )

    async def _Status(self, request: api.StatusRequest) -> api.StatusResponse:
        features = api.RuntimeFeatures(supplemental_groups_policy=self.strict_groups)
        status = api.RuntimeStatus(conditions=self.conditions)
        return api.StatusResponse(status=status, runtime_handlers=self.runtime_handlers, features=features)

    async def _RunPodSandbox(self, request: api.RunPodSandboxRequest) -> api.RunPodSandboxResponse:
        meta = request.config.metadata
        for each in self.sandboxes.values():
            if each.config.metadata == meta:
                raise CriError(
                    Status.ALREADY_EXISTS, f"name {meta.name}_{meta.attempt} is reserved for {each.status.id}"
                )
        number = next(self._numbers)
        identifier = f"{number:064x}"
        host = request.config.linux.security_context.namespace_options.network == api.NODE
        status = api.PodSandboxStatus(
            id=identifier,
            metadata=meta,
            state=api.SANDBOX_READY,
            created_at=self.now_ns(),
            network=api.PodSandboxNetworkStatus(ip="" if host else f"10.1.0.{number % 250 + 1}"),
            labels=request.config.labels,
            annotations=request.config.annotations,
        )
        self.sandboxes[identifier] = Sandbox(status, request.config)
        self.tell(api.CONTAINER_CREATED_EVENT, identifier, identifier)
        self.tell(api.CONTAINER_STARTED_EVENT, identifier, identifier)
        return api.RunPodSandboxResponse(pod_sandbox_id=identifier)

    async def _StopPodSandbox(self, request: api.StopPodSandboxRequest) -> api.StopPodSandboxResponse:
        sandbox = self.sandboxes.get(request.pod_sandbox_id)
        if sandbox is not None and sandbox.status.state == api.SANDBOX_READY:
            self.kill_sandbox(request.pod_sandbox_id)
        return api.StopPodSandboxResponse()

    async def _RemovePodSandbox(self, request: api.RemovePodSandboxRequest) -> api.RemovePodSandboxResponse:
        identifier = request.pod_sandbox_id
        if identifier in self.sandboxes:
            await self._StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=identifier))
            for container in self._inside(identifier):
                self._remove(container)
            del self.sandboxes[identifier]
            self.tell(api.CONTAINER_DELETED_EVENT, identifier, identifier)
        return api.RemovePodSandboxResponse()

    async def _PodSandboxStatus(self, request: api.PodSandboxStatusRequest) -> api.PodSandboxStatusResponse:
        return api.PodSandboxStatusResponse(status=self._sandbox(request.pod_sandbox_id).status)

    async def _ListPodSandbox(self, request: api.ListPodSandboxRequest) -> api.ListPodSandboxResponse:
        selector = dict(request.filter.label_selector)
        items = [
            api.PodSandbox(
                id=s.id,
                metadata=s.metadata,
                state=s.state,
                created_at=s.created_at,
                labels=s.labels,
                annotations=s.annotations,
            )
            for s in (each.status for each in self.sandboxes.values())
            if _matches(s.labels, selector)
        ]
        return api.ListPodSandboxResponse(items=items)

    def _sandbox(self, identifier: str) -> Sandbox:
        if identifier not in self.sandboxes:
            raise CriError(Status.NOT_FOUND, f"sandbox {identifier} not found")
        return self.sandboxes[identifier]

    def _inside(self, sandbox_id: str) -> list[Container]:
        return [each for each in self.containers.values() if each.sandbox_id == sandbox_id]

    # --- containers ------------------------------------------------------------------------------------

    def _behaviour(self, container: Container) -> Behaviour:
        return self.behaviours.get(container.config.metadata.name, Behaviour())

    async def _CreateContainer(self, request: api.CreateContainerRequest) -> api.CreateContainerResponse:
        sandbox = self._sandbox(request.pod_sandbox_id)
        if sandbox.status.state != api.SANDBOX_READY:
            raise CriError(Status.FAILED_PRECONDITION, f"sandbox {sandbox.status.id} is not ready")
        meta = request.config.metadata
        for each in self.containers.values():
            same_pod = self.sandboxes[each.sandbox_id].config.metadata.uid == sandbox.config.metadata.uid
            if same_pod and each.config.metadata == meta:
                raise CriError(Status.ALREADY_EXISTS, f"name {meta.name}_{meta.attempt} is reserved")
        if all(image.id != request.config.image.image for image in self.images.values()):
            raise CriError(Status.NOT_FOUND, f"image {request.config.image.image} not found")
        identifier = f"{next(self._numbers):064x}"
        status = api.ContainerStatus(
            id=identifier,
            metadata=meta,
            state=api.CONTAINER_CREATED,
            created_at=self.now_ns(),
            image=api.ImageSpec(image=request.config.image.user_specified_image),
            image_ref=request.config.image.image,
            image_id=request.config.image.image,
            labels=request.config.labels,
            annotations=request.config.annotations,
            mounts=request.config.mounts,
            log_path=f"{sandbox.config.log_directory}/{request.config.log_path}",
        )
        container = Container(status, request.config, sandbox.status.id)
        if error := self._behaviour(container).create_error:
            raise CriError(Status.UNKNOWN, error)
        self.containers[identifier] = container
        self.tell(api.CONTAINER_CREATED_EVENT, identifier, sandbox.status.id)
        return api.CreateContainerResponse(container_id=identifier)

    async def _StartContainer(self, request: api.StartContainerRequest) -> api.StartContainerResponse:
        container = self._container(request.container_id)
        if container.status.state != api.CONTAINER_CREATED:
            raise CriError(Status.FAILED_PRECONDITION, f"container {container.status.id} is not created")
        behaviour = self._behaviour(container)
        container.status.started_at = self.now_ns()
        if behaviour.start_error:
            self._end(container, 128, "StartError", behaviour.start_error)
            raise CriError(Status.UNKNOWN, behaviour.start_error)
        if any(_same_role(container, other) for other in self.containers.values()):
            self.started_twice.append(container.config.metadata.name)
        container.status.state = api.CONTAINER_RUNNING
        self.tell(api.CONTAINER_STARTED_EVENT, container.status.id, container.sandbox_id)
        if behaviour.exit_at_once is not None:
            self._end(container, behaviour.exit_at_once)
        return api.StartContainerResponse()

    async def _StopContainer(self, request: api.StopContainerRequest) -> api.StopContainerResponse:
        container = self.containers.get(request.container_id)
        if container is None or container.status.state == api.CONTAINER_EXITED:
            return api.StopContainerResponse()
        behaviour = self._behaviour(container)
        needed = float("inf") if behaviour.ignores_term else behaviour.stop_seconds
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(container.ended.wait(), min(needed, request.timeout) or 0.001)
        self._end(container, 137 if needed > request.timeout else 143)
        return api.StopContainerResponse()

    async def _UpdateContainerResources(
        self, request: api.UpdateContainerResourcesRequest
    ) -> api.UpdateContainerResourcesResponse:
        self._container(request.container_id)
        return api.UpdateContainerResourcesResponse()

    async def _UpdatePodSandboxResources(
        self, request: api.UpdatePodSandboxResourcesRequest
    ) -> api.UpdatePodSandboxResourcesResponse:
        self._sandbox(request.pod_sandbox_id)
        return api.UpdatePodSandboxResourcesResponse()

    async def _ReopenContainerLog(
        self, request: api.ReopenContainerLogRequest
    ) -> api.ReopenContainerLogResponse:
        self._container(request.container_id)
        return api.ReopenContainerLogResponse()

    async def _ListContainerStats(
        self, request: api.ListContainerStatsRequest
    ) -> api.ListContainerStatsResponse:
        found = []
        for container in self.containers.values():
            stats = self.stats.get(container.config.metadata.name)
            if stats is not None and container.status.state == api.CONTAINER_RUNNING:
                stats.attributes.id = container.status.id
                found.append(stats)
        return api.ListContainerStatsResponse(stats=found)

    async def _RemoveContainer(self, request: api.RemoveContainerRequest) -> api.RemoveContainerResponse:
        container = self.containers.get(request.container_id)
        if container is not None:
            self._end(container, 137)
            self._remove(container)
        return api.RemoveContainerResponse()

    async def _ContainerStatus(self, request: api.ContainerStatusRequest) -> api.ContainerStatusResponse:
        return api.ContainerStatusResponse(status=self._container(request.container_id).status)

    async def _ListContainers(self, request: api.ListContainersRequest) -> api.ListContainersResponse:
        selector = dict(request.filter.label_selector)
        found = [
            api.Container(
                id=c.status.id,
                pod_sandbox_id=c.sandbox_id,
                metadata=c.status.metadata,
                image=c.status.image,
                image_ref=c.status.image_ref,
                state=c.status.state,
                created_at=c.status.created_at,
                labels=c.status.labels,
                annotations=c.status.annotations,
            )
            for c in self.containers.values()
            if _matches(c.status.labels, selector)
        ]
        return api.ListContainersResponse(containers=found)

    async def _ExecSync(self, request: api.ExecSyncRequest) -> api.ExecSyncResponse:
        container = self._container(request.container_id)
        if container.status.state != api.CONTAINER_RUNNING:
            raise CriError(Status.FAILED_PRECONDITION, f"container {container.status.id} is not running")
        behaviour = self._behaviour(container)
        code, output = await behaviour.exec(list(request.cmd)) if behaviour.exec else (0, b"")
        return api.ExecSyncResponse(exit_code=code, stdout=output)

    def _container(self, identifier: str) -> Container:
        if identifier not in self.containers:
            raise CriError(Status.NOT_FOUND, f"container {identifier} not found")
        return self.containers[identifier]

    def _end(self, container: Container, code: int, reason: str = "", message: str = "") -> None:
        status = container.status
        if status.state == api.CONTAINER_EXITED:
            return
        status.state = api.CONTAINER_EXITED
        status.exit_code = code
        status.finished_at = self.now_ns()
        status.reason = reason or ("Completed" if code == 0 else "Error")
        status.message = message
        container.ended.set()
        self.tell(api.CONTAINER_STOPPED_EVENT, status.id, container.sandbox_id)

    def _remove(self, container: Container) -> None:
        self._end(container, 137)
        del self.containers[container.status.id]
        self.tell(api.CONTAINER_DELETED_EVENT, container.status.id, container.sandbox_id)


def _matches(labels: Any, selector: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _same_role(one: Container, other: Container) -> bool:
    names = ("io.kubernetes.pod.uid", "io.kubernetes.container.name")
    same = all(one.config.labels[name] == other.config.labels[name] for name in names)
    return same and other.status.state == api.CONTAINER_RUNNING

"""A node's CRI services, and the pods of one test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import grpc.aio
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from tests.host.node import PATIENCE

T = TypeVar("T")
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20))


class Client:
    """The runtime service and shorthands for the calls that tests repeat. Close it."""

    def __init__(self, endpoint: str, image: str) -> None:
        self.channel = grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
        self.runtime: SimpleNamespace = services.RUNTIME.connect(self.channel)
        self.image = image
        self._count = 0

    async def close(self) -> None:
        await self.channel.close()

    def pod_config(self, **fields: Any) -> api.PodSandboxConfig:
        """With a name of its own."""
        self._count += 1
        name = f"pod{self._count}"
        metadata = api.PodSandboxMetadata(name=name, uid=f"{name}-{time.time_ns()}", namespace="tests")
        return api.PodSandboxConfig(metadata=metadata, **fields)

    def container_config(self, *command: str, name: str = "app", **fields: Any) -> api.ContainerConfig:
        config = api.ContainerConfig(
            metadata=api.ContainerMetadata(name=name),
            image=api.ImageSpec(image=self.image),
            command=command,
            **fields,
        )
        if not fields.get("linux"):
            config.linux.security_context.namespace_options.pid = api.CONTAINER
        return config

    async def run_pod(self, config: api.PodSandboxConfig | None = None) -> str:
        request = api.RunPodSandboxRequest(config=config or self.pod_config())
        identifier: str = (await self.runtime.RunPodSandbox(request)).pod_sandbox_id
        return identifier

    async def create(self, pod: str, config: api.ContainerConfig) -> str:
        request = api.CreateContainerRequest(pod_sandbox_id=pod, config=config)
        identifier: str = (await self.runtime.CreateContainer(request)).container_id
        return identifier

    async def start(self, container: str) -> None:
        await self.runtime.StartContainer(api.StartContainerRequest(container_id=container))

    async def run(self, pod: str, config: api.ContainerConfig) -> str:
        container = await self.create(pod, config)
        await self.start(container)
        return container

    async def exec(self, container: str, *command: str, timeout: int = 0) -> api.ExecSyncResponse:
        request = api.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout)
        response: api.ExecSyncResponse = await self.runtime.ExecSync(request)
        return response

    async def output(self, container: str, script: str) -> str:
        """What a shell script prints; it must succeed."""
        response = await self.exec(container, "sh", "-c", script)
        assert response.exit_code == 0, (response.stdout, response.stderr)
        return response.stdout.decode().strip()

    async def status(self, container: str) -> api.ContainerStatus:
        request = api.ContainerStatusRequest(container_id=container)
        status: api.ContainerStatus = (await self.runtime.ContainerStatus(request)).status
        return status

    async def wait_exited(self, container: str) -> api.ContainerStatus:
        """Its status once it has ended."""

        async def exited() -> api.ContainerStatus | None:
            status = await self.status(container)
            return status if status.state == api.CONTAINER_EXITED else None

        return await until(f"{container} has ended", exited)

    async def remove_pod(self, pod: str) -> None:
        await self.runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=pod))

    async def remove_container(self, container: str) -> None:
        await self.runtime.RemoveContainer(api.RemoveContainerRequest(container_id=container))


async def until(what: str, probe: Callable[[], Awaitable[T | None]]) -> T:
    """Ask until the answer is true; returns it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = await probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} s; last answer: {answer!r}"
        await asyncio.sleep(0.02)


class Refused:
    """``with refused(code) as call: …``: the block must fail with that status; ``call.details`` says why."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code
        self.details = ""

    def __enter__(self) -> Refused:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            pytest.fail(f"not refused; {self._code} was expected")
        if not isinstance(error, grpc.aio.AioRpcError):
            return False
        assert error.code() is self._code, f"{error.code()}: {error.details()}"
        self.details = error.details() or ""
        return True

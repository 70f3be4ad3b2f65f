"""The server on a real socket, and without one: all methods answer, errors become statuses."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from minikubelet.base.errors import Code, NodeError, StepError, invalid
from minikubelet.cri import interceptor
from minikubelet.cri.local import LocalChannel
from minikubelet.cri.server import CriServer
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services

Clients = dict[str, SimpleNamespace]


class Servicer:
    """Fails as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def Version(self, request: api.VersionRequest) -> api.VersionResponse:
        if self.error:
            raise self.error
        return api.VersionResponse(version=request.version)

    async def GetContainerEvents(
        self, request: api.GetEventsRequest
    ) -> AsyncIterator[api.ContainerEventResponse]:
        yield api.ContainerEventResponse(container_id="one")
        if self.error:
            raise self.error


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture(params=["socket", "local"])
async def clients(
    tmp_path: Path, servicer: Servicer, request: pytest.FixtureRequest
) -> AsyncIterator[Clients]:
    servicers = {services.RUNTIME.name: servicer}
    if request.param == "local":
        local = LocalChannel(servicers)
        yield {service.name: service.connect(local) for service in (services.RUNTIME, services.IMAGE)}
        await local.close()
        return
    path = str(tmp_path / "cri.sock")
    server = CriServer(path, servicers)
    await server.start()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        yield {service.name: service.connect(channel) for service in services.ALL}
    await server.stop(0)
    assert not os.path.exists(path)


def runtime(clients: Clients) -> SimpleNamespace:
    return clients[services.RUNTIME.name]


async def test_a_call(clients: Clients) -> None:
    reply = await runtime(clients).Version(api.VersionRequest(version="v1"))
    assert reply.version == "v1"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (invalid("config.hostname", "is bad"), grpc.StatusCode.INVALID_ARGUMENT, "config.hostname: is bad"),
        (NodeError(Code.NOT_FOUND, "no"), grpc.StatusCode.NOT_FOUND, "no"),
        (StepError("mount", errno.EPERM, "/x"), grpc.StatusCode.INTERNAL, "mount '/x': "),
        (StepError("mkdir", errno.ENOSPC, "/x"), grpc.StatusCode.RESOURCE_EXHAUSTED, "ENOSPC"),
        (OSError(errno.ENOSPC, "No space", "/x"), grpc.StatusCode.RESOURCE_EXHAUSTED, "No space: '/x'"),
        (OSError(errno.EIO, "broken"), grpc.StatusCode.INTERNAL, "broken"),
        (ValueError("oops"), grpc.StatusCode.INTERNAL, "ValueError: oops"),
    ],
)
async def test_errors_become_statuses(
    clients: Clients, servicer: Servicer, error: Exception, code: grpc.StatusCode, text: str
) -> None:
    servicer.error = error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await runtime(clients).Version(api.VersionRequest())
    assert caught.value.code() is code
    assert text in (caught.value.details() or "")


async def test_a_stream_ends_with_its_error(clients: Clients, servicer: Servicer) -> None:
    servicer.error = NodeError(Code.RESOURCE_EXHAUSTED, "too slow")
    seen = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for event in runtime(clients).GetContainerEvents(api.GetEventsRequest()):
            seen.append(event.container_id)
    assert seen == ["one"]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def unbuilt() -> list[tuple[str, str]]:
    return [
        (service.name, method.name)
        for service in services.ALL
        for method in service
        if not hasattr(Servicer, method.name)
    ]


@pytest.mark.parametrize(("service", "name"), unbuilt())
async def test_what_is_not_built_says_so(clients: Clients, service: str, name: str) -> None:
    if service not in clients:
        return  # streams to the server are for the command line: over the socket only
    (found,) = [item for item in services.ALL if item.name == service]
    method = found.methods[name]
    request: Any = method.request()
    call = getattr(clients[service], name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answer = call(iter([request]) if method.client_streaming else request)
        if method.server_streaming:
            async for _ in answer:
                pass
        else:
            await answer
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert f"{service}/{name} is not implemented by minikubelet" in (caught.value.details() or "")


def listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


async def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    listen(tmp_path / "s").close()
    server = CriServer(str(tmp_path / "s"), {})
    await server.start()
    await server.stop(0)


def make_folder(path: Path) -> Callable[[], None]:
    path.mkdir()
    return path.rmdir


def make_listener(path: Path) -> Callable[[], None]:
    return listen(path).close


@pytest.mark.parametrize(("make", "text"), [(make_folder, "not a socket"), (make_listener, "somebody else")])
async def test_what_others_have_there_is_left_alone(
    tmp_path: Path, make: Callable[[Path], Callable[[], None]], text: str
) -> None:
    end = make(tmp_path / "s")
    with pytest.raises(NodeError, match=text):
        await CriServer(str(tmp_path / "s"), {}).start()
    assert (tmp_path / "s").exists()
    end()


async def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="longer than 107 bytes"):
        await CriServer(str(tmp_path / ("s" * 120)), {}).start()


def test_every_code_has_a_status() -> None:
    for code in Code:
        status, _ = interceptor.status_of(NodeError(code, "x"))
        assert status.name == code.name

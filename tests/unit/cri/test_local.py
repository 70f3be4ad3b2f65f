"""Calls within the process behave as calls over the socket: given up, late, copied, and never far ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.cri.local import LocalChannel
from minikubelet.cri.runtime_service import RuntimeService
from minikubelet.cri.server import MAX_RECEIVE
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.runtime.events import Event, EventBroker, EventKind
from minikubelet.runtime.models import Sandbox, SandboxConfig, SandboxMetadata


class Servicer:
    """A runtime whose calls last until they are let go."""

    def __init__(self) -> None:
        self.began, self.go, self.undone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.kept = api.VersionResponse(version="kept")
        self.asked: api.VersionRequest | None = None
        self.sent = 0

    async def Version(self, request: api.VersionRequest) -> api.VersionResponse:
        self.asked = request
        self.began.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # what was begun is undone in its own time
            self.undone.set()
            raise
        return self.kept

    async def GetContainerEvents(
        self, request: api.GetEventsRequest
    ) -> AsyncIterator[api.ContainerEventResponse]:
        while True:
            self.sent += 1
            yield api.ContainerEventResponse(container_id=str(self.sent))


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def channel(servicer: Servicer) -> AsyncIterator[LocalChannel]:
    channel = LocalChannel({services.RUNTIME.name: servicer})
    yield channel
    await channel.close()


@pytest.fixture
def stubs(channel: LocalChannel) -> SimpleNamespace:
    return services.RUNTIME.connect(channel)


async def test_neither_side_sees_what_the_other_does_to_a_message(
    stubs: SimpleNamespace, servicer: Servicer
) -> None:
    servicer.go.set()
    request = api.VersionRequest(version="as it was")
    call = stubs.Version(request)
    request.version = "changed meanwhile"
    reply = await call
    reply.version = "changed by the client"
    assert servicer.asked is not None and servicer.asked.version == "as it was"
    assert servicer.kept.version == "kept"


async def test_who_gives_up_waiting_ends_the_call_and_does_not_wait_for_it(
    stubs: SimpleNamespace, servicer: Servicer
) -> None:
    async def ask() -> None:
        await stubs.Version(api.VersionRequest())

    asking = asyncio.create_task(ask())
    await servicer.began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not servicer.undone.is_set()
    await asyncio.wait_for(servicer.undone.wait(), 10)


async def test_a_call_that_takes_too_long_is_given_up(stubs: SimpleNamespace, servicer: Servicer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.Version(api.VersionRequest(), timeout=0.01)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(servicer.undone.wait(), 10)


async def test_a_message_that_is_too_large(stubs: SimpleNamespace, servicer: Servicer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.Version(api.VersionRequest(version="x" * (MAX_RECEIVE + 1)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert servicer.asked is None


async def test_closing_ends_what_is_under_way(
    stubs: SimpleNamespace, channel: LocalChannel, servicer: Servicer
) -> None:
    call = stubs.Version(api.VersionRequest())
    await servicer.began.wait()
    await channel.close()
    assert servicer.undone.is_set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.CANCELLED


async def test_a_stream_waits_for_its_reader(stubs: SimpleNamespace, servicer: Servicer) -> None:
    stream = stubs.GetContainerEvents(api.GetEventsRequest())
    await asyncio.sleep(0.05)
    assert 0 < servicer.sent < 100
    seen = []
    async for event in stream:
        seen.append(int(event.container_id))
        if len(seen) == 500:
            break
    assert seen == list(range(1, 501))
    assert servicer.sent < 600
    assert stream.cancel()


class Runtime:
    """All that a stream of events asks of a runtime."""

    def __init__(self) -> None:
        self.broker = EventBroker(limit=20)

    def events(self) -> AsyncIterator[Event]:
        return self.broker.subscribe()


async def test_a_reader_that_is_too_slow_is_cut_off() -> None:
    runtime = Runtime()
    channel = LocalChannel({services.RUNTIME.name: RuntimeService(runtime, None)})  # type: ignore[arg-type]
    client = CriClient("unix:///nowhere", channel=channel)
    events = client.container_events()
    first = asyncio.ensure_future(anext(events))
    metadata = SandboxMetadata(name="web", uid="u", namespace="default")
    sandbox = Sandbox(id="s", config=SandboxConfig(metadata=metadata), created_at=1, cgroup="/x")
    while not first.done():
        runtime.broker.publish(EventKind.CREATED, sandbox)
        await asyncio.sleep(0)
    for _ in range(500):
        runtime.broker.publish(EventKind.CREATED, sandbox)
        await asyncio.sleep(0)
    with pytest.raises(NodeError, match="cut off") as caught:
        async for _ in events:
            pass
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    await client.close()

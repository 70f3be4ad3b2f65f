"""GetContainerEvents on a real connection: who doesn't read is cut off, and holds up nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from minikubelet.cri.runtime_service import RuntimeService
from minikubelet.cri.server import CriServer
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from minikubelet.runtime.events import Event, EventBroker, EventKind
from minikubelet.runtime.models import Sandbox, SandboxConfig, SandboxMetadata

LIMIT, EVENTS = 20, 150
BULK = "x" * 200_000
"""Bytes of an event, so that the connection's buffers are full before the broker's queue."""


class Runtime:
    """All that the call asks of a runtime."""

    def __init__(self) -> None:
        self.broker = EventBroker(LIMIT)

    def events(self) -> AsyncIterator[Event]:
        return self.broker.subscribe()


def sandbox(number: int) -> Sandbox:
    metadata = SandboxMetadata(name="web", uid="u", namespace="default")
    config = SandboxConfig(metadata=metadata, annotations={"bulk": BULK})
    return Sandbox(id=str(number), config=config, created_at=1, cgroup="/x")


async def test_others_get_everything_in_order_and_in_time(tmp_path: Path) -> None:
    path = f"{tmp_path}/cri.sock"
    runtime = Runtime()
    server = CriServer(path, {services.RUNTIME.name: RuntimeService(runtime, None)})  # type: ignore[arg-type]
    await server.start()
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        grpc.aio.insecure_channel(f"unix:{path}", options=options) as first,
        grpc.aio.insecure_channel(f"unix:{path}", options=options) as second,
    ):
        stalled = services.RUNTIME.connect(first).GetContainerEvents(api.GetEventsRequest())
        reading = services.RUNTIME.connect(second).GetContainerEvents(api.GetEventsRequest())
        first_event = asyncio.ensure_future(reading.read())
        while not first_event.done():  # until both have subscribed: one may miss some of these
            runtime.broker.publish(EventKind.DELETED, sandbox(0))
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        runtime.broker.publish(EventKind.STOPPED, sandbox(0))
        while (await reading.read()).container_event_type != api.CONTAINER_STOPPED_EVENT:
            pass
        began = time.monotonic()
        for number in range(1, EVENTS):
            runtime.broker.publish(EventKind.CREATED, sandbox(number))
            assert (await asyncio.wait_for(reading.read(), 10)).container_id == str(number)
        assert time.monotonic() - began < 30
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(_drain(stalled), 30)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "cut off" in (caught.value.details() or "")
        runtime.broker.close()
    await server.stop(0)


async def _drain(call: grpc.aio.UnaryStreamCall[api.GetEventsRequest, api.ContainerEventResponse]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass

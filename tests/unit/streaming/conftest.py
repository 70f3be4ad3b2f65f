"""A streaming server over a fake runtime; no session and no descriptor may outlive a test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from minikubelet.streaming.server import StreamingServer
from tests.unit.streaming.peers import FakeRuntime


@pytest.fixture
async def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
async def server(runtime: FakeRuntime) -> AsyncIterator[StreamingServer]:
    server = StreamingServer(runtime)
    await server.start()
    fds = len(os.listdir("/proc/self/fd"))
    yield server
    for _ in range(100):
        if not server.session_count and len(os.listdir("/proc/self/fd")) <= fds:
            break
        await asyncio.sleep(0.02)
    assert server.session_count == 0
    assert len(os.listdir("/proc/self/fd")) <= fds
    await server.close()

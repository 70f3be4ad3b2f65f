"""Clients that go, stay silent or don't read: no exec and no task outlives its connection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import aiohttp
import pytest

from minikubelet.streaming import remote_command, watch
from minikubelet.streaming.pumps import Descriptor
from minikubelet.streaming.server import StreamingServer
from minikubelet.streaming.sessions import ExecRequest
from tests.unit.streaming.peers import FakeRuntime, read_all, spdy

BLOCK = bytes(32768)


@pytest.fixture
async def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
async def server(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StreamingServer]:
    monkeypatch.setattr(watch, "PROBE_PERIOD", 0.2)
    server = StreamingServer(runtime)
    await server.start()
    yield server
    for _ in range(100):
        if not server.session_count:
            break
        await asyncio.sleep(0.05)
    assert server.session_count == 0
    await server.close()


def _exec(*command: str, **options: bool) -> ExecRequest:
    return ExecRequest(container_id="c", command=command, **options)


async def _ended(runtime: FakeRuntime) -> None:
    await asyncio.wait_for(runtime.started.wait(), 10)
    await asyncio.wait_for(runtime.processes[0].wait(), 30)
    assert runtime.cancelled == 1


async def _stuck(task: asyncio.Task[None]) -> None:
    """Wait until the writer is held up by a program that doesn't read its stdin."""
    await asyncio.sleep(0.5)
    assert not task.done()
    task.cancel()


async def test_websocket_client_vanishes_behind_unread_stdin(
    server: StreamingServer, runtime: FakeRuntime
) -> None:
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(
            server.url(_exec("sleep", "60", stdin=True)), protocols=["v5.channel.k8s.io"]
        )

        async def flood() -> None:
            while True:
                await ws.send_bytes(b"\0" + BLOCK)

        await _stuck(asyncio.create_task(flood()))
        ws._response.connection.transport.abort()  # type: ignore[union-attr]
        await _ended(runtime)


async def test_spdy_client_vanishes_behind_unread_stdin(
    server: StreamingServer, runtime: FakeRuntime
) -> None:
    client = await spdy(server.url(_exec("sleep", "60", stdin=True, stderr=False)))
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdin", "stdout")}

    async def flood() -> None:
        while True:
            await streams["stdin"].write(BLOCK)

    await _stuck(asyncio.create_task(flood()))
    client.transport.abort()
    await _ended(runtime)


async def test_slow_reader_that_vanishes(server: StreamingServer, runtime: FakeRuntime) -> None:
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(server.url(_exec("yes", stderr=False)), protocols=["v4.channel.k8s.io"])
        transport = ws._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.pause_reading()
        await asyncio.sleep(0.3)
        transport.abort()
        await _ended(runtime)


async def test_unread_stdin_does_not_end_a_session(server: StreamingServer, runtime: FakeRuntime) -> None:
    status = b""
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(
            server.url(_exec("sleep", "3", stdin=True)), protocols=["v5.channel.k8s.io"]
        )

        async def flood() -> None:
            while True:
                await ws.send_bytes(b"\0" + BLOCK)

        sender = asyncio.create_task(flood())
        async for message in ws:
            if message.data[0] == 3:
                status += message.data[1:]
        sender.cancel()
    assert b'"Success"' in status
    assert runtime.cancelled == 0


async def test_a_silent_session_ends(
    server: StreamingServer, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch.watch_idle, "__defaults__", (1.0,))
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(
            server.url(_exec("sleep", "60", stdin=True)), protocols=["v5.channel.k8s.io"]
        )
        await _ended(runtime)
        await ws.close()


async def test_an_ended_server_ends_the_exec(runtime: FakeRuntime) -> None:
    server = StreamingServer(runtime)
    await server.start()
    client = await spdy(server.url(_exec("sleep", "60", stderr=False)))
    assert client.connection is not None
    for kind in ("error", "stdout"):
        client.connection.open({"streamType": kind})
    await asyncio.wait_for(runtime.started.wait(), 10)
    await server.close()
    await _ended(runtime)


async def test_unknown_websocket_protocols_are_refused(server: StreamingServer) -> None:
    url = server.url(_exec("true"))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await session.ws_connect(url, protocols=["v9.channel.k8s.io"])
    assert error.value.status == 400


async def _echo(server: StreamingServer, text: bytes) -> bytes:
    await asyncio.sleep(int(text) * 0.03)
    client = await spdy(server.url(_exec("sh", "-c", "cat; sleep 0.2", stdin=True, stderr=False)))
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdin", "stdout")}
    await streams["stdin"].write(text)
    streams["stdin"].finish()
    output = await read_all(streams["stdout"])
    await client.connection.lost.wait()
    return output


async def test_sessions_never_close_each_others_descriptors(server: StreamingServer) -> None:
    """stdin is closed before the rest: its number belongs to somebody else when the session ends."""
    texts = [str(number).encode() for number in range(30)]
    assert await asyncio.gather(*(_echo(server, text) for text in texts)) == texts


def test_a_descriptor_is_closed_once() -> None:
    read, write = os.pipe()
    os.close(read)
    descriptor = Descriptor(write)
    descriptor.close()
    again, other = os.pipe()
    descriptor.close()
    os.close(again)
    os.close(other)
    assert write in (again, other), "the number was not used again: this test tells nothing"


async def test_a_slow_reader_gets_everything(
    server: StreamingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_command, "DRAIN_IDLE", 0.1)
    size = 12 << 20
    client = await spdy(server.url(_exec("head", "-c", str(size), "/dev/zero", stderr=False)))
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdout")}
    count = pause = 0
    while data := await streams["stdout"].read():
        count += len(data)
        if count >= pause:
            await asyncio.sleep(0.3)
            pause += 1 << 20
    assert count == size
    assert b'"Success"' in await read_all(streams["error"])


async def test_a_slow_websocket_reader_gets_everything(
    server: StreamingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_command, "DRAIN_IDLE", 0.1)
    size = 12 << 20
    count = pause = 0
    status = b""
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(
            server.url(_exec("head", "-c", str(size), "/dev/zero", stderr=False)),
            protocols=["v5.channel.k8s.io"],
        )
        async for message in ws:
            if message.data[0] == 3:
                status += message.data[1:]
            elif message.data[0] == 1:
                count += len(message.data) - 1
            if count >= pause:
                await asyncio.sleep(0.3)
                pause += 1 << 20
    assert count == size
    assert b'"Success"' in status

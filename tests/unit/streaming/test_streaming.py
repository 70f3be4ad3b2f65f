"""The streaming server over SPDY and WebSocket, against a runtime that runs plain processes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import struct

import aiohttp
import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.streaming import sessions
from minikubelet.streaming.server import StreamingServer
from minikubelet.streaming.sessions import ExecRequest, PortForwardRequest, TokenCache
from minikubelet.streaming.spdy import Stream
from tests.unit.streaming.peers import FakeRuntime, echo_server, read_all, spdy


def _exec(*command: str, **options: bool) -> ExecRequest:
    return ExecRequest(container_id="c", command=command, **options)


async def test_spdy_exec_echoes_stdin_and_reports_the_exit_code(server: StreamingServer) -> None:
    client = await spdy(server.url(_exec("sh", "-c", "cat; echo problem >&2; exit 7", stdin=True)))
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdin", "stdout", "stderr")}
    await streams["stdin"].write(b"hello\n")
    streams["stdin"].finish()
    assert await read_all(streams["stdout"]) == b"hello\n"
    assert await read_all(streams["stderr"]) == b"problem\n"
    status = json.loads(await read_all(streams["error"]))
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    await client.connection.lost.wait()


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v2.channel.k8s.io"])
async def test_spdy_exec_passes_large_data_byte_exact(server: StreamingServer, protocol: str) -> None:
    size = 32 << 20
    client = await spdy(server.url(_exec("cat", stdin=True, stderr=False)), protocol)
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdin", "stdout")}
    block = os.urandom(1 << 20)

    async def send() -> None:
        for _ in range(size >> 20):
            await streams["stdin"].write(block)
        streams["stdin"].finish()

    sender = asyncio.create_task(send())
    got = hashlib.sha256()
    count = 0
    while data := await streams["stdout"].read():
        got.update(data)
        count += len(data)
    await sender
    assert count == size
    assert got.digest() == hashlib.sha256(block * (size >> 20)).digest()


async def test_spdy_client_that_vanishes_ends_the_exec(server: StreamingServer, runtime: FakeRuntime) -> None:
    client = await spdy(server.url(_exec("sleep", "60", stderr=False)))
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdout")}
    await asyncio.wait_for(runtime.started.wait(), 10)
    client.transport.abort()
    await asyncio.wait_for(runtime.processes[0].wait(), 10)
    assert runtime.cancelled == 1
    assert streams["stdout"].headers["streamType"] == "stdout"


async def test_failure_to_start_is_told_on_the_error_stream(server: StreamingServer) -> None:
    client = await spdy(server.url(ExecRequest(container_id="missing", command=("x",), stderr=False)))
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdout")}
    status = json.loads(await read_all(streams["error"]))
    assert status["status"] == "Failure"
    assert "container 'missing' not found" in status["message"]


async def test_grandchild_that_keeps_the_pipe_does_not_hold_the_session(
    server: StreamingServer, runtime: FakeRuntime
) -> None:
    client = await spdy(server.url(_exec("sh", "-c", "sleep 20 & echo done", stderr=False)))
    assert client.connection is not None
    streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdout")}
    assert await asyncio.wait_for(read_all(streams["stdout"]), 10) == b"done\n"
    assert json.loads(await read_all(streams["error"]))["status"] == "Success"
    os.killpg(runtime.processes[0].pid, 9)


async def test_tokens_work_once_and_only_for_upgrades(server: StreamingServer) -> None:
    url = server.url(_exec("true", stderr=False))
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 400
            assert "Server" not in response.headers
        client = await spdy(url)
        assert client.connection is not None
        streams = {t: client.connection.open({"streamType": t}) for t in ("error", "stdout")}
        await read_all(streams["error"])
        again = await spdy(url)
        assert "404" in (await again.status).splitlines()[0]
        again.close()


def test_tokens_expire_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    cache = TokenCache(clock=lambda: now)
    token = cache.insert(_exec("x"))
    now += sessions.TOKEN_LIFETIME + 1
    assert cache.consume(token) is None
    monkeypatch.setattr(sessions, "MAX_TOKENS", 2)
    tokens = {cache.insert(_exec("x")), cache.insert(_exec("x"))}
    assert len(tokens) == 2
    with pytest.raises(NodeError) as caught:
        cache.insert(_exec("x"))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_websocket_exec(server: StreamingServer, runtime: FakeRuntime, protocol: str) -> None:
    def wrap(channel: int, data: bytes) -> bytes | str:
        if "base64" in protocol:
            return str(channel) + base64.b64encode(data).decode()
        return bytes([channel]) + data

    command = "head -c 6; echo problem >&2; exit 3"
    received: dict[int, bytes] = {}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url(_exec("sh", "-c", command, stdin=True)), protocols=[protocol]) as ws,
    ):
        assert ws.protocol == protocol
        for message in (wrap(4, b'{"Width": 80, "Height": 24}'), wrap(0, b"hello\n")):
            await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
        async for got in ws:
            data = got.data
            channel, rest = (
                (int(data[0]), base64.b64decode(data[1:])) if isinstance(data, str) else (data[0], data[1:])
            )
            received[channel] = received.get(channel, b"") + rest
    assert received[1] == b"hello\n"
    assert received[2] == b"problem\n"
    assert json.loads(received[3])["details"]["causes"][0]["message"] == "3"
    assert runtime.sizes == [(80, 24)]


async def test_websocket_v5_half_close_ends_stdin(server: StreamingServer) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            server.url(_exec("cat", stdin=True, stderr=False)), protocols=["v5.channel.k8s.io"]
        ) as ws,
    ):
        await ws.send_bytes(b"\x00data")
        await ws.send_bytes(b"\xff\x00")
        output = b""
        async for got in ws:
            if got.data[0] == 1:
                output += got.data[1:]
    assert output == b"data"


async def test_spdy_port_forward_with_half_close(server: StreamingServer, runtime: FakeRuntime) -> None:
    echo, runtime.port = await echo_server()
    client = await spdy(server.url(PortForwardRequest("s")), "portforward.k8s.io")
    assert client.connection is not None
    payload = os.urandom(3 << 20)
    for request in ("0", "1"):
        headers = {"port": "80", "requestID": request}
        error = client.connection.open({**headers, "streamType": "error"})
        error.finish()
        data = client.connection.open({**headers, "streamType": "data"})

        async def send(stream: Stream) -> None:
            await stream.write(payload)
            stream.finish()

        sender = asyncio.create_task(send(data))
        assert await read_all(data) == payload
        assert await read_all(error) == b""
        await sender
    client.close()
    echo.close()


async def test_spdy_port_forward_names_a_refused_port(server: StreamingServer) -> None:
    client = await spdy(server.url(PortForwardRequest("s")), "portforward.k8s.io")
    assert client.connection is not None
    headers = {"port": "1", "requestID": "0"}
    error = client.connection.open({**headers, "streamType": "error"})
    client.connection.open({**headers, "streamType": "data"})
    assert b"error forwarding port 1" in await read_all(error)
    client.close()


async def test_websocket_port_forward(server: StreamingServer, runtime: FakeRuntime) -> None:
    echo, runtime.port = await echo_server()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url(PortForwardRequest("s", (80,))), protocols=["v4.channel.k8s.io"]) as ws,
    ):
        assert (await ws.receive_bytes()) == b"\x00" + struct.pack("<H", 80)
        assert (await ws.receive_bytes()) == b"\x01" + struct.pack("<H", 80)
        await ws.send_bytes(b"\x00ping")
        assert (await ws.receive_bytes()) == b"\x00ping"
    echo.close()


async def test_garbage_after_the_upgrade_closes_the_connection(server: StreamingServer) -> None:
    client = await spdy(server.url(_exec("true")))
    client.send(b"\x80\x09garbage" + os.urandom(4096))
    assert client.connection is not None
    await asyncio.wait_for(client.connection.lost.wait(), 10)

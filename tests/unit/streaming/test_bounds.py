"""What a client can make the streaming server keep or do is bounded, in memory and in time."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from minikubelet.streaming import port_forward, spdy_channels, spdy_frames
from minikubelet.streaming import server as server_module
from minikubelet.streaming.remote_command import Channels, _Activity, _output
from minikubelet.streaming.server import StreamingServer
from minikubelet.streaming.sessions import ExecRequest, PortForwardRequest
from minikubelet.streaming.spdy import HIGH_WATER, MAX_HELD, Connection, Stream
from minikubelet.streaming.spdy_headers import HeaderEncoder
from tests.unit.streaming.peers import FakeRuntime, echo_server, read_all, spdy

TOKEN = "portforward.k8s.io"


async def until(condition: Any, what: str) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within 10 s: {what}")


class FakeCarrier:
    """Takes everything, remembers whether it is paused."""

    def __init__(self) -> None:
        self.paused = False
        self.closed = False
        self.sent = bytearray()

    def send(self, data: bytes) -> None:
        self.sent += data

    async def drain(self) -> None:
        return None

    def full(self) -> bool:
        return False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True


class Peer:
    """A connection of ours, fed with a client's frames."""

    def __init__(self) -> None:
        self.carrier = FakeCarrier()
        self.streams: list[Stream] = []
        self.connection = Connection(self.carrier, self.streams.append)
        self._encoder = HeaderEncoder()

    def open(self, count: int) -> None:
        for number in range(count):
            self.connection.feed(spdy_frames.syn_stream(2 * number + 1, self._encoder.encode({"n": "1"})))

    def send(self, stream: Stream, count: int) -> None:
        self.connection.feed(spdy_frames.data(stream.id, bytes(count)))


async def test_many_streams_together_stop_the_client() -> None:
    """None of them alone has much; what they have together is what counts."""
    peer = Peer()
    peer.open(200)
    sent = 0
    for stream in peer.streams:
        if peer.carrier.paused:
            break
        peer.send(stream, HIGH_WATER // 2)
        sent += HIGH_WATER // 2
    assert MAX_HELD // 2 < sent < 2 * MAX_HELD
    assert len(await peer.streams[0].read()) == HIGH_WATER // 2
    assert not peer.carrier.paused


async def test_what_a_reset_stream_had_unread_holds_up_nobody() -> None:
    peer = Peer()
    peer.open(2)
    stuck, other = peer.streams
    peer.send(stuck, HIGH_WATER + 1)
    assert peer.carrier.paused
    peer.connection.feed(spdy_frames.rst_stream(stuck.id, spdy_frames.RST_CANCEL))
    assert not peer.carrier.paused
    assert await stuck.read() == b""
    with pytest.raises(ConnectionError):
        await stuck.write(b"to nobody")
    peer.send(other, 3)
    assert await other.read() == bytes(3)


async def test_frames_behind_the_end_make_nothing() -> None:
    peer = Peer()
    peer.connection.close()
    peer.open(1)
    assert peer.streams == []


async def test_a_client_that_asks_and_reads_no_answers_is_let_go(server: StreamingServer) -> None:
    client = await spdy(server.url(PortForwardRequest("s")), TOKEN)
    client.pause()
    ping = spdy_frames.control(spdy_frames.PING, struct.pack(">I", 1))
    for _ in range(1024):
        client.send(ping * 4096)
        async with asyncio.timeout(30):
            await client.drain()
        await asyncio.sleep(0)
        if not server.session_count:
            break
    assert server.session_count == 0
    client.transport.abort()


async def test_a_client_that_asks_and_reads_may_ask_on(server: StreamingServer) -> None:
    client = await spdy(server.url(PortForwardRequest("s")), TOKEN)
    ping = spdy_frames.control(spdy_frames.PING, struct.pack(">I", 1))
    for _ in range(64):
        client.send(ping * 4096)
        await client.drain()
        await asyncio.sleep(0)
    assert server.session_count == 1
    client.transport.abort()
    await until(lambda: not server.session_count, "the session's end")


async def test_a_reset_ends_the_connection_into_the_pod(
    server: StreamingServer, runtime: FakeRuntime
) -> None:
    """As kubectl resets the stream of a local connection that was cut; the pod would send for ever."""
    ended = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except ConnectionError:
            ended.set()
        finally:
            writer.close()

    listening = await asyncio.start_server(endless, "127.0.0.1", 0)
    runtime.port = listening.sockets[0].getsockname()[1]
    client = await spdy(server.url(PortForwardRequest("s")), TOKEN)
    assert client.connection is not None
    headers = {"port": "80", "requestID": "0"}
    error = client.connection.open({"streamType": "error", **headers})
    error.finish()
    data = client.connection.open({"streamType": "data", **headers})
    await data.read()
    data.reset()
    async with asyncio.timeout(10):
        await ended.wait()
    assert server.session_count == 1
    client.transport.abort()
    listening.close()


async def test_half_a_pair_is_refused_in_the_end(
    server: StreamingServer, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_forward, "PAIR_TIMEOUT", 0.2)

    listening, runtime.port = await echo_server()
    client = await spdy(server.url(PortForwardRequest("s")), TOKEN)
    assert client.connection is not None
    whole = {"port": "80", "requestID": "1"}
    client.connection.open({"streamType": "error", **whole}).finish()
    data = client.connection.open({"streamType": "data", **whole})
    half = client.connection.open({"streamType": "error", "port": "80", "requestID": "2"})
    async with asyncio.timeout(10):
        assert await read_all(half) == b""
    await data.write(b"still there")
    assert await data.read() == b"still there"
    client.transport.abort()
    listening.close()


async def test_a_client_that_opens_too_few_streams_starts_nothing(
    server: StreamingServer, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spdy_channels, "CREATION_TIMEOUT", 0.2)
    client = await spdy(server.url(ExecRequest(container_id="c", command=("true",), stderr=False)))
    assert client.connection is not None
    client.connection.open({"streamType": "error"})
    async with asyncio.timeout(10):
        await client.connection.lost.wait()
    await until(lambda: not server.session_count, "the session's end")
    assert not runtime.started.is_set()


async def test_a_port_that_has_ended_holds_up_no_other(server: StreamingServer, runtime: FakeRuntime) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()

    listening = await asyncio.start_server(echo, "127.0.0.1", 0)
    runtime.port = listening.sockets[0].getsockname()[1]
    url = server.url(PortForwardRequest("s", (1, 80)))  # nobody listens on port 1
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("v4.channel.k8s.io",)) as ws,
    ):
        for _ in range(4):
            await ws.receive(10)
        assert (await ws.receive(10)).data[0] == 1
        for _ in range(100):
            await ws.send_bytes(b"\x00to nobody")
        await ws.send_bytes(b"\x02hello")
        assert (await ws.receive(10)).data == b"\x02hello"
    listening.close()


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def _connect(server: StreamingServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(server.url(PortForwardRequest("s")))
    return await asyncio.open_connection(parts.hostname, parts.port)


async def test_a_connection_without_a_request_is_closed(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the machine can open one, and each takes a descriptor of the daemon's."""
    monkeypatch.setattr(server_module, "HEADERS_TIMEOUT", 0.3)
    server = StreamingServer(runtime)
    await server.start()
    client = await spdy(server.url(PortForwardRequest("s")), TOKEN)
    silent, _ = await _connect(server)
    slow, writer = await _connect(server)
    writer.write(b"GET /exec/x HTTP/1.1\r\nHost: x\r\n")
    async with asyncio.timeout(10):
        assert await _is_closed(silent)
        assert await _is_closed(slow)
    assert server.session_count == 1, "one that has sent its request stays"
    client.transport.abort()
    await server.close()


async def test_a_refused_request_ends_its_connection(server: StreamingServer) -> None:
    reader, writer = await _connect(server)
    writer.write(b"GET /exec/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
    async with asyncio.timeout(server_module.HEADERS_TIMEOUT / 2):
        assert b" 404 " in await reader.read()
    writer.close()


async def test_silent_connections_shut_nobody_out(server: StreamingServer) -> None:
    silent = [await _connect(server) for _ in range(server_module.MAX_WAITING + 10)]
    async with asyncio.timeout(10):
        for reader, _ in silent[:10]:
            assert await _is_closed(reader)
    client = await spdy(server.url(PortForwardRequest("s")), TOKEN)
    assert server.session_count == 1
    client.transport.abort()
    for _, writer in silent:
        writer.close()


class _Fast(Channels):
    """A client that takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    async def write(self, channel: str, data: bytes) -> None:
        self.writes += 1
        if self.writes == 5000:
            raise ConnectionResetError

    async def read_stdin(self) -> bytes:
        return b""

    async def read_resize(self) -> bytes:
        return b""

    async def send_status(self, status: dict[str, Any]) -> None:
        return None

    async def close(self) -> None:
        return None


async def test_a_fast_program_and_a_fast_client_leave_turns_to_others() -> None:
    """Neither a read nor a write ever waits."""
    channels = _Fast()
    zeros = os.open("/dev/zero", os.O_RDONLY)
    output = asyncio.create_task(_output(channels, "stdout", zeros, _Activity()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < channels.writes < 100
    output.cancel()
    await asyncio.gather(output, return_exceptions=True)
    os.close(zeros)

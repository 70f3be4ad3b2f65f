"""Upgraded connections through the kubelet's port: bytes both ways, ends, silence, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api.remote import RemoteApi
from minikubelet.kubelet.api.tls import Certificates
from minikubelet.kubelet.observed import sandbox_of
from minikubelet.kubelet.server_config import ServerConfig
from tests.unit.kubelet_api.remote import LABELS, Ports
from tests.unit.kubelet_api.test_api import RUNNING, make_pod

EXEC = "/exec/default/web/app?command=sh&input=1&output=1&error=1&tty=0"
SPDY = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


class Node:
    """Ports before a streaming server that does what a test says."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.talk: Talk = echo
        self.answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nX-Mark: yes\r\n\r\n"
        self.heads: list[str] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answer.encode())
        with contextlib.suppress(ConnectionError):
            if " 101 " in self.answer:
                await self.talk(reader, writer)
        self.ended.set()
        writer.close()

    async def connect(
        self, path: str = EXEC, headers: str = SPDY, method: str = "POST", credentials: str | None = None
    ) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        """The head of the answer, and the connection."""
        port = self.ports.server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self.ports.trusting())
        who = self.ports.admin["Authorization"] if credentials is None else credentials
        lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {who}\r\n"
        writer.write(f"{lines}Content-Length: 0\r\n{headers}\r\n".encode())
        return (await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(Ports(tmp_path))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.ports.runtime.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/exec/token?x=1"
    made.ports.pods.update(make_pod(RUNNING))
    metadata = api.PodSandboxMetadata(name="web", namespace="default", uid="u1")
    sandbox = api.PodSandbox(id="s1", metadata=metadata, labels=LABELS, state=api.SANDBOX_READY)
    made.ports.cache.put_sandbox(sandbox_of(sandbox))
    await made.ports.api.start()
    yield made
    await made.ports.api.close()
    server.close()


async def test_bytes_pass_as_they_are(node: Node) -> None:
    head, reader, writer = await node.connect()
    assert head.startswith("HTTP/1.1 101 ") and "X-Mark: yes" in head
    blob = bytes(range(256)) * 4096
    writer.write(blob)
    assert await reader.readexactly(len(blob)) == blob
    (sent,) = node.heads
    assert sent.startswith("POST /exec/token?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "X-Stream-Protocol-Version: v4.channel.k8s.io" in sent
    assert "Bearer" not in sent  # who the client is, is nothing to the runtime
    writer.close()
    await asyncio.wait_for(node.ended.wait(), 5)
    (asked,) = node.ports.runtime.asked
    assert (asked.container_id, list(asked.cmd), asked.stdin, asked.stderr) == ("c1", ["sh"], True, True)


async def test_attach_and_port_forward_ask_for_theirs(node: Node) -> None:
    for path in ("/attach/default/web/app?input=1&output=1", "/attach/default/web/u1/app?output=1"):
        head, _, writer = await node.connect(path)
        assert " 101 " in head
        writer.close()
    tunnel = f"{WEBSOCKET}Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n"
    for path, headers, method in (
        ("/portForward/default/web?port=x", SPDY, "POST"),  # with SPDY each stream names its port
        ("/portForward/default/web/u1?port=80&port=81,82", WEBSOCKET, "GET"),
        ("/portForward/default/web", tunnel, "GET"),
    ):
        head, _, writer = await node.connect(path, headers, method)
        assert " 101 " in head
        writer.close()
    first, second, third, fourth, fifth = node.ports.runtime.asked
    assert (first.container_id, first.stdin, first.stdout) == ("c1", True, True)
    assert (second.stdin, second.stdout) == (False, True)
    assert (third.pod_sandbox_id, list(third.port)) == ("s1", [])
    assert list(fourth.port) == [80, 81, 82]
    assert (fifth.pod_sandbox_id, list(fifth.port)) == ("s1", [])
    assert node.ports.instruments.websockets.values == {("portforward",): 1.0}


async def test_the_runtimes_end_is_the_clients_end(node: Node) -> None:
    async def bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye" * 50_000)

    node.talk = bye
    _, reader, writer = await node.connect()
    assert await asyncio.wait_for(reader.read(-1), 10) == b"bye" * 50_000
    writer.close()


async def test_a_client_that_vanishes_ends_the_session(node: Node) -> None:
    _, _, writer = await node.connect()
    writer.transport.abort()
    await asyncio.wait_for(node.ended.wait(), 10)


async def test_silence_is_cut(node: Node) -> None:
    await node.ports.api.close()
    backend = dataclasses.replace(node.ports.backend, idle=0.3)
    server = RemoteApi(backend, node.ports.config, node.ports.instruments, ["127.0.0.1"])
    await server.start()
    _, reader, writer = await node.connect()
    for _ in range(5):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await asyncio.sleep(0.1)  # longer than `idle` in all: what is used isn't cut
    assert await asyncio.wait_for(reader.read(), 10) == b""
    await asyncio.wait_for(node.ended.wait(), 10)
    writer.close()
    await server.close()


async def test_a_refusal_of_the_runtime_is_passed_on(node: Node) -> None:
    node.answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nexpired"
    head, reader, writer = await node.connect()
    assert head.startswith("HTTP/1.1 404 ")
    assert await reader.readexactly(7) == b"expired"
    writer.close()
    for nonsense in ("hello\r\n\r\n", "HTTP/1.1 x y\r\n\r\n", "\r\n\r\n"):
        node.answer = nonsense
        head, _, writer = await node.connect()
        assert head.startswith("HTTP/1.1 503 "), nonsense
        writer.close()
    node.ports.runtime.url = "gopher://x"
    head, _, writer = await node.connect()
    assert head.startswith("HTTP/1.1 400 ")
    writer.close()


@pytest.mark.parametrize("headers", [SPDY, WEBSOCKET])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_strangers_reach_no_container(node: Node, headers: str, method: str) -> None:
    for path in (EXEC, EXEC.replace("/exec", "/attach"), "/portForward/default/web?port=80"):
        for credentials in ("", "Bearer ", "Bearer x", "Basic eDp5"):
            head, _, writer = await node.connect(path, headers, method, credentials)
            assert head.startswith("HTTP/1.1 401 "), (path, credentials)
            writer.close()
    assert node.ports.runtime.asked == []
    assert node.heads == []


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (EXEC, "", 400),
        (EXEC, "Connection: Upgrade\r\nUpgrade: h2c\r\n", 400),
        (EXEC, "Upgrade: SPDY/3.1\r\n", 400),
        (EXEC.replace("/app", "/nope"), "", 404),
        ("/exec/default/web/u2/app?command=ls", SPDY, 404),
        ("/exec/default/nope/app?command=ls", SPDY, 404),
        ("/exec/default/web/app", SPDY, 400),
        ("/portForward/default/web", WEBSOCKET, 400),
        ("/portForward/default/web?port=0", WEBSOCKET, 400),
        ("/portForward/default/web?port=65536", WEBSOCKET, 400),
        ("/portForward/default/web?port=x", WEBSOCKET, 400),
        ("/portForward/default/nope", SPDY, 404),
    ],
)
async def test_what_cannot_be(node: Node, path: str, headers: str, status: int) -> None:
    head, _, writer = await node.connect(path, headers)
    assert head.startswith(f"HTTP/1.1 {status} ")
    writer.close()
    assert node.heads == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"], ""),
        (["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"], ""),
        (["TLS_AES_128_GCM_SHA256"], "no cipher suite of TLS 1.2"),
        (["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_NONSENSE"], "'TLS_NONSENSE' is not"),
    ],
)
def test_cipher_suites(tmp_path: Path, names: list[str], words: str) -> None:
    server = ServerConfig(tls_cipher_suites=names)
    if words:
        with pytest.raises(NodeError, match=words):
            Certificates(server, str(tmp_path), "node", [])
        return
    context = Certificates(server, str(tmp_path), "node", []).context()
    chosen = {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"}
    assert len(chosen) == len([name for name in names if "WITH" in name or "ECDHE-" in name])

"""The HTTP API on its socket, over a fake runtime."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from minikubelet.base.errors import Code, NodeError, not_found
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.api.server import LocalApi
from minikubelet.kubelet.events import NORMAL, EventRecorder
from minikubelet.kubelet.objects import Container, ContainerStatus, ObjectMeta, Pod, PodSpec, PodStatus
from minikubelet.kubelet.objects.podstatus import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
)
from minikubelet.kubelet.sinks import MemorySink
from tests.unit.kubelet_api import remote

RECORD = "2026-01-02T03:04:05.123456789Z stdout F {}\n"


class Runtime(remote.Runtime):
    """A runtime with log files, and an exec whose streaming server is `url`."""

    def __init__(self, logs: Path) -> None:
        super().__init__()
        self.logs = logs

    async def container_status(self, container_id: str) -> api.ContainerStatus:
        path = self.logs / container_id
        if not path.exists():
            raise not_found("container", container_id)
        return api.ContainerStatus(id=container_id, log_path=str(path))


def make_pod(state: ContainerState, container_id: str = "mk://c1", last: ContainerState | None = None) -> Pod:
    status = ContainerStatus(
        name="app",
        state=state,
        last_state=last or ContainerState(),
        ready=True,
        restart_count=0,
        image="i",
        image_id="",
        container_id=container_id,
    )
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="web", namespace="default", uid="u1"),
        spec=PodSpec(containers=[Container(name="app", image="i")]),
        status=PodStatus(phase="Running", container_statuses=[status]),
    )


RUNNING = ContainerState(running=ContainerStateRunning(started_at="2026-01-02T03:04:05Z"))


def ended(container_id: str) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(exit_code=0, container_id=container_id))


class Api:
    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.session = session
        self.pods = MemorySink()
        self.events = EventRecorder("node")
        self.runtime = Runtime(folder)
        self.server = LocalApi(Backend(self.pods, self.events, self.runtime), str(folder / "kubelet.sock"))

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://local{path}") as response:
            return response.status, await response.text()


@pytest.fixture
async def running_api(tmp_path: Path) -> AsyncIterator[Api]:
    async with remote.local_session(tmp_path) as session:
        running = Api(tmp_path, session)
        await running.server.start()
        yield running
        await running.server.close()
    assert not (tmp_path / "kubelet.sock").exists()


async def test_socket_is_private_and_never_stolen(running_api: Api) -> None:
    path = running_api.folder / "kubelet.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = LocalApi(Backend(running_api.pods, running_api.events, running_api.runtime), str(path))
    with pytest.raises(NodeError, match="in use") as caught:
        await second.start()
    assert caught.value.code is Code.ALREADY_EXISTS
    assert await running_api.get("/healthz") == (200, "ok")


async def test_a_dead_socket_is_replaced_a_file_is_not(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "kubelet.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = LocalApi(Backend(MemorySink(), EventRecorder("n"), Runtime(tmp_path)), str(path))
    await server.start()
    await server.close()
    path.write_text("precious")
    server = LocalApi(Backend(MemorySink(), EventRecorder("n"), Runtime(tmp_path)), str(path))
    with pytest.raises(NodeError, match="not a socket"):
        await server.start()
    assert path.read_text() == "precious"


async def test_pods_are_a_v1_pod_list(running_api: Api) -> None:
    running_api.pods.update(make_pod(RUNNING))
    status, text = await running_api.get("/pods")
    body = json.loads(text)
    assert (status, body["kind"], body["apiVersion"]) == (200, "PodList", "v1")
    assert body["items"][0]["metadata"]["name"] == "web"
    assert body["items"][0]["status"]["containerStatuses"][0]["state"]["running"]


async def test_watching_pods_and_events(running_api: Api) -> None:
    running_api.pods.update(make_pod(RUNNING))
    async with running_api.session.get("http://local/pods?watch=1") as pods:
        first = json.loads(await pods.content.readline())
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "web")
        running_api.pods.remove(make_pod(RUNNING))
        assert json.loads(await pods.content.readline())["type"] == "DELETED"
    pod = make_pod(RUNNING)
    running_api.events.pod(pod, NORMAL, "Past", "is past")
    async with running_api.session.get("http://local/events?watch=1&history=0&uid=u1") as events:
        running_api.events.node(NORMAL, "Other", "not this pod")
        for _ in range(2):
            running_api.events.pod(pod, NORMAL, "Pulled", "now")
        lines = [json.loads(await events.content.readline()) for _ in range(2)]
    assert [(line["type"], line["object"]["reason"]) for line in lines] == [
        ("ADDED", "Pulled"),
        ("MODIFIED", "Pulled"),
    ]
    reasons = [event["reason"] for event in json.loads((await running_api.get("/events?uid=u1"))[1])["items"]]
    assert reasons == ["Past", "Pulled"]


LOGS = "/containerLogs/default/web/app"


async def test_logs(running_api: Api) -> None:
    running_api.pods.update(make_pod(RUNNING, last=ended("mk://c0")))
    (running_api.folder / "c1").write_text("".join(RECORD.format(n) for n in range(5)))
    (running_api.folder / "c0").write_text(RECORD.format("before"))
    assert await running_api.get(LOGS) == (200, "0\n1\n2\n3\n4\n")
    assert await running_api.get(f"{LOGS}?tailLines=2") == (200, "3\n4\n")
    assert await running_api.get(f"{LOGS}?previous=true") == (200, "before\n")
    assert await running_api.get(f"{LOGS}?limitBytes=3") == (200, "0\n1")
    assert await running_api.get(f"{LOGS}?sinceSeconds=5") == (200, "")
    stamped = await running_api.get(f"{LOGS}?timestamps=1&tailLines=1")
    assert stamped == (200, "2026-01-02T03:04:05.123456789Z 4\n")
    assert await running_api.get(f"{LOGS}?timestamps&tail=1&tailLines=3") == stamped
    assert await running_api.get(f"{LOGS}?timestamps=maybe&tailLines=1") == stamped
    assert await running_api.get(f"{LOGS}?timestamps=False&previous=0&tail=all&tailLines=1") == (
        200,
        "0\n1\n2\n3\n4\n",
    )
    assert await running_api.get(f"{LOGS}/?limitBytes=2") == (200, "0\n")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/containerLogs/default/nope/app", 404, 'pod "nope" does not exist'),
        ("/containerLogs/other/web/app", 404, 'pod "web" does not exist'),
        ("/containerLogs/default/web/nope", 404, 'container "nope" not found in pod "web"'),
        (f"{LOGS}?previous=1", 400, 'previous terminated container "app" in pod "web" not found'),
        (f"{LOGS}?tailLines=-1", 422, "tailLines: -1 is less than 0"),
        (f"{LOGS}?tail=x", 400, "tail: 'x' is not a whole number"),
        (f"{LOGS}?tailLines=x", 400, "tailLines"),
        (f"{LOGS}?stream=Stdin", 422, "stream"),
        (LOGS, 404, "container 'c1' not found"),
        ("/containerLogs/default/web", 404, "404: Page Not Found"),
        ("/nope", 404, "404 page not found\n"),
        ("/healthz/nope", 404, "404 page not found\n"),
        ("/exec/default/web/app?command=ls", 400, "Upgrade request required"),
        ("/exec/default/nope/app?command=ls", 404, 'pod "nope" does not exist'),
    ],
)
async def test_errors(running_api: Api, path: str, status: int, words: str) -> None:
    running_api.pods.update(make_pod(RUNNING))
    found, text = await running_api.get(path)
    assert (found, words in text) == (status, True), text


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//pods?watch=0", "/pods?watch=0"),
        ("/a/.././pods", "/pods"),
        ("/../../etc/passwd", "/etc/passwd"),
        ("/pods//", "/pods/"),
        ("/%2e%2e/pods", ""),
    ],
)
async def test_paths_that_are_not_clean(running_api: Api, path: str, location: str) -> None:
    reader, writer = await asyncio.open_unix_connection(str(running_api.folder / "kubelet.sock"))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: local\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    assert head.startswith("HTTP/1.1 307 " if location else "HTTP/1.1 404 "), head
    assert (f"\r\nLocation: {location}\r\n" in head) == bool(location), head
    assert "\r\nX-Content-Type-Options: nosniff\r\n" in head
    assert "\r\nServer:" not in head, "nobody needs to know"


async def test_only_get(running_api: Api) -> None:
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        async with running_api.session.request(method, "http://local/pods") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET")


async def test_logs_of_a_container_that_waits(running_api: Api) -> None:
    waiting = ContainerState(waiting=ContainerStateWaiting(reason="ImagePullBackOff"))
    running_api.pods.update(make_pod(waiting, ""))
    status, text = await running_api.get(LOGS)
    expected = 'container "app" in pod "web" is waiting to start: trying and failing to pull image'
    assert (status, text) == (400, expected)


async def test_following_logs_ends_with_the_container(running_api: Api) -> None:
    running_api.pods.update(make_pod(RUNNING))
    path = running_api.folder / "c1"
    path.write_text("")
    async with running_api.session.get(f"http://local{LOGS}?follow=1") as response:
        assert response.status == 200
        with path.open("a") as file:
            file.write(RECORD.format("hello"))
        assert await response.content.readline() == b"hello\n"
        with path.open("a") as file:
            file.write(RECORD.format("bye"))
        running_api.pods.update(make_pod(ended("mk://c1")))
        assert await response.content.read() == b"bye\n"


async def test_a_follower_that_leaves_frees_everything(running_api: Api) -> None:
    running_api.pods.update(make_pod(RUNNING))
    (running_api.folder / "c1").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with running_api.session.get(f"http://local{LOGS}?follow=1") as response:
            assert response.status == 200
    async with asyncio.timeout(5):
        while len(os.listdir("/proc/self/fd")) > before + 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Streaming:
    """A runtime's streaming server: greets, echoes stdin, ends with a status when stdin is `exit`."""

    def __init__(self, protocols: tuple[str, ...]) -> None:
        self.protocols = protocols
        self.ended = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=self.protocols)
        await socket.prepare(request)
        await socket.send_bytes(b"\x01hello")
        async for message in socket:
            if message.data == b"\x00exit":
                await socket.send_bytes(b'\x03{"status":"Success"}')
                break
            await socket.send_bytes(b"\x01" + message.data[1:])
        self.ended.set()
        await socket.close()
        return socket


@pytest.fixture
async def streaming(running_api: Api) -> AsyncIterator[Streaming]:
    server = Streaming(("v4.channel.k8s.io",))
    app = web.Application()
    app.router.add_get("/exec/token", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    running_api.runtime.url = f"http://127.0.0.1:{runner.addresses[0][1]}/exec/token"
    running_api.pods.update(make_pod(RUNNING))
    yield server
    await runner.cleanup()


EXEC = "http://local/exec/default/web/app?command=sh&command=-c&command=x&stdin=1&tty=1"
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


async def test_exec_passes_messages_both_ways(running_api: Api, streaming: Streaming) -> None:
    async with running_api.session.ws_connect(EXEC, protocols=PROTOCOLS) as client:
        assert client.protocol == "v4.channel.k8s.io"  # what the runtime speaks
        assert await client.receive_bytes(timeout=5) == b"\x01hello"
        await client.send_bytes(b"\x00ping")
        assert await client.receive_bytes(timeout=5) == b"\x01ping"
        await client.send_bytes(b"\x00exit")
        assert await client.receive_bytes(timeout=5) == b'\x03{"status":"Success"}'
        assert (await client.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    asked = running_api.runtime.asked[0]
    assert (asked.container_id, list(asked.cmd)) == ("c1", ["sh", "-c", "x"])
    assert (asked.tty, asked.stdin, asked.stdout, asked.stderr) == (True, True, True, False)


async def test_a_command_may_be_a_long_script(running_api: Api, streaming: Streaming) -> None:
    script = "x" * 1_000_000
    url = f"http://local/exec/default/web/app?command=sh&command=-c&command={script}"
    async with running_api.session.ws_connect(url, protocols=PROTOCOLS) as client:
        await client.receive_bytes(timeout=5)
    assert list(running_api.runtime.asked[0].cmd) == ["sh", "-c", script]


async def test_exec_ends_when_the_client_leaves(running_api: Api, streaming: Streaming) -> None:
    async with running_api.session.ws_connect(EXEC, protocols=PROTOCOLS) as client:
        await client.receive_bytes(timeout=5)
    await asyncio.wait_for(streaming.ended.wait(), 5)


@pytest.mark.parametrize(
    ("path", "protocols", "status"),
    [
        ("/exec/default/web/app?stdin=1", PROTOCOLS, 400),
        ("/exec/default/web/nope?command=ls", PROTOCOLS, 404),
        ("/exec/default/web/app?command=ls&stdout=0", PROTOCOLS, 400),
    ],
)
async def test_exec_refuses(
    running_api: Api, streaming: Streaming, path: str, protocols: tuple[str, ...], status: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await running_api.session.ws_connect(f"http://local{path}", protocols=protocols)
    assert caught.value.status == status
    assert running_api.runtime.asked == []


async def test_exec_says_when_the_runtime_cannot_be_reached(running_api: Api) -> None:
    running_api.pods.update(make_pod(RUNNING))
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await running_api.session.ws_connect(EXEC, protocols=PROTOCOLS)
    assert caught.value.status == 503

"""Adding an ephemeral container through the local socket, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.api.app import make_app, make_read_only_app
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.api.ephemeral import MAX_BYTES
from minikubelet.kubelet.api.server import LocalApi
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.objects import Container, ObjectMeta, Pod, PodSpec
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.sinks import MemorySink
from tests.unit.kubelet_api import remote

PATH = "http://local/ephemeralContainers/default/web"


class Api:
    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.added: list[tuple[str, EphemeralContainer]] = []
        pods = MemorySink()
        pods.update(
            Pod(
                metadata=ObjectMeta(name="web", namespace="default", uid="u1"),
                spec=PodSpec(containers=[Container(name="app", image="i")]),
            )
        )
        self.backend = Backend(pods, EventRecorder("node"), remote.Runtime(), add_ephemeral=self._add)
        self.server = LocalApi(self.backend, str(folder / "kubelet.sock"))

    def _add(self, uid: str, container: EphemeralContainer) -> None:
        if container.name == "bad":
            raise NodeError(Code.INVALID_ARGUMENT, "spec.ephemeralContainers[0].name: no")
        self.added.append((uid, container))

    async def post(self, body: bytes, path: str = PATH) -> tuple[int, str]:
        async with self.session.post(path, data=body) as response:
            return response.status, await response.text()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Api]:
    async with remote.local_session(tmp_path) as session:
        made = Api(tmp_path, session)
        await made.server.start()
        yield made
        await made.server.close()


async def test_the_container_reaches_the_kubelet(running: Api) -> None:
    body = {"name": "d", "image": "busybox", "command": ["x" * 5000], "targetContainerName": "app"}
    assert await running.post(json.dumps({**body, "stdin": None}).encode()) == (201, "d\n")
    ((uid, container),) = running.added
    assert uid == "u1" and container.target_container_name == "app" and container.command == ["x" * 5000]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{"name":"bad","image":"i"}', 400, "spec.ephemeralContainers[0].name: no"),
        (b"", 400, "not valid JSON"),
        (b"[]", 400, "expected a mapping"),
        (b'{"name":"d","imagee":"i"}', 400, "imagee: unknown field"),
        (b'{"name":"d","image":7}', 400, "image: expected a string, got a whole number"),
        (b'{"name":"d","args":["a\\u0000b"]}', 400, "args[0]: holds a NUL"),
        (b'{"name":"d","name":"e"}', 400, "appears twice"),
        (b"[" * 100000, 400, ""),
        (b" " * (MAX_BYTES + 1), 400, "larger than"),
    ],
)
async def test_what_is_wrong_is_named(running: Api, body: bytes, code: int, words: str) -> None:
    status, text = await running.post(body)
    assert status == code and words in text and running.added == []


async def test_a_pod_that_is_not_there(running: Api) -> None:
    path = "http://local/ephemeralContainers/default/other"
    status, text = await running.post(b'{"name":"d","image":"i"}', path)
    assert status == 404 and "other" in text


async def test_it_is_not_offered_on_the_network(running: Api) -> None:
    for app in (make_app(running.backend), make_read_only_app(running.backend)):
        paths = [resource.canonical for resource in app.router.resources()]
        assert not any("ephemeral" in path for path in paths)
    local = make_app(running.backend, local=True)
    assert any("ephemeral" in resource.canonical for resource in local.router.resources())

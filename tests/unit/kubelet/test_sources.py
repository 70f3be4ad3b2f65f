"""Manifests from a URL, from several sources at once, and from very many files."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from minikubelet.base.errors import NodeError
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.static import CONFIG_SOURCE
from minikubelet.kubelet.manifests.yaml_reader import MAX_BYTES
from minikubelet.kubelet.object_store import ObjectStore
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.sources import PodSource, is_complete
from minikubelet.kubelet.sources.configured import make_source
from minikubelet.kubelet.sources.folder import FolderSource
from minikubelet.kubelet.sources.merged import MergedSource
from minikubelet.kubelet.sources.url import UrlSource
from tests.unit.kubelet.harness import Harness, ListSource, make_pod
from tests.unit.kubelet.test_folder_source import manifest


class Server:
    """Answers with what a test puts into it."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes | str = manifest("a")
        self.location = ""
        self.asked: list[web.Request] = []
        self.served = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.served.set()
        if self.location and request.path != "/moved":
            return web.Response(status=302, headers={"Location": self.location})
        body = self.body if isinstance(self.body, bytes) else self.body.encode()
        return web.Response(status=self.status, body=body)

    async def polled(self, times: int = 2) -> None:
        """Wait until the source has asked again, and has made something of the answers before."""
        for _ in range(times):
            self.served.clear()
            await asyncio.wait_for(self.served.wait(), 5)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    made = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class Reader:
    """A source being read in the background; the latest pods, and every problem."""

    def __init__(self, source: PodSource, problems: list[str]) -> None:
        self.problems = problems
        self.updates: list[list[str]] = []
        self.pods: list[Pod] = []
        self.source = source
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for pods in self.source.watch():
            self.pods = pods
            self.updates.append([f"{p.metadata.name}:{p.spec.containers[0].image}" for p in pods])

    async def until(self, *names: str) -> None:
        for _ in range(500):
            if self.updates and self.updates[-1] == list(names):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{names} never came: {self.updates} {self.problems}")

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def reading_url(url: str, headers: dict[str, list[str]] | None = None) -> AsyncIterator[Reader]:
    problems: list[str] = []

    def report(problem: ManifestError, level: str) -> None:
        problems.append(f"{level}: {problem}")

    reader = Reader(UrlSource(url, headers or {}, 0.02, "node", report), problems)
    try:
        yield reader
    finally:
        await reader.close()


async def test_a_pod_then_a_list_of_pods(server: tuple[Server, str]) -> None:
    serving, url = server
    async with reading_url(
        f"{url}/pods?key=secret", {"X-Key": ["k1", "k2"], "Metadata-Flavor": ["G"]}
    ) as reader:
        await reader.until("a-node:app:1")
        assert reader.pods[0].metadata.annotations[CONFIG_SOURCE] == "http"
        request = serving.asked[0]
        assert request.headers.getall("X-Key") == ["k1", "k2"]
        assert request.headers["Metadata-Flavor"] == "G"
        assert request.query["key"] == "secret"
        uid = reader.pods[0].uid
        await serving.polled()
        assert len(reader.updates) == 1  # the same answer is no change
        spec = {"containers": [{"name": "app", "image": "app:1"}]}
        items = [{"metadata": {"name": name}, "spec": spec} for name in ("a", "b")]
        serving.body = json.dumps({"apiVersion": "v1", "kind": "PodList", "items": items})
        await reader.until("a-node:app:1", "b-node:app:1")
        serving.body = json.dumps({"apiVersion": "v1", "kind": "PodList", "items": items[:1]})
        await reader.until("a-node:app:1")
        assert reader.pods[0].uid == uid
        serving.body = json.dumps({"apiVersion": "v1", "kind": "PodList", "items": []})
        await reader.until()  # a list of nothing is an answer
        assert reader.problems == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, "oops", "answers with 500"),
        (404, manifest("b"), "answers with 404"),
        (200, "", "answers with nothing"),
        (200, "{", "not valid JSON"),
        (200, "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {container: []}\n", "unknown field"),
        (200, manifest("B_"), "metadata.name"),
        (200, manifest("b") + "---\n" + manifest("b"), "defined twice"),
        (200, b"#" * (MAX_BYTES + 1), "larger than"),
        (200, b"\xff\xfe\x00", "not valid"),
    ],
)
async def test_what_was_good_last_stays(
    server: tuple[Server, str], status: int, body: bytes | str, words: str
) -> None:
    serving, url = server
    async with reading_url(f"{url}/x?token=secret") as reader:
        await reader.until("a-node:app:1")
        serving.status, serving.body = status, body
        await serving.polled(3)
        assert len(reader.updates) == 1
        assert len(reader.problems) == 1, reader.problems  # told once, however often it is met
        assert words in reader.problems[0]
        assert "secret" not in reader.problems[0]
        serving.status, serving.body = 200, manifest("c")
        await reader.until("c-node:app:1")


async def test_a_server_that_is_away() -> None:
    async with reading_url("http://user:pass@127.0.0.1:1/x") as reader:
        for _ in range(200):
            if reader.problems:
                break
            await asyncio.sleep(0.02)
        assert reader.updates == []
        (problem,) = reader.problems
        assert problem.startswith("error: http://127.0.0.1:1/x: can't be read")


async def test_redirects_stay_on_the_server(server: tuple[Server, str]) -> None:
    serving, url = server
    serving.location = "/moved"
    async with reading_url(f"{url}/x", {"X-Key": ["k"]}) as reader:
        await reader.until("a-node:app:1")
        assert [request.path for request in serving.asked[:2]] == ["/x", "/moved"]
    serving.location = "http://127.0.0.2:9/moved"
    async with reading_url(f"{url}/x") as reader:
        await serving.polled(3)
        assert reader.problems == [f"error: {url}/x: redirects to another server"]
    serving.location = "/again"
    async with reading_url(f"{url}/x") as reader:
        await serving.polled(15)
        assert reader.problems == [f"error: {url}/x: redirects more than 5 times"]


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "nonsense", "http://[::1/x"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(NodeError, match="staticPodURL"):
        UrlSource(url, {}, 1, "node", lambda problem, level: None)


async def test_no_source_waits_for_another_and_the_first_wins() -> None:
    problems: list[str] = []
    one, two = ListSource(), ListSource()
    merged = MergedSource([one, two], lambda problem, level: problems.append(str(problem)))
    reader = Reader(merged, problems)
    two.set(make_pod("b"), make_pod("c"))
    await reader.until("b-node:example.org/app:1", "c-node:example.org/app:1")
    assert not is_complete(merged)
    other = make_pod("b")
    other.spec.containers[0].image = "other"
    one.set(other)
    await reader.until("b-node:other", "c-node:example.org/app:1")
    assert is_complete(merged)
    assert problems == ["pod default/b-node comes from two sources; the first one counts"]
    one.set()
    await reader.until("b-node:example.org/app:1", "c-node:example.org/app:1")
    await reader.close()


async def test_a_source_that_dies_is_not_hidden() -> None:
    class Dying:
        async def watch(self) -> AsyncIterator[list[Pod]]:
            yield []
            raise RuntimeError("gone")

    merged = MergedSource([ListSource(), Dying()], lambda problem, level: None)
    with pytest.raises(RuntimeError, match="gone"):
        async for _ in merged.watch():
            pass


async def test_pods_of_a_source_that_is_away_are_left_alone(harness: Harness) -> None:
    """A kubelet that comes back while its URL doesn't answer must not take that URL's pods for orphans."""
    async with harness.running():
        harness.source.set(make_pod("web"), make_pod("url"))
        await harness.until(lambda: harness.pod("web").status.phase == "Running")
        await harness.until(lambda: harness.pod("url").status.phase == "Running")
    one, two = ListSource(), ListSource()
    merged = MergedSource([one, two], lambda problem, level: None)
    async with harness.running(merged) as kubelet:
        one.set(make_pod("web"))
        await harness.until(lambda: harness.pod("web").status.phase == "Running")
        await harness.settle()
        assert len([s for s in harness.cri.sandboxes.values() if s.status.state == 0]) == 2
        two.set()
        await harness.until(lambda: len(harness.cri.sandboxes) == 1)
        await harness.until(lambda: [pod.metadata.name for pod in kubelet.pods()] == ["web-node"])


async def test_the_settings_name_the_sources(server: tuple[Server, str], tmp_path: Path) -> None:
    _, url = server
    file = tmp_path / "one.yaml"
    file.write_text(manifest("file"))
    config = KubeletConfig(manifests=str(file), node_name="node", static_pod_url=f"{url}/x")
    reader = Reader(make_source(config, lambda problem, level: None, ObjectStore()), [])
    await reader.until("file-node:app:1", "a-node:app:1")
    file.unlink()
    await reader.until("a-node:app:1")
    await reader.close()


async def test_ten_thousand_files_and_one_that_is_broken(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05}.yaml").write_text(
            manifest(f"p{number}") if number % 10 == 0 else "# nothing\n"
        )
    (tmp_path / "05000.yaml").write_text("{")
    problems: list[str] = []

    def report(problem: ManifestError, level: str) -> None:
        problems.append(str(problem))

    source = FolderSource(str(tmp_path), "node", report)
    updates = source.watch()
    pods = await asyncio.wait_for(anext(updates), 120)
    assert len(pods) == 999
    assert len([each for each in problems if "holds no pod" in each]) == 9000
    assert len([each for each in problems if "05000.yaml" in each]) == 1
    (tmp_path / "05001.yaml").write_text(manifest("late"))
    pods = await asyncio.wait_for(anext(updates), 120)
    assert len(pods) == 1000
    assert len(problems) == 9001  # nothing is told twice
    await updates.aclose()  # type: ignore[attr-defined]


async def test_a_folder_is_looked_at_even_if_nobody_tells(tmp_path: Path) -> None:
    """inotify(7) says nothing of changes to what a link leads to."""
    elsewhere, folder = tmp_path / "elsewhere.yaml", tmp_path / "manifests"
    folder.mkdir()
    elsewhere.write_text(manifest("a"))
    (folder / "a.yaml").symlink_to(elsewhere)
    source = FolderSource(str(folder), "node", lambda problem, level: None, period=0.1)
    reader = Reader(source, [])
    await reader.until("a-node:app:1")
    elsewhere.write_text(manifest("a", "app:2"))
    await reader.until("a-node:app:2")
    await reader.close()


async def test_a_pod_goes_with_what_the_link_leads_to(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere.yaml", tmp_path / "manifests"
    folder.mkdir()
    elsewhere.write_text(manifest("a"))
    (folder / "a.yaml").symlink_to(elsewhere)
    (folder / "b.yaml").write_text(manifest("b"))
    said: list[str] = []
    source = FolderSource(str(folder), "node", lambda problem, level: said.append(str(problem)), period=0.05)
    reader = Reader(source, [])
    await reader.until("a-node:app:1", "b-node:app:1")
    elsewhere.unlink()
    await reader.until("b-node:app:1")
    elsewhere.write_text(manifest("a"))
    await reader.until("a-node:app:1", "b-node:app:1")
    await reader.close()
    assert said == [f"{folder}/a.yaml: a link that leads nowhere"]

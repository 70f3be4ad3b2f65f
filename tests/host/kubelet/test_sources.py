"""Pods from a URL over real runtimes, through outages of the server and restarts of the kubelet."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.kubelet.runtimes import IMAGE
from tests.host.kubelet.test_pods import Node


class Server(http.server.ThreadingHTTPServer):
    """Serves ``pods`` as a PodList to whoever knows the key; ``broken`` answers everybody with 500."""

    daemon_threads = True
    pods: tuple[str, ...] = ()
    broken = False

    def body(self) -> bytes:
        app = {"name": "app", "image": IMAGE, "command": ["sleep", "1000"]}
        spec = {"containers": [app], "terminationGracePeriodSeconds": 0}
        items = [{"metadata": {"name": name}, "spec": spec} for name in self.pods]
        return json.dumps({"apiVersion": "v1", "kind": "PodList", "items": items}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        knows = self.headers.get_all("X-Key") == ["k1", "k2"]
        self.send_response(500 if self.server.broken else 200 if knows else 403)
        self.end_headers()
        self.wfile.write(b"oops" if self.server.broken else self.server.body())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


async def test_pods_from_a_url(endpoint: str, home: Path, server: Server) -> None:
    folder = home / f"url-{server.server_port}"
    folder.mkdir()
    node = Node(endpoint, folder)
    node.config.static_pod_url = f"http://127.0.0.1:{server.server_port}/pods"
    node.config.static_pod_url_header = {"X-Key": ["k1", "k2"]}
    node.config.http_check_frequency = 0.2
    node.write("file", "containers: [{name: app, image: IMAGE, command: [sleep, '1000']}]\n")
    server.pods = ("one", "two")
    async with node.running(stop_pods=False):
        for name in ("file", "one", "two"):
            await node.until(lambda name=name: node.container(name).ready)  # type: ignore[misc]
        assert node.pod("one").metadata.annotations["kubernetes.io/config.source"] == "http"
        before = {name: node.container(name).container_id for name in ("file", "one", "two")}
    server.broken = True
    async with node.running():
        # The file's pod goes on at once; what the URL had asked for waits for it, and is nobody's orphan.
        await node.until(lambda: node.container("file").ready)
        await node.until(lambda: any("answers with 500" in event.message for event in node.kubelet.events()))
        server.broken = False
        for name in ("file", "one", "two"):
            await node.until(lambda name=name: node.container(name).ready)  # type: ignore[misc]
        assert {name: node.container(name).container_id for name in before} == before
        server.pods = ("two",)
        await node.until(
            lambda: {pod.metadata.name for pod in node.kubelet.pods()} == {"file-host", "two-host"}
        )
        server.pods = ()
        await node.until(lambda: {pod.metadata.name for pod in node.kubelet.pods()} == {"file-host"})
        assert node.container("file").container_id == before["file"]

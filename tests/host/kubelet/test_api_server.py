"""The kubelet's port over real runtimes: exec, attach, port-forward as kubectl does them, logs, metrics."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikubelet.kubelet.server_config import ServerConfig
from tests.host.kubelet.api_client import KubeletClient, ports_prefix
from tests.host.kubelet.test_pods import Node
from tests.host.node import wait_for
from tests.ports import free_port
from tests.promtool import complaints, promtool

POD = """
    terminationGracePeriodSeconds: 1
    containers:
    - name: app
      image: IMAGE
      command:
      - sh
      - -c
      - |
        echo started >&2
        mkdir /www && echo served > /www/index.html && httpd -p 8080 -h /www
        while read line; do echo "got $line"; done
        sleep 1000
      stdin: true
      startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 60}
      livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 20}
"""


def is_open(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port)).close()
    return True


@pytest.fixture
async def node(endpoint: str, home: Path, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    folder = home / f"api-{abs(hash(request.node.nodeid)) % 10**8}"
    folder.mkdir()
    made = Node(endpoint, folder)
    port = free_port()
    made.config.server = ServerConfig(address="127.0.0.1", port=port)
    made.write("web", POD)
    async with made.running():
        await made.until(lambda: made.container("web").started and made.log("web") == "started")
        await made.until(lambda: is_open(port))
        yield made


@pytest.fixture
def client(node: Node) -> KubeletClient:
    return KubeletClient(Path(node.config.root), node.config.server.port)


def runtime_name(node: Node) -> str:
    return node.kubelet._node.runtime_name if node.kubelet._node else ""


async def test_exec_over_spdy_and_websocket(node: Node, client: KubeletClient) -> None:
    query = "command=sh&command=-c&command=cat;echo+oops+>%262;exit+3&input=1&output=1&error=1"
    uid = node.pod("web").uid

    def over_spdy(path: str) -> tuple[bytes, bytes, dict[str, object]]:
        with client.spdy(path, "v4.channel.k8s.io") as stream:
            error = stream.open(streamtype="error")
            stdin, stdout, stderr = (stream.open(streamtype=name) for name in ("stdin", "stdout", "stderr"))
            stream.put(stdin, b"hello", fin=True)
            found = stream.outcome()
            return found[stdout], found[stderr], json.loads(found[error])

    def over_websocket(path: str) -> tuple[bytes, bytes, dict[str, object]]:
        with client.websocket(path, "v5.channel.k8s.io") as sockets:
            sockets.socket.sendall(sockets.frame(0, b"hello"))
            sockets.finish(0)
            found = sockets.outcome()
            return found[1], found[2], json.loads(found[3])

    expected_status = {"reason": "ExitCode", "message": "3"}
    for path in (f"/exec/default/web-host/app?{query}", f"/exec/default/web-host/{uid}/app?{query}"):
        stdout, stderr, status = await asyncio.to_thread(over_spdy, path)
        assert (stdout, stderr) == (b"hello", b"oops\n")
        assert status["details"] == {"causes": [expected_status]}
    if runtime_name(node) != "containerd":  # it doesn't know v5
        stdout, stderr, status = await asyncio.to_thread(over_websocket, path)
        assert (stdout, stderr) == (b"hello", b"oops\n")
        assert status["details"] == {"causes": [expected_status]}


async def test_attach(node: Node, client: KubeletClient) -> None:
    def attach() -> bytes:
        with client.spdy(
            "/attach/default/web-host/app?input=1&output=1&error=1", "v4.channel.k8s.io"
        ) as stream:
            stream.open(streamtype="error")
            stdin, stdout, _ = (stream.open(streamtype=name) for name in ("stdin", "stdout", "stderr"))
            stream.put(stdin, b"ping\n")
            found = b""

            class Enough(Exception):
                pass

            def take(number: int, data: memoryview) -> None:
                nonlocal found
                found += bytes(data) if number == stdout else b""
                if b"\n" in found:
                    raise Enough

            try:
                stream.receive(take)
            except Enough:
                pass
            return found

    assert await asyncio.to_thread(attach) == b"got ping\n"


async def test_port_forward_over_spdy_and_websocket(node: Node, client: KubeletClient) -> None:
    request = b"GET /index.html HTTP/1.0\r\n\r\n"

    def over_spdy() -> bytes:
        with client.spdy("/portForward/default/web-host", "portforward.k8s.io") as stream:
            error = stream.open(streamtype="error", port="8080", requestid="0")
            stream.finish(error)
            data = stream.open(streamtype="data", port="8080", requestid="0")
            stream.put(data, request, fin=True)
            found = stream.outcome()
            assert found.get(error, b"") == b""
            return found[data]

    answer = await asyncio.to_thread(over_spdy)
    assert answer.startswith(b"HTTP/1.") and answer.endswith(b"served\n")

    def over_websocket() -> bytes:
        path = "/portForward/default/web-host?port=8080"
        with client.websocket(path, "v4.channel.k8s.io") as sockets:
            sockets.socket.sendall(sockets.frame(0, request))
            found = b""

            class Enough(Exception):
                pass

            def take(channel: int, data: memoryview) -> None:
                nonlocal found
                found += bytes(data) if channel == 0 else b""
                if found.endswith(b"served\n"):
                    raise Enough

            try:
                sockets.receive(take)
            except Enough:
                pass
            return found

    if runtime_name(node) != "containerd":  # it wants SPDY inside the WebSocket
        answer = await asyncio.to_thread(over_websocket)
        assert answer.startswith(ports_prefix(8080) + b"HTTP/1.")


async def test_pods_logs_and_run(node: Node, client: KubeletClient) -> None:
    def look() -> None:
        pods = client.json("/pods")
        assert [each["metadata"]["name"] for each in pods["items"]] == ["web-host"]
        (running,) = [
            each for each in client.json("/runningpods/")["items"] if each["metadata"]["name"] == "web-host"
        ]
        assert [each["name"] for each in running["spec"]["containers"]] == ["app"]
        path = "/containerLogs/default/web-host/app"
        assert client.request(f"{path}?stream=Stderr") == (200, "started\n")
        assert client.request(f"{path}?stream=Stdout") == (200, "")
        assert client.request(f"{path}?limitBytes=3") == (200, "sta")
        assert client.request(f"{path}?sinceTime=2100-01-01T00:00:00Z") == (200, "")
        assert client.request("/run/default/web-host/app?cmd=echo%20hi", "POST") == (200, "hi\n")
        status, body = client.request("/checkpoint/default/web-host/app", "POST")
        if status == 200:  # containerd, where there is criu
            (archive,) = json.loads(body)["items"]
            assert Path(archive).stat().st_size > 0
        else:
            assert status in (500, 501) and "checkpointing of default/web-host/app failed" in body

    await asyncio.to_thread(look)


async def test_statistics_and_metrics(node: Node, client: KubeletClient) -> None:
    program = promtool()

    def look() -> None:
        (pod,) = [
            each for each in client.json("/stats/summary")["pods"] if each["podRef"]["name"] == "web-host"
        ]
        (container,) = pod["containers"]
        assert container["name"] == "app"
        assert container["cpu"]["usageCoreNanoSeconds"] > 0
        assert pod["network"]["name"] == "eth0" and pod["network"]["rxBytes"] > 0
        texts = {}
        for path in ("/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes"):
            status, texts[path] = client.request(path)
            assert status == 200, (path, texts[path])
            if program is not None:
                assert complaints(program, texts[path]) == "", path
        where = r'\{(?=[^}]*container="app")(?=[^}]*pod="web-host")[^}]*\}'
        for path in ("/metrics/cadvisor", "/metrics/resource"):
            name = "container_cpu_usage_seconds_total"
            assert re.search(rf"^{name}{where} \d", texts[path], re.M), texts[path]
        assert re.search(r"^kubelet_running_pods [1-9]", texts["/metrics"], re.M)
        assert re.search(r"^kubelet_pod_start_duration_seconds_count 1", texts["/metrics"], re.M)
        assert (
            'probe_type="Liveness",result="successful",container="app",pod="web-host"'
            in texts["/metrics/probes"]
        )

    def measured() -> bool:
        """What is counted by the second, and so may be missing at first."""
        (pod,) = [p for p in client.json("/stats/summary")["pods"] if p["podRef"]["name"] == "web-host"]
        patterns = {
            "/metrics": r"^kubelet_running_pods [1-9]",
            "/metrics/probes": 'Liveness",result="successful"',
        }
        told = all(re.search(each, client.request(path)[1], re.M) for path, each in patterns.items())
        return told and bool(pod.get("containers")) and pod.get("network", {}).get("rxBytes", 0) > 0

    await asyncio.to_thread(wait_for, "all is measured", measured)
    await asyncio.to_thread(look)

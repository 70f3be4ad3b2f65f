"""The upstream kubelet's HTTP API in front of our runtime: streams, logs, statistics, metrics."""

from __future__ import annotations

import gzip
import hashlib
import re
import urllib.error
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.host.node import wait_for
from tests.streaming_client import Client, SpdyClient, WebSocketClient, open_exec, open_forward
from tests.upstream.site import Site

LARGEST = 20 << 10
SETTINGS = {"containerLogMaxSize": str(LARGEST), "containerLogMonitorInterval": "3s"}
"""Of this module's kubelet."""

SLEEP = "containers: [{name: app, image: BUSYBOX, command: [sleep, '1000']}]"
PROTOCOLS = ("spdy v4", "websocket v4", "websocket v5")


def connect(url: str, protocol: str, *, forward: bool = False) -> Client:
    kind, _, version = protocol.partition(" ")
    if kind == "spdy":
        return SpdyClient(url, "portforward.k8s.io" if forward else f"{version}.channel.k8s.io")
    return WebSocketClient(url, f"{version}.channel.k8s.io")


def stream_url(site: Site, verb: str, pod: str, container: str, *command: str) -> str:
    query = [("input", "1"), ("output", "1"), *(("command", each) for each in command)]
    return f"{site.kubelet.url}/{verb}/default/{pod}-host/{container}?{urlencode(query)}"


def talk(client: Client, stdin: int, data: bytes) -> dict[int, bytes]:
    """Send, half-close where that can be, and collect what comes until the session ends."""
    received: dict[int, bytearray] = defaultdict(bytearray)
    client.send(client.framed(stdin, data))
    if client.half_closes:
        client.finish(stdin)
    client.receive(lambda stream, piece: received[stream].extend(piece))
    return {stream: bytes(piece) for stream, piece in received.items()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exec(site: Site, protocol: str) -> None:
    site.ready("exec", SLEEP)
    script = "read line; echo got $line; exit 3"
    with connect(stream_url(site, "exec", "exec", "app", "sh", "-c", script), protocol) as client:
        stdin, stdout = open_exec(client)
        received = talk(client, stdin, b"this\n")
    assert received[stdout] == b"got this\n"
    errors = received[
        1 if protocol.startswith("spdy") else 3
    ]  # the status has the first stream, or channel 3
    assert b'"ExitCode","message":"3"' in errors.replace(b" ", b"")


@pytest.mark.parametrize("protocol", ["spdy v4", "websocket v5"])
def test_bytes_pass_unharmed(site: Site, protocol: str) -> None:
    site.ready("bytes", SLEEP)
    data = bytes(range(256)) * 4096
    with connect(stream_url(site, "exec", "bytes", "app", "md5sum"), protocol) as client:
        stdin, stdout = open_exec(client)
        received = talk(client, stdin, data)
    assert received[stdout].split()[0].decode() == hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_attach(site: Site, protocol: str) -> None:
    name = "attach-" + protocol.replace(" ", "-")  # the same manifest would be the same pod, which has ended
    spec = """
    restartPolicy: Never
    containers:
    - name: app
      image: BUSYBOX
      stdin: true
      stdinOnce: true
      command: [sh, -c, "read line; echo got $line"]
    """
    site.write(name, spec)
    site.kubelet.wait_pod(name, "running", lambda pod: pod["status"]["phase"] == "Running")
    with connect(stream_url(site, "attach", name, "app"), protocol) as client:
        stdin, stdout = open_exec(client)
        received = talk(client, stdin, b"this\n")
    assert received[stdout] == b"got this\n"
    site.kubelet.wait_pod(name, "ended", lambda pod: pod["status"]["phase"] == "Succeeded")


def test_port_forward(site: Site) -> None:
    site.ready("forward", "containers: [{name: app, image: AGNHOST, args: [netexec, --http-port=8080]}]")
    with connect(f"{site.kubelet.url}/portForward/default/forward-host", "spdy", forward=True) as client:
        data, _ = open_forward(client, 8080)
        answer = talk(client, data, b"GET /hostname HTTP/1.0\r\n\r\n")[data]
    assert answer.endswith(b"forward-host")


def test_run(site: Site) -> None:
    site.ready("run", SLEEP)
    assert site.kubelet.get("/run/default/run-host/app?cmd=hostname", "POST") == b"run-host\n"


def test_logs(site: Site) -> None:
    script = "for i in 1 2 3; do echo line $i; done; echo error >&2; sleep 1000"
    site.ready("logs", f"containers: [{{name: app, image: BUSYBOX, command: [sh, -c, '{script}']}}]")
    wait_for("all lines", lambda: len(site.logs("logs").splitlines()) == 4)
    lines = site.logs("logs").splitlines()
    assert [line for line in lines if line != "error"] == ["line 1", "line 2", "line 3"]
    assert "error" in lines
    assert len(site.logs("logs", query="tailLines=2").splitlines()) == 2
    stamped = site.logs("logs", query="timestamps=true").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\S+ ", line) for line in stamped)
    with pytest.raises(urllib.error.HTTPError):
        site.logs("logs", "nobody")


def lines_of(log: Path) -> list[str]:
    """What a container wrote into one file of its log, in whole lines. Raises FileNotFoundError."""
    data = gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
    return [line.split(" ", 3)[3] for line in data[: data.rfind(b"\n") + 1].decode().splitlines()]


def whole_log(folder: Path) -> list[list[str]]:
    """The lines by file, the oldest first; nothing while a rotation is due or under way."""
    current = folder / "0.log"
    pieces = sorted(folder.glob("0.log.*"))
    if len({each.name.removesuffix(".tmp").removesuffix(".gz") for each in pieces}) < len(pieces):
        return []  # one is being compressed
    try:
        found = [lines_of(each) for each in (*pieces, current)]
        settled = current.stat().st_size < LARGEST
    except FileNotFoundError:  # renamed and not opened again yet, or compressed just now
        return []
    return found if settled and pieces == sorted(folder.glob("0.log.*")) else []


def test_logs_are_rotated(site: Site) -> None:
    """In all that is kept each line is followed by the next, across files too."""
    spec = """
    containers:
    - name: app
      image: BUSYBOX
      command:
      - sh
      - -c
      - |
        i=0
        until [ -e /stop ]; do i=$((i+1)); echo line $i; [ $((i % 50)) != 0 ] || sleep 0.1; done
        echo end $i
        exec sleep 1000
    """
    pod = site.ready("rotated", spec)
    folder = site.kubelet.pod_logs / f"default_rotated-host_{pod['metadata']['uid']}" / "app"
    wait_for("two files with lines", lambda: sum(map(bool, whole_log(folder))) >= 2)
    site.run("rotated", "touch", "/stop")  # what is compared below stands still

    def ended() -> list[str]:
        lines = [line for piece in whole_log(folder) for line in piece]
        return lines if lines and lines[-1].startswith("end ") else []

    *lines, end = wait_for("the last line", ended)
    first, last = int(lines[0].split()[1]), int(end.split()[1])
    assert lines == [f"line {number}" for number in range(first, last + 1)]
    assert site.kubelet.pod("rotated") is not None


def test_statistics(site: Site) -> None:
    site.ready("stats", SLEEP)

    def find() -> object:
        pods = site.kubelet.json("/stats/summary").get("pods") or []
        return [each["podRef"]["name"] for each in pods] == ["stats-host"]

    summary = site.kubelet.json("/stats/summary")
    assert summary["node"]["nodeName"] == "host"
    assert summary["node"]["runtime"]["imageFs"]["usedBytes"] > 0
    wait_for("the pod's statistics", find)


def test_metrics(site: Site) -> None:
    site.ready("metrics", SLEEP)
    for path, name in (
        ("/metrics", "kubelet_running_pods"),
        ("/metrics/cadvisor", "machine_memory_bytes"),
        ("/metrics/resource", "node_cpu_usage_seconds_total"),
        ("/metrics/probes", "process_start_time_seconds"),
    ):

        def told(path: str = path, name: str = name) -> bool:
            return re.search(f"^{name}", site.kubelet.get(path).decode(), re.MULTILINE) is not None

        wait_for(f"{name} in {path}", told)  # some only once something was measured
    text = site.kubelet.get("/metrics").decode()
    operations = set(re.findall(r'kubelet_runtime_operations_total\{operation_type="(\w+)"\}', text))
    assert {"run_podsandbox", "create_container", "start_container", "version", "status"} <= operations


def test_no_call_fails_by_our_fault(site: Site) -> None:
    """In all of this module: what the kubelet asks for is there, and nothing breaks over it."""
    site.ready("calls", SLEEP)
    failed = re.findall(
        r'"(\w+) from runtime service failed" err="rpc error: code = (\w+)', site.kubelet.log_file.read_text()
    )
    assert [each for each in failed if each[1] in ("Internal", "Unknown", "Unimplemented")] == []

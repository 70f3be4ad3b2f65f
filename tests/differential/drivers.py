"""The two kubelets behind one interface."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import grpc
import yaml

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from tests.host import leaks
from tests.ports import free_port
from tests.upstream_kubelet import CONFIG, UpstreamKubelet, unmount_below, wait_for

NODE = "node"
SETTINGS: dict[str, Any] = {
    "serializeImagePulls": False,
    "maxPods": 500,
    "clusterDNS": ["10.96.0.10"],
    "clusterDomain": "cluster.local",
}
"""What both kubelets are configured with beyond ``upstream_kubelet.CONFIG``."""


class Driver(Protocol):
    """A running kubelet."""

    manifests: Path

    def pods(self) -> list[dict[str, Any]]:
        """Pods with their statuses."""

    def running(self) -> set[str]:
        """Names of pods whose sandbox is ready, asked of the runtime."""

    def log(self, namespace: str, pod: str, container: str) -> str:
        """What a container wrote; empty if there is no log."""

    def events(self) -> list[dict[str, str]]:
        """Events about pods so far: ``pod`` (NAMESPACE/NAME), ``type``, ``reason``, ``message``, in order."""


class Upstream:
    """The upstream kubelet. Its events are read from its log: without an API server it keeps none."""

    _EVENT = re.compile(r'"Event occurred" object="([^"]*)".* type="(\w+)" reason="(\w+)" message="(.*)"')

    def __init__(self, kubelet: UpstreamKubelet) -> None:
        self._kubelet = kubelet
        self.manifests = kubelet.manifests

    def pods(self) -> list[dict[str, Any]]:
        return self._kubelet.pods()

    def running(self) -> set[str]:
        return self._kubelet.running_pods()

    def log(self, namespace: str, pod: str, container: str) -> str:
        try:
            return self._kubelet.get(log_path(namespace, pod, container)).decode("utf-8", "replace")
        except urllib.error.HTTPError as exc:
            exc.close()
            return ""

    def events(self) -> list[dict[str, str]]:
        found = []
        for line in self._kubelet.log_file.read_text(errors="replace").splitlines():
            if match := self._EVENT.search(line):
                pod, kind, reason, message = match.groups()
                with contextlib.suppress(ValueError):
                    message = json.loads(f'"{message}"')
                found.append({"pod": pod, "type": kind, "reason": reason, "message": message})
        return found


class Ours:
    """``minikubelet kubelet``, asked on its local socket."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.manifests = home / "manifests"
        self._endpoint = endpoint
        self._socket = str(home / "run" / "kubelet.sock")

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.connect(self._socket)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def pods(self) -> list[dict[str, Any]]:
        return list(json.loads(self.get("/pods")[1])["items"])

    def running(self) -> set[str]:
        return ready_sandboxes(self._endpoint)

    def log(self, namespace: str, pod: str, container: str) -> str:
        status, body = self.get(log_path(namespace, pod, container))
        return body.decode("utf-8", "replace") if status == 200 else ""

    def events(self) -> list[dict[str, str]]:
        found = []
        for event in json.loads(self.get("/events")[1])["items"]:
            about = event["involvedObject"]
            pod = f"{about.get('namespace', '')}/{about.get('name', '')}"
            found.append({"pod": pod, **{key: event[key] for key in ("type", "reason", "message")}})
        return found


def ready_sandboxes(endpoint: str) -> set[str]:
    """Names of the pods that a runtime has a ready sandbox of."""
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(endpoint.replace("unix:///", "unix:/"), options=options) as channel:
        answer = services.RUNTIME.connect(channel).ListPodSandbox(api.ListPodSandboxRequest())
    return {each.metadata.name for each in answer.items if each.state == api.SANDBOX_READY}


def log_path(namespace: str, pod: str, container: str) -> str:
    """The path of a container's log, the same for both."""
    return "/containerLogs/" + "/".join(quote(word, safe="") for word in (namespace, pod, container))


@contextlib.contextmanager
def upstream(
    home: Path, endpoint: str, *, client: tuple[Path, Path] | None = None, **settings: Any
) -> Iterator[Driver]:
    """An upstream kubelet over a runtime; ``client`` is the certificate and key that it is asked with."""
    kubelet = UpstreamKubelet(
        home, endpoint, settings={**SETTINGS, **settings}, flags=("--v=3",), node_name=NODE, client=client
    )
    with kubelet:
        try:
            yield Upstream(kubelet)
        finally:
            kubelet.drain()


def prepare(home: Path, endpoint: str, **settings: Any) -> Path:
    """Make our kubelet's folders below ``home``, and a configuration file as upstream's; its path."""
    for folder in ("manifests", "run", "root", "pods"):
        (home / folder).mkdir(parents=True)
    config = {
        **CONFIG,
        "port": free_port(),
        "readOnlyPort": 0,
        "staticPodPath": str(home / "manifests"),
        "podLogsDir": str(home / "pods"),
        "containerRuntimeEndpoint": endpoint,
        **SETTINGS,
        **settings,
    }
    path = home / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.contextmanager
def ours(home: Path, endpoint: str, *, client: object = None, **settings: Any) -> Iterator[Driver]:
    """Our kubelet over a runtime, with the same configuration file as upstream's.

    It is asked on its local socket, whoever the ``client`` is.
    """
    config = prepare(home, endpoint, **settings)
    command = [
        *(sys.executable, "-m", "minikubelet.cli.main", "kubelet", "--config", str(config)),
        *("--run", str(home / "run"), "--root", str(home / "root"), "--node-name", NODE),
        "--stop-pods-on-exit",
    ]
    subprocess.run(["mount", "--bind", home, home], check=True)
    subprocess.run(["mount", "--make-shared", home], check=True)
    with open(home / "kubelet.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    leaks.expect(process.pid)
    driver = Ours(home, endpoint)

    def answers() -> bool:
        assert process.poll() is None, (home / "kubelet.log").read_text()[-6000:]
        with contextlib.suppress(OSError):
            return driver.get("/healthz") == (200, b"ok")
        return False

    try:
        wait_for("our kubelet answers", answers)
        yield driver
    except BaseException:
        print((home / "kubelet.log").read_text(errors="replace")[-6000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(120)
        leaks.unexpect(process.pid)
        unmount_below(home)

"""The daemon is killed with fifty pods up, in every state of a pod's life: all go on undisturbed."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.conftest import certs_dir, registry
from tests.host.node import PATIENCE, Node, wait_for

__all__ = ["certs_dir", "registry"]

PLAIN, INIT, CRASHING, PROBED, STARTING, ENDING = 26, 6, 6, 5, 4, 3
LIVES = "trap 'exit 0' TERM; while true; do sleep 0.2; done"
"""Ends within a fifth of a second of a TERM."""
ENDS_SLOWLY = (
    "trap 'sleep 4; echo ended >> /d/NAME.ended; exit 0' TERM; touch /d/NAME.trapped; "
    "while true; do sleep 0.2; done"
)
STARTED = "date +%s >> /d/NAME.starts; "
LONG = 4 * PATIENCE
"""Seconds for fifty pods."""


def container(script: str, **more: Any) -> dict[str, Any]:
    mounts = [{"name": "dir", "mountPath": "/d"}]
    return {"name": "app", "command": ["sh", "-c", script], "volumeMounts": mounts, **more}


def specs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and specs of fifty pods."""
    for i in range(PLAIN):
        yield f"plain{i}", {"containers": [container(STARTED + LIVES)]}
    slow = container("date +%s >> /d/NAME.inits; sleep 6", name="init")
    for i in range(INIT):
        yield f"init{i}", {"initContainers": [slow], "containers": [container(STARTED + LIVES)]}
    for i in range(CRASHING):
        yield f"crash{i}", {"containers": [container(STARTED + "exit 3")]}
    ok = {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 20}
    for i in range(PROBED):
        probes = {"livenessProbe": ok, "readinessProbe": ok}
        yield f"probed{i}", {"containers": [container(STARTED + LIVES, **probes)]}
    # Succeeds only some seconds after the start; were it begun anew, the file would still be there.
    late = {"exec": {"command": ["test", "-e", "/up"]}, "periodSeconds": 1, "failureThreshold": 300}
    script = STARTED + "(sleep 8; touch /up) & " + LIVES
    for i in range(STARTING):
        yield f"starting{i}", {"containers": [container(script, startupProbe=late)]}
    for i in range(ENDING):
        yield (
            f"ending{i}",
            {
                "containers": [container(STARTED + ENDS_SLOWLY)],
                "terminationGracePeriodSeconds": 60,
            },
        )


class Pods:
    """What the kubelet says, and what the containers wrote."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._socket = node.run / "kubelet.sock"
        self._folder = folder

    def all(self) -> dict[str, dict[str, Any]]:
        """Every pod's status by its manifest's name; nothing while the daemon is away."""
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.connect(str(self._socket))
            connection.request("GET", "/pods")
            items = json.loads(connection.getresponse().read())["items"]
        except OSError:
            return {}
        finally:
            connection.close()
        return {each["metadata"]["name"].partition("-")[0]: each["status"] for each in items}

    def lines(self, name: str) -> list[str]:
        """What was written to a file of the shared folder."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / name).read_text().split()
        return []


def app(status: dict[str, Any]) -> dict[str, Any]:
    """The status of the container ``app``."""
    return next((each for each in status.get("containerStatuses", []) if each["name"] == "app"), {})


def ready(status: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


@pytest.fixture
def node(certs_dir: Path, tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "n", certs_dir, "--unenforced-limits=allow", kubelet=True)
    try:
        yield node
    finally:
        for manifest in node.manifests.iterdir():
            manifest.unlink()
        node.finish()


def write(node: Node, image: str, folder: Path) -> None:
    """All manifests at once."""
    for name, spec in specs():
        spec["volumes"] = [{"name": "dir", "hostPath": {"path": str(folder)}}]
        for each in [*spec.get("initContainers", []), *spec["containers"]]:
            each["image"] = image
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        fresh = node.home / f"{name}.new"
        fresh.write_text(json.dumps(pod).replace("NAME", name))
        fresh.rename(node.manifests / f"{name}.yaml")


def test_all_goes_on(node: Node, busybox: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    pods = Pods(node, folder)
    node.start()
    node.crictl("pull", busybox)
    write(node, busybox, folder)
    steady = [*names("plain", PLAIN), *names("probed", PROBED), *names("ending", ENDING)]
    crashing, inits, starting = names("crash", CRASHING), names("init", INIT), names("starting", STARTING)
    ending = names("ending", ENDING)

    def under_way() -> bool:
        now = pods.all()
        return (
            len(now) == PLAIN + INIT + CRASHING + PROBED + STARTING + ENDING
            and all(ready(now[name]) for name in steady)
            and all(app(now[name]).get("restartCount", 0) >= 1 for name in crashing)
            and all(pods.lines(f"{name}.inits") for name in inits)
            and all(pods.lines(f"{name}.starts") for name in starting)
            and all(app(now[name]).get("containerID") for name in starting)
            and all((folder / f"{name}.trapped").exists() for name in ending)
        )

    wait_for("fifty pods are under way", under_way, LONG)
    for name in ending:
        (node.manifests / f"{name}.yaml").unlink()
    wait_for("they are asked to end", lambda: not set(ending) & ready_ones(pods))
    before = pods.all()
    node.kill()
    node.start()
    lasting = [name for name in before if not name.startswith("ending")]

    def settled() -> bool:
        now = pods.all()
        alive = [name for name in lasting if name not in crashing]
        return (
            sorted(now) == sorted(lasting)
            and all(ready(now[name]) for name in alive)
            and all(len(pods.lines(f"{name}.starts")) >= 3 for name in crashing)
            and all(
                app(now[name]).get("restartCount") == len(pods.lines(f"{name}.starts")) - 1
                for name in crashing
            )
        )

    wait_for("all pods go on", settled, LONG)
    after = pods.all()
    for name in lasting:
        if name not in crashing:
            assert app(after[name])["restartCount"] == 0, name
            assert len(pods.lines(f"{name}.starts")) == 1, f"{name} was started anew"
        if name in inits:
            assert len(pods.lines(f"{name}.inits")) == 1, f"{name} was initialized anew"
        elif name not in crashing:
            assert app(after[name])["containerID"] == app(before[name])["containerID"], name
    for name in ending:
        assert pods.lines(f"{name}.ended") == ["ended"], f"{name} was not left the time to end"
    for name in crashing:
        starts = [int(line) for line in pods.lines(f"{name}.starts")]
        # The first restart is at once, the next after 10 s, whether the daemon was killed meanwhile or not.
        assert starts[2] - starts[1] >= 9, f"{name} came back before its time: {starts}"


def ready_ones(pods: Pods) -> set[str]:
    """Names of the pods that are ready."""
    return {name for name, status in pods.all().items() if ready(status)}

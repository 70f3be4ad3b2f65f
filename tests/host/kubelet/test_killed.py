"""The kubelet is killed again and again while its pods come up, and the runtime goes on: nothing runs twice.

Over our runtime only: of calls that are cut off containerd keeps shims and half-made containers.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.differential.drivers import NODE, Ours, prepare
from tests.host import leaks
from tests.host.kubelet import runtimes
from tests.host.kubelet.runtimes import IMAGE
from tests.upstream_kubelet import PATIENCE, is_ready, unmount_below, wait_for

KILLS = int(os.environ.get("MINIKUBELET_CHAOS_ROUNDS", "6"))
NOW = "$(cut -d' ' -f1 /proc/uptime)"
BEGIN = f"echo start {NOW} >> /out/NAME; "
END = f"echo end {NOW} >> /out/NAME; "
LIVES = BEGIN + "trap 'exit 0' TERM; while :; do sleep 0.3; done"
OK = {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 20}


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    command = ["sh", "-c", script.replace("NAME", f"POD.{name}")]
    mounts = [{"name": "out", "mountPath": "/out"}]
    return {"name": name, "image": IMAGE, "command": command, "volumeMounts": mounts, **more}


def specs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and specs; the first word of a name says what is expected of it."""
    sidecar = container("side", LIVES, restartPolicy="Always", startupProbe=OK)
    first = container("first", BEGIN + "sleep 2; " + END)
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo >> /out/POD.hook; sleep 1"]}}}
    for i in range(2):
        yield f"lives-{i}", {"containers": [container("app", LIVES, readinessProbe=OK, livenessProbe=OK)]}
        yield f"lives-hook-{i}", {"containers": [container("app", LIVES, lifecycle=hook)]}
        inits = [sidecar, first, container("second", BEGIN + END)]
        yield f"lives-init-{i}", {"initContainers": inits, "containers": [container("app", LIVES)]}
        yield f"crashes-{i}", {"containers": [container("app", BEGIN + END + "exit 3")]}
        yield (
            f"succeeds-{i}",
            {"restartPolicy": "Never", "containers": [container("app", BEGIN + "sleep 4; " + END)]},
        )
        yield f"fails-{i}", {"restartPolicy": "Never", "containers": [container("app", BEGIN + "exit 5")]}


def list_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class Kubelet:
    """A kubelet that is a process, over a runtime that goes on without it."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.home, self.out = home, home / "out"
        prepare(home, endpoint)
        self.out.mkdir()
        self.out.chmod(0o777)
        self.driver = Ours(home, endpoint)
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "minikubelet.cli.main", "kubelet", "--node-name", NODE]
        for flag, name in (("--config", "config.yaml"), ("--run", "run"), ("--root", "root")):
            command += [flag, str(self.home / name)]
        with open(self.home / "kubelet.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        leaks.expect(self.process.pid)

    def kill(self) -> None:
        assert self.process.poll() is None, (self.home / "kubelet.log").read_text()[-4000:]
        leaks.unexpect(self.process.pid)
        self.process.kill()
        self.process.wait()

    def write(self, name: str, spec: dict[str, Any]) -> None:
        volumes = [{"name": "out", "hostPath": {"path": str(self.out)}}]
        whole = {"terminationGracePeriodSeconds": 2, **spec, "volumes": volumes}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}
        fresh = self.home / f".{name}"
        fresh.write_text(json.dumps(pod).replace("POD", name))
        fresh.rename(self.home / "manifests" / f"{name}.json")

    def pods(self) -> dict[str, dict[str, Any]]:
        """Statuses by the name in the manifest; none while it can't be asked."""
        with contextlib.suppress(OSError):
            return {
                each["metadata"]["name"].removesuffix(f"-{NODE}"): each["status"]
                for each in self.driver.pods()
            }
        return {}

    def times(self, name: str, word: str) -> list[float]:
        """When a container began, or ended, as it wrote itself."""
        lines = [line.split() for line in list_lines(self.out / name)]
        return [float(line[1]) for line in lines if line[0] == word]


@pytest.fixture(scope="module")
def endpoint(home: Path) -> Iterator[str]:
    with runtimes.minikubelet(home / "m") as socket:
        yield socket


@pytest.fixture
def kubelet(endpoint: str, home: Path) -> Iterator[Kubelet]:
    folder = home / "killed"
    made = Kubelet(folder, endpoint)
    try:
        yield made
    finally:
        for manifest in (folder / "manifests").iterdir():
            manifest.unlink()
        wait_for("all pods are gone", lambda: not made.pods() and not made.driver.running(), 4 * PATIENCE)
        leaks.unexpect(made.process.pid)
        made.process.terminate()
        made.process.wait(PATIENCE)
        unmount_below(folder)


def settled(kubelet: Kubelet) -> dict[str, dict[str, Any]]:
    """All statuses once each pod is what it should be; else none."""
    pods = kubelet.pods()
    if sorted(pods) != sorted(name for name, _ in specs()):
        return {}
    phases = {"lives": "Running", "crashes": "Running", "succeeds": "Succeeded", "fails": "Failed"}
    for name, status in pods.items():
        kind = name.partition("-")[0]
        if status.get("phase") != phases[kind] or (kind == "lives" and not is_ready({"status": status})):
            return {}
        # The third start is told by both, one a moment after the other; the fourth is far away.
        told = kind == "crashes" and status["containerStatuses"][0]["restartCount"]
        if kind == "crashes" and (told < 2 or len(kubelet.times(f"{name}.app", "start")) < 3):
            return {}
    return pods


def test_nothing_runs_twice(kubelet: Kubelet) -> None:
    chance = random.Random(KILLS)
    for name, spec in specs():
        kubelet.write(name, spec)
    for _ in range(KILLS):
        time.sleep(chance.choice([0.3, 0.6, 1.0, 1.5, 2.5]))
        kubelet.kill()
        kubelet.start()
    pods = wait_for("all pods are what they should be", lambda: settled(kubelet), 4 * PATIENCE)
    for name, status in pods.items():
        for each in [*status.get("initContainerStatuses", []), *status["containerStatuses"]]:
            begun = kubelet.times(f"{name}.{each['name']}", "start")
            if not name.startswith("crashes"):
                assert (len(begun), each["restartCount"]) == (1, 0), f"{name}: {each}"
                continue
            assert each["restartCount"] == len(begun) - 1, name
            ended = kubelet.times(f"{name}.{each['name']}", "end")
            # The first restart is at once, the next after 10 s, whatever becomes of the kubelet meanwhile.
            assert begun[2] - ended[1] >= 9.5, f"{name}: {begun}"
        # A kubelet that is killed between the start and the hook has run no hook, as upstream's.
        assert len(list_lines(kubelet.out / f"{name}.hook")) <= 1, name

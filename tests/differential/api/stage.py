"""The kubelets that are asked, the pods on them, and a folder in the node's log folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.differential.api.battery import Group, parse
from tests.differential.api.client import Credentials, send
from tests.differential.api.shapes import Result, normalise
from tests.differential.case import is_met
from tests.differential.drivers import NODE, Driver
from tests.host.kubelet.runtimes import IMAGE
from tests.ports import free_port
from tests.upstream_kubelet import PATIENCE, wait_for

Kubelet = Callable[..., AbstractContextManager[Driver]]

KUBELETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strangers": {"anonymous": True, "enableDebuggingHandlers": False},
    "narrow": {"enableSystemLogHandler": False, "enableProfilingHandler": False},
}
"""What each is configured with besides. ``anonymous``: strangers are let in."""

_WEB = f"""
metadata: {{name: web, labels: {{app: web}}, annotations: {{kept: "yes"}}}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: setup
    image: {IMAGE}
    command: [sh, -c, "echo set up"]
  containers:
  - name: app
    image: {IMAGE}
    command: [sh, -c, "printf 'one\\ntwo\\nthree\\n'; echo oops >&2; exec sleep 100000"]
    env: [{{name: COLOUR, value: blue}}]
    ports: [{{name: http, containerPort: 8080}}]
    resources: {{requests: {{cpu: 10m, memory: 16Mi}}, limits: {{memory: 64Mi}}}}
    volumeMounts: [{{name: data, mountPath: /data}}]
    readinessProbe: {{exec: {{command: ["true"]}}, periodSeconds: 1}}
    livenessProbe: {{exec: {{command: ["true"]}}, periodSeconds: 1}}
  - name: side
    image: {IMAGE}
    command: [sh, -c, "exec sleep 100000"]
  volumes:
  - name: data
    emptyDir: {{}}
"""
_DONE = f"""
metadata: {{name: done}}
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: {IMAGE}
    command: [sh, -c, "printf 'good\\nbye\\n'; exit 3"]
"""
_AGAIN = f"""
metadata: {{name: again, namespace: other}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: {IMAGE}
    command:
    - sh
    - -c
    - |
      if [ -e /data/seen ]; then echo second; exec sleep 100000; fi
      touch /data/seen
      echo first
      exit 1
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes:
  - name: data
    emptyDir: {{}}
"""
_STUCK = """
metadata: {name: stuck}
spec:
  containers:
  - name: app
    image: localhost/kubelet/nowhere:1
    imagePullPolicy: Never
"""
_MEASURED = 0.5 * PATIENCE
"""Seconds after which what isn't measured never is."""
PODS = {
    "web": (_WEB, ["ready"]),
    "done": (_DONE, ["failed"]),
    "again": (_AGAIN, ["restarts", "1"]),
    "stuck": (_STUCK, ["waiting", "ErrImageNeverPull"]),
}
"""By name a pod's manifest, and what is waited for."""
NODE_LOGS = Path("/var/log/minikubelet-battery")
"""A folder of the node's logs whose contents are known."""


def run(kubelet: Kubelet, groups: list[Group], endpoint: str, home: Path) -> dict[str, dict[str, Result]]:
    """The answers by group and request, of one kubelet a configuration."""
    home.mkdir(exist_ok=True)
    found: dict[str, dict[str, Result]] = {}
    with node_logs():
        for name, settings in KUBELETS.items():
            chosen = [group for group in groups if group.kubelet == name]
            if chosen:
                own = Path(tempfile.mkdtemp(dir=home))
                own.chmod(0o711)
                found |= _ask(kubelet, chosen, endpoint, own, settings)
    return found


def _ask(
    kubelet: Kubelet, groups: list[Group], endpoint: str, home: Path, settings: dict[str, Any]
) -> dict[str, dict[str, Result]]:
    credentials = Credentials(home / "clients")
    ports = {"main": free_port(), "health": free_port(), "readonly": free_port()}
    settings = configuration(credentials, ports, **settings)
    own = home / "k"
    own.mkdir(mode=0o711)
    with kubelet(own, endpoint, client=credentials.files("admin"), **settings) as driver, pods(driver):
        if any(group.kubelet == "plain" for group in groups):
            _wait_measured(ports["readonly"])
        return {group.name: _answers(group, ports, credentials, home) for group in groups}


def configuration(
    credentials: Credentials, ports: dict[str, int], *, anonymous: bool = False, **settings: Any
) -> dict[str, Any]:
    """Fields of KubeletConfiguration."""
    return {
        "port": ports["main"],
        "readOnlyPort": ports["readonly"],
        "healthzPort": ports["health"],
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": anonymous},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(credentials.ca)},
        },
        **settings,
    }


def _answers(group: Group, ports: dict[str, int], credentials: Credentials, home: Path) -> dict[str, Result]:
    secure = credentials if group.port == "main" else None
    found = {}
    for request in group.requests:
        answer = send(request, ports[group.port], secure)
        found[request.name] = normalise(request, answer, home)
    return found


@contextlib.contextmanager
def pods(driver: Driver) -> Iterator[None]:
    """The pods, each as far as it will get; taken away afterwards."""
    for name, (text, _) in PODS.items():
        fresh = driver.manifests.parent / f".{name}.new"
        fresh.write_text(f"apiVersion: v1\nkind: Pod\n{text}")
        fresh.rename(driver.manifests / f"{name}.yaml")

    def lacking() -> list[str]:
        there = {pod["metadata"]["name"]: pod for pod in driver.pods()}
        ready = {name for name, (_, wait) in PODS.items() if is_met(wait, there.get(f"{name}-{NODE}", {}))}
        return sorted(PODS.keys() - ready)

    def said() -> bool:
        """Whether what the requests ask for is in the logs."""
        web, again = (
            driver.log(*pod, "app") for pod in (("default", f"web-{NODE}"), ("other", f"again-{NODE}"))
        )
        return sorted(web.split()) == ["one", "oops", "three", "two"] and again == "second\n"

    wait_for("the pods are as far as they get", lambda: not lacking())
    wait_for("they have said all", said)
    yield
    for name in PODS:
        (driver.manifests / f"{name}.yaml").unlink()
    wait_for("the pods are gone", lambda: not driver.pods() and not driver.running())


def _wait_measured(port: int) -> None:
    """Wait until statistics have all that they will ever have: some things are measured now and then.

    What a runtime doesn't tell is waited for in vain, and not for long.
    """
    deadline = time.monotonic() + _MEASURED
    while time.monotonic() < deadline:
        answer = send(parse("GET /stats/summary"), port, None)
        found = json.loads(answer.body) if answer.status == 200 else {}
        web = [each for each in found.get("pods", []) if each["podRef"]["name"] == f"web-{NODE}"]
        if web and "volume" in web[0] and all("cpu" in each for each in web[0]["containers"]):
            return
        time.sleep(0.5)


@contextlib.contextmanager
def node_logs() -> Iterator[None]:
    """Files, a folder and links among the node's logs."""
    shutil.rmtree(NODE_LOGS, ignore_errors=True)
    try:
        (NODE_LOGS / "sub").mkdir(parents=True)
        (NODE_LOGS / "plain.log").write_text("line 1\nline 2\nline 3\n")
        (NODE_LOGS / "page.html").write_text("<p>a page</p>\n")
        (NODE_LOGS / "data.json").write_text("{}\n")
        (NODE_LOGS / "sub" / "inner.log").write_text("inner\n")
        os.symlink("plain.log", NODE_LOGS / "near")
        os.symlink("/etc/hostname", NODE_LOGS / "far")
        yield
    finally:
        shutil.rmtree(NODE_LOGS, ignore_errors=True)

"""The kubelet over real runtimes: pods from manifests that run, answer, fail, come back and leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.kubelet import Kubelet
from minikubelet.kubelet.objects import ContainerStatus, Pod
from minikubelet.kubelet.objects.containers import EnvVar, EphemeralContainer
from tests.host.kubelet.runtimes import CGROUP_PARENT, IMAGE, PATIENCE


class Node:
    """A kubelet with folders of its own over a runtime."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self.folder = folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self.config = KubeletConfig(
            container_runtime_endpoint=endpoint,
            manifests=str(self.manifests),
            root=str(folder / "root"),
            socket="",
            log_dir=str(folder / "logs"),
            node_name="host",
            cgroup_parent=CGROUP_PARENT,
            stop_pods_on_exit=True,
        )
        self.kubelet: Kubelet

    @contextlib.asynccontextmanager
    async def running(self, *, stop_pods: bool = True) -> AsyncIterator[None]:
        self.config.stop_pods_on_exit = stop_pods
        self.kubelet = Kubelet(self.config)
        stop = asyncio.Event()
        task = asyncio.create_task(self.kubelet.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 2 * PATIENCE)

    def write(self, name: str, spec: str) -> None:
        """A manifest of one pod; ``IMAGE`` stands for the test image."""
        body = textwrap.indent(textwrap.dedent(spec).replace("IMAGE", IMAGE), "  ")
        text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{body}"
        self.put(f"{name}.yaml", text)

    def put(self, name: str, text: str) -> None:
        """A file in the folder of manifests, whole at once: the kubelet reads it at any moment."""
        fresh = self.folder / f".{name}.new"
        fresh.write_text(text)
        fresh.rename(self.manifests / name)

    async def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(LookupError, OSError):
                if value := condition():
                    return value
            await asyncio.sleep(0.02)
        events = "\n".join(f"{e.reason}: {e.message}" for e in self.kubelet.events())
        raise AssertionError(f"never came true\n{self.kubelet.pods()}\n{events}")

    def pod(self, name: str) -> Pod:
        for pod in self.kubelet.pods():
            if pod.metadata.name == f"{name}-host":
                return pod
        raise LookupError(name)

    def container(self, pod: str, name: str = "app") -> ContainerStatus:
        status = self.pod(pod).status
        everyone = [*status.init_container_statuses, *status.container_statuses]
        found = [each for each in everyone if each.name == name]
        return found[0]

    def is_ready(self, pod: str) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.pod(pod).status.conditions)

    def log(self, pod: str, container: str = "app", attempt: int = 0) -> str:
        folder = Path(self.kubelet.log_directory(self.pod(pod)))
        lines = (folder / container / f"{attempt}.log").read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)


@pytest.fixture
async def node(endpoint: str, tmp_path: Path) -> AsyncIterator[Node]:
    yield Node(endpoint, tmp_path)
    client = CriClient(endpoint)
    sandboxes = await client.list_pod_sandboxes()
    containers = await client.list_containers()
    for each in sandboxes:
        await client.stop_pod_sandbox(each.id)
        await client.remove_pod_sandbox(each.id)
    await client.close()
    assert (sandboxes, containers) == ([], [])


WEB = """
    terminationGracePeriodSeconds: 3
    initContainers:
    - name: init
      image: IMAGE
      command: [sh, -c, "echo hello from init > /data/index.html"]
      volumeMounts: [{name: data, mountPath: /data}]
    - name: side
      image: IMAGE
      restartPolicy: Always
      command: [sh, -c, "echo sidecar is up; trap 'exit 0' TERM; while true; do sleep 0.1; done"]
    containers:
    - name: app
      image: IMAGE
      command: [httpd, -f, -p, "8080", -h, /data]
      volumeMounts: [{name: data, mountPath: /data}]
      startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 60}
      readinessProbe: {httpGet: {path: /index.html, port: http}, periodSeconds: 1}
      livenessProbe:
        exec: {command: [test, -f, /data/index.html]}
        periodSeconds: 1
        timeoutSeconds: 20
        failureThreshold: 1
      ports: [{name: http, containerPort: 8080}]
    volumes:
    - name: data
      emptyDir: {}
"""


async def fetch(address: str, port: int) -> bytes:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()


async def test_a_web_server_with_everything(node: Node) -> None:
    node.write("web", WEB)
    async with node.running():
        await node.until(lambda: node.is_ready("web"))
        status = node.pod("web").status
        assert status.phase == "Running"
        assert socket.inet_aton(status.pod_ip)
        assert b"hello from init" in await fetch(status.pod_ip, 8080)
        init = node.container("web", "init").state.terminated
        assert init is not None and (init.reason, init.exit_code) == ("Completed", 0)
        await node.until(lambda: node.log("web", "side") == "sidecar is up")
        (node.manifests / "web.yaml").unlink()
        await node.until(lambda: not node.kubelet.pods())
        assert not list((node.folder / "root" / "pods").iterdir())
        assert not list((node.folder / "logs").iterdir())


async def test_what_a_container_finds(node: Node) -> None:
    node.write(
        "look",
        """
        restartPolicy: Never
        hostname: special
        hostAliases: [{ip: 192.0.2.7, hostnames: [friend]}]
        dnsPolicy: None
        dnsConfig: {nameservers: [192.0.2.53], searches: [example.org], options: [{name: ndots, value: "2"}]}
        securityContext: {runAsUser: 1000, runAsGroup: 1000, supplementalGroups: [44]}
        containers:
        - name: app
          image: IMAGE
          workingDir: /tmp
          env:
          - {name: GREETING, value: hi}
          - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
          - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
          - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
          resources: {requests: {cpu: 250m}}
          command: [sh, -c]
          args:
          - |
            echo "$GREETING $(NAME) $LIMIT $(pwd) $(id -u):$(id -g):$(id -G)"
            hostname; grep friend /etc/hosts; cat /etc/resolv.conf; grep "$IP" /etc/hosts
            echo done for good > /dev/termination-log
            exit 3
        """,
    )
    async with node.running():
        await node.until(lambda: node.pod("look").status.phase == "Failed")
        ended = node.container("look").state.terminated
        assert ended is not None
        assert (ended.exit_code, ended.reason, ended.message) == (3, "Error", "done for good\n")
        log = node.log("look").splitlines()
        assert log[0] == "hi look-host 250 /tmp 1000:1000:1000 29 44"
        assert log[1] == "special"
        assert log[2] == "192.0.2.7\tfriend"
        assert {"search example.org", "nameserver 192.0.2.53", "options ndots:2"} <= set(log[3:])
        assert log[-1].endswith("\tspecial")


async def test_a_failing_liveness_probe_restarts(node: Node) -> None:
    node.write(
        "sick",
        """
        terminationGracePeriodSeconds: 20
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c]
          args: ["trap 'exit 5' TERM; touch /up /alive; sleep 1; rm /alive; while true; do sleep 0.1; done"]
          startupProbe: {exec: {command: [test, -f, /up]}, periodSeconds: 1, failureThreshold: 60}
          livenessProbe: {exec: {command: [test, -f, /alive]}, periodSeconds: 1, failureThreshold: 1}
        """,
    )
    async with node.running():
        await node.until(lambda: node.container("sick").restart_count >= 1)
        last = await node.until(lambda: node.container("sick").last_state.terminated)
        assert last.exit_code == 5
        reasons = [event.reason for event in node.kubelet.events()]
        assert "Unhealthy" in reasons and "Killing" in reasons


async def test_a_crash_loop_backs_off(node: Node) -> None:
    node.write(
        "crash",
        """
        containers:
        - {name: app, image: IMAGE, command: [sh, -c, "echo attempt; exit 7"]}
        """,
    )

    def waits() -> str:
        waiting = node.container("crash").state.waiting
        return waiting.reason if waiting else ""

    async with node.running():
        await node.until(lambda: waits() == "CrashLoopBackOff")
        status = node.container("crash")
        last = status.last_state.terminated
        assert status.restart_count == 1 and last is not None and last.exit_code == 7
        assert node.log("crash", attempt=0) == node.log("crash", attempt=1) == "attempt"


async def test_a_command_that_does_not_exist(node: Node) -> None:
    node.write(
        "wrong",
        """
        restartPolicy: Never
        containers:
        - {name: app, image: IMAGE, command: [/no/such/program]}
        """,
    )
    async with node.running():
        await node.until(lambda: node.pod("wrong").status.phase == "Failed")
        ended = node.container("wrong").state.terminated
        assert ended is not None and ended.reason == "StartError" and ended.exit_code in (127, 128)
        assert "/no/such/program" in ended.message


async def test_an_image_that_is_nowhere(node: Node) -> None:
    node.write("lost", "containers:\n- {name: app, image: 'localhost:1/no/image:1'}\n")

    def waits() -> str:
        waiting = node.container("lost").state.waiting
        return waiting.reason if waiting else ""

    async with node.running():
        await node.until(lambda: waits() == "ErrImagePull")
        await node.until(lambda: waits() == "ImagePullBackOff")


async def test_pods_outlive_the_kubelet(node: Node) -> None:
    node.write("web", WEB)
    async with node.running(stop_pods=False):
        await node.until(lambda: node.is_ready("web"))
        before = [c.container_id for c in node.pod("web").status.container_statuses]
    async with node.running():
        await node.until(lambda: node.is_ready("web"))
        assert [c.container_id for c in node.pod("web").status.container_statuses] == before
        assert node.container("web").restart_count == 0


async def test_a_changed_manifest_replaces_the_pod(node: Node) -> None:
    spec = """
        terminationGracePeriodSeconds: 1
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c, "echo NUMBER; trap 'exit 0' TERM; while true; do sleep 0.1; done"]
    """
    async with node.running():
        node.write("turn", spec.replace("NUMBER", "one"))
        await node.until(lambda: node.is_ready("turn"))
        first = node.pod("turn").uid
        node.write("turn", spec.replace("NUMBER", "two"))
        await node.until(lambda: node.pod("turn").uid != first and node.is_ready("turn"))
        await node.until(lambda: node.log("turn") == "two")


async def test_a_dead_sandbox_is_replaced(node: Node) -> None:
    node.write(
        "again",
        """
        terminationGracePeriodSeconds: 1
        containers:
        - {name: app, image: IMAGE, command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.1; done"]}
        """,
    )
    async with node.running():
        await node.until(lambda: node.is_ready("again"))
        client = CriClient(node.config.container_runtime_endpoint)
        (sandbox,) = await client.list_pod_sandboxes()
        await client.stop_pod_sandbox(sandbox.id)
        await node.until(lambda: node.container("again").restart_count == 1)
        await node.until(lambda: node.is_ready("again"))
        alive = [s for s in await client.list_pod_sandboxes() if s.state == api.SANDBOX_READY]
        assert len(alive) == 1 and alive[0].metadata.attempt == 1
        await client.close()


async def test_a_process_namespace_can_be_shared(node: Node) -> None:
    node.write(
        "share",
        """
        restartPolicy: Never
        terminationGracePeriodSeconds: 0
        shareProcessNamespace: true
        containers:
        - {name: app, image: IMAGE, command: [sh, -c, "until ps | grep -c 'slee[p] 777'; do sleep 0.1; done"]}
        - {name: other, image: IMAGE, command: [sleep, "777"]}
        """,
    )
    async with node.running():
        await node.until(lambda: node.container("share").state.terminated)
        assert node.log("share").splitlines()[-1] == "1"


async def test_an_ephemeral_container_sees_its_targets_processes(node: Node) -> None:
    look = ["sh", "-c", "pidof sleep; echo $(MK); exit 3"]
    asked = EphemeralContainer(
        name="look",
        image=IMAGE,
        command=look,
        env=[EnvVar(name="MK", value="v")],
        target_container_name="app",
    )
    async with node.running():
        node.write(
            "seen",
            """
            terminationGracePeriodSeconds: 1
            containers:
            - {name: app, image: IMAGE, command: [sleep, "1000"]}
            """,
        )
        await node.until(lambda: node.is_ready("seen"))
        node.kubelet.add_ephemeral(node.pod("seen").uid, asked)
        await node.until(lambda: node.pod("seen").status.ephemeral_container_statuses[0].state.terminated)
        (status,) = node.pod("seen").status.ephemeral_container_statuses
        assert status.state.terminated is not None and status.state.terminated.exit_code == 3
        assert node.log("seen", "look") == "1\nv"
        assert node.is_ready("seen") and node.container("seen").restart_count == 0

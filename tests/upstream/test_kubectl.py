"""kubectl's verbs through kube-apiserver and the upstream kubelet to our runtime."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.host.node import Node
from tests.ports import free_port
from tests.upstream.conftest import need
from tests.upstream.control_plane import NODE, ControlPlane, KubectlFailed, fetch
from tests.upstream_kubelet import PATIENCE, UpstreamKubelet, wait_for

SETTINGS = {"registerNode": True, "nodeStatusUpdateFrequency": "2s"}


@pytest.fixture(scope="module")
def daemon(
    certs_dir: Path, images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    need("kubelet", "kube-apiserver", "kubectl", "etcd")
    node = Node(tmp_path_factory.mktemp("node"), certs_dir, "--unenforced-limits=allow")
    try:
        node.start()
        for image in images.values():
            node.crictl("pull", image)
        yield node
    finally:
        node.finish()


@pytest.fixture(scope="module")
def module_cluster(daemon: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("cp")) as plane:
        kubelet = UpstreamKubelet(
            tmp_path_factory.mktemp("k"),
            daemon.config.listen,
            settings=SETTINGS,
            flags=["--kubeconfig", str(plane.kubelet_config)],
            node_name=NODE,
        )
        with kubelet:
            wait_for("the node is registered", lambda: NODE in plane.kubectl("get", "nodes"))
            yield plane


@pytest.fixture
def cluster(daemon: Node, module_cluster: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with our node and without pods; those that the test makes are removed after it."""
    yield module_cluster
    limits = ("--grace-period=1", f"--timeout={PATIENCE:.0f}s")
    module_cluster.kubectl("delete", "pods", "--all", "--wait", *limits)
    daemon.crictl("rmp", "--all", "--force")  # the kubelet collects ended sandboxes once a minute


@pytest.fixture
def busybox(images: Mapping[str, str]) -> str:
    return images["BUSYBOX"]


def test_the_node_is_ready(cluster: ControlPlane) -> None:
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", f"--timeout={PATIENCE:.0f}s")
    info = cluster.json("get", "node", NODE)["status"]["nodeInfo"]
    assert info["containerRuntimeVersion"].startswith("minikubelet://")
    assert info["kubeletVersion"] == "v1.36.1"
    handlers = cluster.json("get", "node", NODE)["status"].get("runtimeHandlers", [])
    assert any(each["features"]["recursiveReadOnlyMounts"] for each in handlers)


def test_run_get_describe_and_delete(cluster: ControlPlane, busybox: str) -> None:
    with contextlib.ExitStack() as stack:
        watch = cluster.start("get", "pods", "--watch", "--output-watch-events", "--no-headers")
        stack.callback(watch.wait)
        stack.callback(watch.kill)
        cluster.run_pod("web", busybox, "sleep", "1000")
        assert re.search(r"web +1/1 +Running +0", cluster.kubectl("get", "pods"))
        assert "minikubelet://" in cluster.kubectl("describe", "pod", "web")
        wait_for("its event", lambda: "Started" in cluster.kubectl("describe", "pod", "web"))
        cluster.kubectl("delete", "pod", "web", "--wait", "--grace-period=1")
        assert watch.stdout is not None
        seen = ""
        while "DELETED" not in seen:
            line = watch.stdout.readline()
            assert line, f"the watch ended: {seen}"
            seen += line
        assert "ADDED" in seen and "Running" in seen
    assert cluster.json("get", "pods")["items"] == []


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_exec(cluster: ControlPlane, busybox: str, websockets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cluster.env, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
    cluster.run_pod("exec", busybox, "sleep", "1000")
    assert cluster.kubectl("exec", "exec", "--", "hostname") == "exec"
    assert cluster.kubectl("exec", "-i", "exec", "--", "cat", stdin="there and back") == "there and back"
    with pytest.raises(KubectlFailed, match="exit code 7"):
        cluster.kubectl("exec", "exec", "--", "sh", "-c", "exit 7")
    with cluster.terminal("exec", "-it", "exec", "--", "sh", size=(33, 111)) as terminal:
        terminal.expect_after("echo $((6*7))\r", r"\s42\s")
        terminal.expect_after("stty size\r", r"33 111")
        terminal.resize(44, 122)
        terminal.expect_after("stty size\r", r"44 122")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5


def test_logs_follow(cluster: ControlPlane, busybox: str) -> None:
    cluster.run_pod("logs", busybox, "sh", "-c", "echo one; until [ -e /go ]; do sleep 0.1; done; echo two")
    with contextlib.ExitStack() as stack:
        logs = cluster.start("logs", "-f", "logs")
        stack.callback(logs.wait)
        stack.callback(logs.kill)
        assert logs.stdout is not None
        assert logs.stdout.readline() == "one\n"
        with contextlib.suppress(KubectlFailed):  # the container may end before the program that ends it
            cluster.kubectl("exec", "logs", "--", "touch", "/go")
        assert logs.stdout.readline() == "two\n"
    wait_for("a restart", lambda: _restarts(cluster, "logs") >= 1)
    assert cluster.kubectl("logs", "--previous", "logs").splitlines() == ["one", "two"]


def _restarts(cluster: ControlPlane, pod: str) -> int:
    statuses = cluster.json("get", "pod", pod)["status"].get("containerStatuses") or [{"restartCount": 0}]
    return int(statuses[0]["restartCount"])


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_port_forward(
    cluster: ControlPlane, images: Mapping[str, str], websockets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cluster.env, "KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
    probe = {"httpGet": {"path": "/hostname", "port": 8080}, "periodSeconds": 1}
    container = {"name": "forward", "args": ["netexec", "--http-port=8080"], "readinessProbe": probe}
    image = images["AGNHOST"]  # kubectl gives up at the first connection that is refused
    cluster.run_pod("forward", image, containers=[{**container, "image": image}])
    port = free_port()
    forward = cluster.start("port-forward", "pod/forward", f"{port}:8080")
    try:
        url = f"http://127.0.0.1:{port}/hostname"
        wait_for("the forwarded page", lambda: fetch(url) == b"forward")
        assert [fetch(url) for _ in range(5)] == [b"forward"] * 5
    finally:
        forward.kill()
        forward.wait()


def test_cp(cluster: ControlPlane, busybox: str, tmp_path: Path) -> None:
    cluster.run_pod("copies", busybox, "sleep", "1000")
    (tmp_path / "file").write_bytes(data := os.urandom(3_000_000))
    cluster.kubectl("cp", tmp_path / "file", "copies:/tmp/file")
    cluster.kubectl("cp", "copies:/tmp/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_attach(cluster: ControlPlane, busybox: str) -> None:
    arguments = ["run", "attached", f"--image={busybox}", "-it", "--restart=Never", "--rm"]
    overrides = f'--overrides={{"spec": {{"nodeName": "{NODE}"}}}}'
    with cluster.terminal(*arguments, overrides, "--command", "--", "sh") as terminal:
        terminal.expect_after("echo $((6*7))\r", r"\s42\s")
        terminal.type("exit\r")
        assert terminal.wait() == 0
    cluster.run_pod(
        "second", busybox, "sh", "-c", "while read line; do echo got $line; done", **_stdin(busybox)
    )
    with contextlib.ExitStack() as stack:
        attach = cluster.start("attach", "-i", "second")
        stack.callback(attach.communicate)
        stack.callback(attach.kill)
        assert attach.stdin is not None
        attach.stdin.write("this\n")
        attach.stdin.flush()
        wait_for("the answer", lambda: cluster.kubectl("logs", "second") == "got this")


def _stdin(image: str) -> dict[str, object]:
    command = ["sh", "-c", "while read line; do echo got $line; done; sleep 1000"]
    return {"containers": [{"name": "second", "image": image, "stdin": True, "command": command}]}


def test_debug(cluster: ControlPlane, busybox: str, images: Mapping[str, str]) -> None:
    cluster.run_pod("target", images["AGNHOST"], "/agnhost", "pause")
    arguments = ["debug", "target", "-it", f"--image={busybox}", "--target=target", "-c", "debugger"]
    with cluster.terminal(*arguments, "--", "sh") as terminal:
        terminal.expect_after("ps -o args\r", r"/agnhost pause")
        terminal.type("exit\r")
        assert terminal.wait() == 0
    (status,) = cluster.json("get", "pod", "target")["status"]["ephemeralContainerStatuses"]
    assert status["name"] == "debugger"


def test_objects_reach_the_pod(cluster: ControlPlane, busybox: str) -> None:
    cluster.kubectl("create", "configmap", "settings", "--from-literal=colour=green")
    cluster.kubectl("create", "secret", "generic", "hidden", "--from-literal=word=open")
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    container = {
        "name": "objects",
        "image": busybox,
        "command": ["sleep", "1000"],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "volumeMounts": [{"name": "all", "mountPath": "/all"}],
    }
    sources = [{"configMap": {"name": "settings"}}, {"secret": {"name": "hidden"}}]
    volumes = [{"name": "all", "projected": {"sources": sources}}]
    try:
        cluster.run_pod("objects", busybox, containers=[container], volumes=volumes)
        assert cluster.kubectl("exec", "objects", "--", "sh", "-c", "echo $colour") == "green"
        assert cluster.kubectl("exec", "objects", "--", "cat", "/all/word") == "open"
        assert cluster.kubectl("exec", "objects", "--", "cat", token).count(".") == 2
    finally:
        cluster.kubectl("delete", "configmap/settings", "secret/hidden")

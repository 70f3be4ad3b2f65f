"""Sessions as a user of crictl has them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.host.node import CrictlFailed, Node, wait_for
from tests.registry import Registry


def test_version_and_info(node: Node) -> None:
    version = node.crictl("version")
    assert "RuntimeName:  minikubelet" in version
    assert "RuntimeApiVersion:  v1" in version
    info = json.loads(node.crictl("info"))
    conditions = {each["type"]: each["status"] for each in info["status"]["conditions"]}
    assert conditions["RuntimeReady"] is True
    assert conditions["NetworkReady"] is True


def test_a_pod_from_birth_to_removal(node: Node, busybox: str) -> None:
    pod = node.run_pod("web", labels={"app": "web"})
    assert re.fullmatch(r"[0-9a-f]{64}", pod)
    assert node.crictl("pods", "--quiet", "--no-trunc", "--label", "app=web") == pod
    assert "SANDBOX_READY" in node.crictl("inspectp", pod)

    serve = "mkdir /www && echo hello >/www/index.html && echo serving && exec httpd -f -p 80 -h /www"
    server = node.create(pod, "server", busybox, "sh", "-c", serve)
    assert node.status(server)["state"] == "CONTAINER_CREATED"
    node.crictl("start", server)
    status = node.status(server)
    assert status["state"] == "CONTAINER_RUNNING"
    assert status["image"]["image"] == busybox
    listed = node.crictl("ps")
    assert "server" in listed
    assert "Running" in listed
    assert server[:13] in listed

    wait_for("the log line", lambda: "serving" in node.crictl("logs", server))
    ip = node.pod_ip(pod)
    wait_for("the page", lambda: _page(node, server, f"http://{ip}/") == "hello")

    node.crictl("stop", "--timeout", "1", server)
    exited = node.status(server)
    assert exited["state"] == "CONTAINER_EXITED"
    assert exited["finishedAt"] >= exited["startedAt"]
    node.crictl("rm", server)
    assert node.crictl("ps", "--all", "--quiet") == ""
    node.crictl("stopp", pod)
    assert "NotReady" in node.crictl("pods")
    node.crictl("rmp", pod)
    assert node.crictl("pods", "--quiet") == ""


def _page(node: Node, container: str, url: str) -> str:
    try:
        return node.crictl("exec", "--sync", container, "wget", "-q", "-O", "-", url)
    except CrictlFailed:
        return ""


def test_run_does_pull_runp_create_and_start(node: Node, busybox: str) -> None:
    container = node.container_file("quick", busybox, "sh", "-c", "echo done; sleep 1000")
    node.crictl("run", "--no-pull", container, node.pod_file("quick"))
    (entry,) = node.json("ps")["containers"]
    assert entry["metadata"]["name"] == "quick"
    assert entry["state"] == "CONTAINER_RUNNING"
    wait_for("its output", lambda: node.crictl("logs", entry["id"]) == "done")


def test_pod_and_container_ids_may_be_short(node: Node, busybox: str) -> None:
    pod = node.run_pod("short")
    container = node.start_container(pod, "main", busybox, "sleep", "1000")
    assert json.loads(node.crictl("inspectp", pod[:13]))["status"]["id"] == pod
    assert node.status(container[:13])["id"] == container
    node.crictl("stop", "--timeout", "0", container[:13])
    assert node.status(container)["exitCode"] == 137


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(node: Node, busybox: str, code: int) -> None:
    pod = node.run_pod("exits")
    container = node.start_container(pod, "main", busybox, "sh", "-c", f"exit {code}")
    status = node.wait_exited(container)
    assert status["exitCode"] == code
    assert status["reason"] == ("Completed" if code == 0 else "Error")


def test_a_signal_is_128_more(node: Node, busybox: str) -> None:
    pod = node.run_pod("signals")
    container = node.start_container(pod, "main", busybox, "sh", "-c", "kill -SEGV $$")
    assert node.wait_exited(container)["exitCode"] == 139


def test_stop_waits_for_the_grace_period_only_as_long_as_needed(node: Node, busybox: str) -> None:
    pod = node.run_pod("graceful")
    script = "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.1; done"
    container = node.start_container(pod, "main", busybox, "sh", "-c", script)
    wait_for("the trap is set", lambda: node.crictl("logs", container) == "up")
    node.crictl("stop", "--timeout", "600", container)
    assert node.status(container)["exitCode"] == 3
    assert node.crictl("logs", container).splitlines() == ["up", "bye"]


def test_exec_sync(node: Node, busybox: str) -> None:
    pod = node.run_pod("exec")
    container = node.start_container(pod, "main", busybox, "sleep", "1000")
    assert node.crictl("exec", "--sync", container, "hostname") == "exec"
    assert node.crictl("exec", "--sync", container, "sh", "-c", "echo $((6 * 7))") == "42"
    with pytest.raises(CrictlFailed) as failed:
        node.crictl("exec", "--sync", container, "sh", "-c", "echo oops >&2; exit 7")
    assert "oops" in failed.value.output
    assert "7" in failed.value.output
    with pytest.raises(CrictlFailed) as failed:
        node.crictl("exec", "--sync", container, "no-such-program")
    assert "no-such-program" in failed.value.output
    with pytest.raises(CrictlFailed, match=r"(?i)deadline|timed out|timeout"):
        node.crictl("exec", "--sync", "--timeout", "1", container, "sleep", "1000")

    def sleepers() -> int:
        return node.crictl("exec", "--sync", container, "ps", "-o", "args").splitlines().count("sleep 1000")

    wait_for("the container's own sleep is the only one left", lambda: sleepers() == 1)


def test_exec_streams(node: Node, busybox: str) -> None:
    pod = node.run_pod("streams")
    container = node.start_container(pod, "main", busybox, "sleep", "1000")
    assert node.crictl("exec", container, "echo", "over a stream") == "over a stream"
    assert node.crictl("exec", "--interactive", container, "cat", stdin="there and back") == "there and back"


def test_logs(node: Node, busybox: str) -> None:
    pod = node.run_pod("logs")
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf partial"
    container = node.start_container(pod, "main", busybox, "sh", "-c", script)
    node.wait_exited(container)
    lines = (node.logs / "logs/main.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) [FP] ", line) for line in lines)
    assert [line.split(" ", 3)[3] for line in lines if " stderr " in line] == ["err 1", "err 2", "err 3"]
    out = [line.split(" ", 2)[2] for line in lines if " stdout " in line]  # the two streams may interleave
    assert out[:3] == ["F out 1", "F out 2", "F out 3"]
    assert out[3:] in (["P partial"], ["F partial"])
    assert node.crictl("logs", container).splitlines() == ["out 1", "out 2", "out 3", "partial"]


def test_images(node: Node, busybox: str, registry: Registry) -> None:
    other = f"{registry.address}/configured:1"
    assert "Image is up to date" in node.crictl("pull", other)
    listed = {tag: each for each in node.json("images")["images"] for tag in each["repoTags"]}
    assert {busybox, other} <= set(listed)
    image = json.loads(node.crictl("inspecti", other))
    assert image["status"]["id"] == listed[other]["id"]
    assert image["status"]["username"] == "web" or image["status"]["uid"] is not None
    assert image["info"]["imageSpec"]["config"]["WorkingDir"] == "/app"
    node.crictl("rmi", other)
    assert other not in node.crictl("images")
    with pytest.raises(CrictlFailed):
        node.crictl("inspecti", other)


def test_an_image_configures_its_containers(node: Node, registry: Registry) -> None:
    image = f"{registry.address}/configured:1"
    node.crictl("pull", image)
    pod = node.run_pod("configured")
    container = node.start_container(pod, "main", image)
    node.wait_exited(container)
    logged = node.crictl("logs", container)
    assert logged == "uid=1000 gid=1000 groups=1000 29 44 pwd=/app greeting=hello args=from image"


def test_stats(node: Node, busybox: str) -> None:
    pod = node.run_pod("stats")
    container = node.start_container(pod, "main", busybox, "sh", "-c", "while :; do :; done")

    def used() -> int:
        (entry,) = node.json("stats")["stats"]
        assert entry["attributes"]["id"] == container
        return int(entry["cpu"]["usageCoreNanoSeconds"]["value"])

    wait_for("its use is counted, which some kernels do by ticks", used)
    (pod_entry,) = node.json("statsp")["stats"]
    assert pod_entry["attributes"]["id"] == pod


def test_metrics(node: Node, busybox: str) -> None:
    pod = node.run_pod("metrics")
    container = node.start_container(pod, "main", busybox, "sleep", "1000")
    descriptors = {item["name"]: item for item in json.loads(node.crictl("metricdescs"))["descriptors"]}
    assert descriptors["container_cpu_usage_seconds_total"]["labelKeys"][0] == "pod"
    (entry,) = json.loads(node.crictl("metricsp"))["podMetrics"]
    assert entry["podSandboxId"] == pod
    received = [m for m in entry["metrics"] if m["name"] == "container_network_receive_bytes_total"]
    assert [m["labelValues"][-1] for m in received] == ["eth0"]
    (main,) = entry["containerMetrics"]
    assert main["containerId"] == container
    values = {item["name"]: int(item["value"]["value"]) for item in main["metrics"]}
    assert set(values) <= set(descriptors)
    assert values["container_processes"] == 1
    assert values["container_memory_usage_bytes"] > 0
    assert values["container_file_descriptors"] >= 3
    assert values["container_fs_limit_bytes"] > 0


def test_what_is_asked_for_twice_or_is_gone(node: Node, busybox: str) -> None:
    pod = node.run_pod("again")
    with pytest.raises(CrictlFailed):
        node.run_pod("again")
    container = node.create(pod, "main", busybox, "sleep", "1000")
    with pytest.raises(CrictlFailed):
        node.create(pod, "main", busybox, "sleep", "1000")
    node.crictl("start", container)
    with pytest.raises(CrictlFailed):
        node.crictl("start", container)
    for _ in range(2):
        node.crictl("stop", "--timeout", "0", container)
        node.crictl("stopp", pod)
    node.crictl("rmp", pod)
    with pytest.raises(CrictlFailed, match=r"(?i)not.?found"):
        node.crictl("inspectp", pod)
    with pytest.raises(CrictlFailed, match=r"(?i)not.?found"):
        node.crictl("start", container)


def test_a_program_that_is_not_there(node: Node, busybox: str) -> None:
    pod = node.run_pod("missing")
    container = node.create(pod, "main", busybox, "/no/such/program")
    with pytest.raises(CrictlFailed) as failed:
        node.crictl("start", container)
    assert "/no/such/program" in failed.value.output
    status = node.status(container)
    assert status["state"] == "CONTAINER_EXITED"
    assert status["exitCode"] != 0


def test_a_host_port_leads_to_the_pod(node: Node, busybox: str, tmp_path: Path) -> None:
    import urllib.request

    mapping = {"protocol": 0, "container_port": 80, "host_port": 18080}
    pod = node.run_pod("ported", port_mappings=[mapping])
    script = "mkdir /www && echo ported >/www/index.html && exec httpd -f -p 80 -h /www"
    node.start_container(pod, "main", busybox, "sh", "-c", script)

    def page() -> str:
        try:
            with urllib.request.urlopen("http://127.0.0.1:18080/", timeout=10) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            return ""

    wait_for("the page on the host port", lambda: page() == "ported")


def test_pods_reach_one_another(node: Node, busybox: str) -> None:
    first, second = node.run_pod("first"), node.run_pod("second")
    script = "mkdir /www && echo first >/www/index.html && exec httpd -f -p 80 -h /www"
    node.start_container(first, "server", busybox, "sh", "-c", script)
    client = node.start_container(second, "client", busybox, "sleep", "1000")
    url = f"http://{node.pod_ip(first)}/"
    wait_for("the other pod's page", lambda: _page(node, client, url) == "first")
    assert node.pod_ip(first) != node.pod_ip(second)

"""The manifests of examples/ on a node, each looked at the way its first lines promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikubelet.cli.main import main
from tests.host.cli.conftest import Cli
from tests.host.node import PATIENCE, PEERS, Node, wait_for
from tests.images import catalog
from tests.images.layout import oci_archive

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.53"
SCRIPTED = "web"  # tests/host/test_run_script.py runs it as README says


class Examples:
    """A node, and the command line that talks to it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cli = Cli(("--run", str(node.run), "--listen", node.config.listen))
        self.applied: list[Path] = []

    def apply(self, name: str) -> None:
        path = EXAMPLES / f"{name}.yaml"
        self.cli("apply", "-f", str(path))
        self.applied.append(path)

    def delete_all(self) -> None:
        for path in self.applied:
            self.cli("delete", "-f", str(path), "--ignore-not-found")
        self.applied.clear()

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """The v1 Pod."""
        found: dict[str, Any] = json.loads(self.cli("get", "pod", name, "-n", namespace, "-o", "json"))
        return found

    def run(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """Apply the manifest; the pod once it is Ready."""
        self.apply(name)
        self.wait_ready(name, namespace)
        return self.pod(name, namespace)

    def wait_ready(self, name: str, namespace: str = "default") -> None:
        def ready() -> bool:
            done = self.cli.run("explain", "pod", name, "-n", namespace)
            return done.returncode == 0 and b"is Ready" in done.stdout

        wait_for(f"{name} is Ready", ready)

    def wait_log(self, pattern: str, name: str, *options: str) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            return re.search(pattern, self.cli("logs", name, *options))

        match = wait_for(f"{name} logs {pattern!r}", found)
        assert match is not None
        return match

    def exec(self, name: str, *command: str) -> str:
        return self.cli("exec", name, "--", *command)


def get(pod: dict[str, Any], port: int, path: str) -> str:
    """What the pod serves."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:{port}{path}", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


@pytest.fixture(scope="module")
def running(certs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    home = tmp_path_factory.mktemp("examples")
    home.chmod(0o711)
    for parent in home.parents[:2]:
        parent.chmod(0o711)  # the root of a user namespace is nobody special on the way to a rootfs
    image = home / "example.tar"
    subprocess.run([sys.executable, ROOT / "scripts" / "example-image", image], check=True)
    node = Node(home / "node", certs_dir, kubelet=True)
    try:
        node.start()
        made = Examples(node)
        made.cli("image", "load", str(image))
        yield made
    finally:
        node.finish()


@pytest.fixture
def examples(running: Examples) -> Iterator[Examples]:
    yield running
    running.delete_all()


def test_every_example_is_here_and_clean(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.yaml"):
        assert path.stem == SCRIPTED or f'"{path.stem}"' in here, f"no test runs {path.name}"
        assert main(["lint", "--strict", str(path)]) == 0, capsys.readouterr().out


def test_site(examples: Examples, tmp_path: Path) -> None:
    pod = examples.run("site")
    assert get(pod, 8080, "/") == "<h1>It is up</h1>\n"
    other = tmp_path / "site.yaml"
    other.write_text((EXAMPLES / "site.yaml").read_text().replace("It is up", "It is new"))
    assert "configmap/site configured" in examples.cli("apply", "-f", str(other))
    wait_for("the new page", lambda: "It is new" in get(pod, 8080, "/"))
    after = examples.pod("site")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_home_service(examples: Examples) -> None:
    pod = examples.run("home-service")
    assert get(pod, 80, "/") == "Good morning from home in Europe/Berlin\n"
    for port, path, expected in ((18180, "/visits", "1\n"), (18181, "/metrics", "visits_total 1\n")):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            assert answer.read().decode() == expected
    assert examples.exec("home-service", "cat", "/etc/resolv.conf").split() == [
        *("search", "home.test", "nameserver", "9.9.9.9", "options", "ndots:1")
    ]
    assert re.search(r"^10\.0\.0\.7\s+printer\s+printer\.home\.test$", hosts(examples), re.M)
    assert examples.exec("home-service", "id", "-u") == "1000\n"
    examples.delete_all()
    again = examples.run("home-service")
    assert get(again, 80, "/visits") == "2\n"  # the claim's folder has stayed


def hosts(examples: Examples) -> str:
    return examples.exec("home-service", "cat", "/etc/hosts")


def test_job(examples: Examples) -> None:
    examples.apply("job")
    wait_for("the job is done", lambda: examples.pod("job")["status"]["phase"] == "Succeeded")
    (status,) = examples.pod("job")["status"]["containerStatuses"]
    assert status["restartCount"] == 1
    assert status["state"]["terminated"]["message"] == "words: 7\n"
    assert examples.cli("logs", "job") == "words: 7\n"
    assert examples.cli("logs", "job", "--previous") == "not this time\n"
    assert "has done its work" in examples.cli("explain", "pod", "job")


def test_log_shipper(examples: Examples) -> None:
    pod = examples.run("log-shipper")
    examples.wait_log(r"(?m)^pod=log-shipper-\S+ request 2$", "log-shipper", "-c", "ship")
    (sidecar,) = pod["status"]["initContainerStatuses"]
    assert sidecar["started"] and sidecar["ready"]
    began = sidecar["state"]["running"]["startedAt"]
    assert began <= pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]


def test_credentials(examples: Examples) -> None:
    examples.run("credentials")
    examples.wait_log(r"\Aconnecting to postgres://reader@db\.internal:5432/app\n\Z", "credentials")
    path = "/run/credentials/db/password"
    assert examples.exec("credentials", "cat", path) == "not-a-real-one"
    # fsGroup adds its group's right to read, as upstream does
    assert examples.exec("credentials", "stat", "-L", "-c", "%a %g", path) == "440 1000\n"
    assert examples.exec("credentials", "stat", "-f", "-c", "%T", path) == "tmpfs\n"
    assert "not-a-real-one" not in examples.cli("get", "pod", "credentials", "-o", "yaml")
    assert "not-a-real-one" not in examples.node.log()


def test_database(examples: Examples) -> None:
    pod = examples.run("database")
    wait_for("postStart has run", lambda: get(pod, 5432, "/journal") == "started\n")
    assert examples.exec("database", "id") == "uid=1000(web) gid=1000(web) groups=1000(web)\n"
    examples.cli("delete", "pod", "database")
    again = examples.run("database")
    wait_for("all are in it", lambda: get(again, 5432, "/journal") == "started\nflushed\nstarted\n")


def test_about_me(examples: Examples) -> None:
    pod = examples.run("about-me")
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
    line = f"{name} on {node} at {pod['status']['podIP']}, 1 CPUs"
    examples.wait_log(rf"\A{re.escape(line)}\n\Z", "about-me")
    assert get(pod, 8080, "/labels") == 'app="about-me"\ntier="demo"'
    assert get(pod, 8080, "/pod/contact") == "ops@example.org"
    assert get(pod, 8080, "/motd") == "good morning"


def test_shared_processes(examples: Examples) -> None:
    examples.run("shared-processes")
    server = ("shared-processes", "-c", "server")
    examples.wait_log("up", *server)
    shown = examples.cli("exec", "shared-processes", "-c", "helper", "--", "ps", "-o", "pid,args")
    assert re.search(r"^ +1 .*pause", shown, re.M) and "echo up" in shown, shown
    examples.cli("exec", "shared-processes", "-c", "helper", "--", "sh", "-c", "echo blue > /shared/settings")
    examples.wait_log("read again: blue", *server)
    assert [
        each["restartCount"] for each in examples.pod("shared-processes")["status"]["containerStatuses"]
    ] == [
        0,
        0,
    ]


def test_grpc(examples: Examples, tmp_path: Path) -> None:
    if not (PEERS / "agnhost").exists():
        pytest.skip("agnhost is not built: run scripts/peers agnhost")
    archive = tmp_path / "agnhost.tar"
    archive.write_bytes(oci_archive({AGNHOST: catalog.agnhost(PEERS / "agnhost")}))
    examples.cli("image", "load", str(archive))
    pod = examples.run("grpc")
    get(pod, 8080, "/make-not-serving")

    def restarted() -> bool:
        (status,) = examples.pod("grpc")["status"]["containerStatuses"]
        return bool(status["restartCount"] == 1 and status["ready"])

    wait_for("the liveness probe has it restarted", restarted)
    shown = examples.cli("events", "--for", "pod/grpc")
    assert "Container server failed liveness probe, will be restarted" in shown
    assert re.search(r"Readiness probe failed: .*NOT_SERVING", shown), shown


def test_hardened(examples: Examples) -> None:
    pod = examples.run("hardened")
    assert pod["spec"]["hostUsers"] is False
    inside, outside, count = examples.wait_log(r"(\d+) +(\d+) +(\d+)", "hardened").groups()
    assert int(inside) == 0 and int(outside) >= 65536 and int(count) == 65536
    examples.wait_log(r"(?m)^Seccomp:", "hardened")
    facts = dict(re.findall(r"(?m)^(\w+):\t(\S+)$", examples.cli("logs", "hardened")))
    assert facts == {"CapEff": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    tried = examples.cli.run("exec", "hardened", "--", "touch", "/file")
    assert tried.returncode == 1 and b"Read-only file system" in tried.stderr
    assert examples.exec("hardened", "sh", "-c", "echo x > /tmp/file && cat /tmp/file") == "x\n"


def test_node_agent(examples: Examples) -> None:
    examples.run("node-agent", "kube-system")
    host = Path("/etc/hostname").read_text().strip()
    with urllib.request.urlopen("http://127.0.0.1:19100/about", timeout=PATIENCE) as answer:
        assert answer.read().decode() == f"{host}, kernel {os.uname().release}\n"
    with urllib.request.urlopen("http://127.0.0.1:19100/processes", timeout=PATIENCE) as answer:
        assert int(answer.read()) > 5  # the host's: this test's, the daemon's, …
    agent = ("exec", "-n", "kube-system", "node-agent", "--")
    tried = examples.cli.run(*agent, "touch", "/host/etc/minikubelet-was-here")
    assert tried.returncode == 1 and b"Read-only file system" in tried.stderr
    status = examples.pod("node-agent", "kube-system")["status"]
    assert status["podIP"] == status["hostIP"]


def test_image_volume(examples: Examples) -> None:
    pod = examples.run("image-volume")
    assert "web:x:1000:1000" in get(pod, 8080, "/etc/passwd")
    tried = examples.cli.run("exec", "image-volume", "--", "touch", "/content/file")
    assert tried.returncode == 1 and b"Read-only file system" in tried.stderr

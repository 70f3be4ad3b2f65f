"""Looking into a running pod with a container more."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.cli.conftest import Cli, read_terminal
from tests.host.node import PROGRAM, Node, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WEB = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  containers:
    - name: server
      image: IMAGE
      command: [sh, -c, "echo hello > /data/index.html; exec httpd -f -p 8080 -h /data"]
      volumeMounts: [{name: data, mountPath: /data}]
      readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
"""


@pytest.fixture
def node(new_node: Callable[..., Node]) -> Iterator[Node]:
    made = new_node(kubelet=True)
    made.start()
    yield made
    Cli(("--run", str(made.run)))("delete", "pods", "--all")


@pytest.fixture
def cli(node: Node, tmp_path: Path, busybox: str) -> Cli:
    """A node with a web server on it."""
    made = Cli(("--run", str(node.run)))
    path = tmp_path / "web.yaml"
    path.write_text(WEB.replace("IMAGE", busybox))
    made("apply", "-f", str(path))
    wait_for("the pod serves", lambda: b" 1/1 " in made.run("get", "pods", "web", "--no-headers").stdout)
    return made


def ephemeral(cli: Cli, name: str) -> dict[str, Any]:
    """The state of a container; empty as long as there is none, or no pod."""
    done = cli.run("get", "pod", "web", "-o", "json")
    pod = json.loads(done.stdout) if done.returncode == 0 else {"status": {}}
    found = [s for s in pod["status"].get("ephemeralContainerStatuses", []) if s["name"] == name]
    return dict(found[0]["state"]) if found else {}


def test_one_command_in_the_pods_network_among_the_targets_processes(cli: Cli, busybox: str) -> None:
    script = "read word; echo $word; pidof httpd; wget -qO- 127.0.0.1:8080; cat /proc/1/root/data/index.html"
    words = ("debug", "-q", "-i", "web", f"--image={busybox}", "--target=server", "-c", "look")
    done = cli.run(*words, "--", "sh", "-c", f"{script}; exit 7", stdin=b"asked\n")
    assert (done.returncode, done.stdout) == (7, b"asked\n1\nhello\nhello\n"), done.stderr
    # Without --target there is nobody else.
    plain = ("debug", "-q", "-i", "web", f"--image={busybox}")
    done = cli.run(*plain, "--", "sh", "-c", "cat; pidof httpd; cat /proc/1/comm; exit", stdin=b"all\nof it")
    assert (done.returncode, done.stdout) == (0, b"all\nof itsh\n"), done.stderr
    assert cli("logs", "web", "-c", "look") == "asked\n1\nhello\nhello\n"
    shown = cli("describe", "pod", "web")
    assert "Ephemeral Containers:" in shown and "Exit Code:    7" in shown
    assert cli("get", "pods", "web", "--no-headers").split()[1:4] == ["1/1", "Running", "0"]


def test_a_shell_on_a_terminal(cli: Cli, busybox: str) -> None:
    words = ["debug", "-it", "web", f"--image={busybox}", "-c", "shell", "--", "sh"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(str(PROGRAM), [str(PROGRAM), *cli.options, *words])
    os.write(terminal, b"echo a$((1+1))b; tty; exit 5\n")
    seen = b""
    while data := read_terminal(terminal):
        seen += data
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5, seen
    assert b"a2b" in seen and b"/dev/pts/0" in seen


def test_it_outlives_the_daemon_and_goes_with_the_pod(node: Node, cli: Cli, busybox: str) -> None:
    image = f"--image={busybox}"
    cli("debug", "web", image, "-c", "stays", "--", "sh", "-c", "echo begun; sleep 1000")
    cli("debug", "web", image, "-c", "ends", "--", "sh", "-c", "echo once; exit 3")
    wait_for("one has begun", lambda: "running" in ephemeral(cli, "stays"))
    wait_for("it has said so", lambda: cli.run("logs", "web", "-c", "stays").stdout == b"begun\n")
    wait_for("one has ended", lambda: "terminated" in ephemeral(cli, "ends"))
    node.kill()
    node.start()
    wait_for("the kubelet knows it", lambda: "running" in ephemeral(cli, "stays"))
    wait_for("and the other", lambda: "terminated" in ephemeral(cli, "ends"))
    assert ephemeral(cli, "ends")["terminated"]["exitCode"] == 3
    assert (cli("logs", "web", "-c", "stays"), cli("logs", "web", "-c", "ends")) == ("begun\n", "once\n")
    assert cli("exec", "web", "-c", "stays", "--", "echo", "within") == "within\n"
    done = cli.run("debug", "web", image, "-c", "stays")
    assert done.returncode == 1 and b'Duplicate value: "stays"' in done.stderr
    cli("delete", "pod", "web")
    assert node.json("ps", "-a")["containers"] == []


def test_a_copy_with_a_container_more(cli: Cli, busybox: str) -> None:
    script = "read word; echo $word; until pid=$(pidof httpd); do sleep 0.1; done"
    script += "; cat /proc/$pid/root/data/index.html; exit 7"
    words = ("debug", "-q", "-i", "web", "--copy-to=web-copy", f"--image={busybox}", "-c", "look")
    done = cli.run(*words, "--", "sh", "-c", script, stdin=b"asked\n")
    assert (done.returncode, done.stdout) == (7, b"asked\nhello\n"), done.stderr
    states = {line.split()[0]: line.split()[2] for line in cli("get", "pods", "--no-headers").splitlines()}
    (original,) = (name for name in states if not name.startswith("web-copy"))
    assert states[original] == "Running" and len(states) == 2
    cli("delete", "pod", "web-copy")


def test_a_copy_with_another_command_in_place_of_the_pod(cli: Cli, busybox: str) -> None:
    words = ["debug", "-it", "web", "--copy-to=shell", "--container=server", "--replace", "--", "sh"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(str(PROGRAM), [str(PROGRAM), *cli.options, *words])
    seen = b""
    while b"#" not in seen:
        seen += read_terminal(terminal)
    os.write(terminal, b"echo a$((1+1))b; ls -a /data; exit 5\n")
    while data := read_terminal(terminal):
        seen += data
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5, seen
    assert b"a2b" in seen and b"index.html" not in seen
    (name,) = cli("get", "pods", "-o", "go-template={{range .items}}{{.metadata.name}} {{end}}").split()
    assert name.startswith("shell-")
    assert cli.run("get", "pod", "web").returncode == 1

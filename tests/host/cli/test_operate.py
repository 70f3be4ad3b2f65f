"""A running node by command: put pods on it, look into them, take them off again."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.cli.conftest import Cli
from tests.host.node import PATIENCE, PROGRAM, Node, wait_for
from tests.images import catalog
from tests.images.build import Format, Layer, build_image, build_index
from tests.registry import Auth, Registry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WEB = """\
# served by busybox
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: server
      image: IMAGE
      command: [sh, -c, "mkdir /srv; echo hello > /srv/index.html; exec httpd -f -p 8080 -h /srv"]
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
    - name: echo
      image: IMAGE
      command: [sh, -c, 'while read -r line; do echo "got $line"; done']
      stdin: true
"""


@pytest.fixture
def cli(new_node: Callable[..., Node]) -> Iterator[Cli]:
    node = new_node(kubelet=True)
    node.start()
    made = Cli(("--run", str(node.run)))
    yield made
    made("delete", "pods", "--all")


@pytest.fixture
def web(tmp_path: Path, busybox: str) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(WEB.replace("IMAGE", busybox))
    return path


def is_ready(cli: Cli, name: str) -> bool:
    done = cli.run("get", "pods", name, "--no-headers")
    return done.returncode == 0 and b"2/2" in done.stdout


def shows(cli: Cli, pattern: str, *words: str) -> None:
    """Wait until a command prints such a line: what it tells of may be measured, or told, a little later."""
    wait_for(pattern, lambda: re.search(pattern, cli.run(*words).stdout.decode(), re.M))


def test_apply_look_and_delete(cli: Cli, web: Path) -> None:
    assert cli("apply", "-f", str(web), "--dry-run") == "pod/web created (dry run)\n"
    assert cli.run("get", "pods").stderr == b"No resources found in default namespace.\n"
    done = cli.run("diff", "-f", str(web))
    assert done.returncode == 1 and b"\n+kind: Pod\n" in done.stdout
    assert cli("apply", "-f", str(web)) == "pod/web created\n"
    wait_for("the pod is ready", lambda: is_ready(cli, "web"))
    assert cli("explain", "pod", "web").startswith("Pod web-")
    assert "is Ready" in cli("explain", "pod", "web")
    shown = cli("events", "--for", "pod/web")
    assert re.search(r"^\S+ +Normal +Started +Pod/web-\S+ +", shown, re.M), shown
    assert cli("apply", "-f", str(web)) == "pod/web unchanged\n"
    assert cli("diff", "-f", str(web)) == ""
    shows(cli, r"^web-\S+ +server +\d+m +\d+Mi$", "top", "pods", "--containers", "--no-headers")
    shows(cli, r"^\S+ +\d+m +\d+% +\d+Mi +\d+%$", "top", "node", "--no-headers")
    assert cli("delete", "pod", "web") == 'pod "web" deleted from default namespace\n'
    assert cli.run("get", "pods").stderr == b"No resources found in default namespace.\n"
    done = cli.run("delete", "-f", str(web))
    assert (done.returncode, done.stderr) == (1, b'error: pods "web" not found\n')
    assert cli("delete", "-f", str(web), "--ignore-not-found") == ""


def test_waiting_for_pods(cli: Cli, web: Path) -> None:
    done = cli.run("wait", "--for=condition=Ready", "-f", str(web), "--timeout=0")
    assert (done.returncode, done.stderr) == (1, b'error: pods "web" not found\n')
    cli("apply", "-f", str(web))
    shown = cli("wait", "--for=create", "--for=condition=Ready", "-f", str(web), f"--timeout={PATIENCE}s")
    assert re.fullmatch(r"(pod/web-\S+ condition met\n){2}", shown), shown
    assert is_ready(cli, "web")
    done = cli.run("wait", "--for=jsonpath={.status.phase}=Failed", "pod/web", "--timeout=100ms")
    assert done.returncode == 1 and b"timed out waiting for the condition on pods/web-" in done.stderr
    cli("delete", "-f", str(web), "--wait=false")
    cli("wait", "--for=delete", "pods", "-l", "app=web", f"--timeout={PATIENCE}s")
    assert cli.run("get", "pods").stderr == b"No resources found in default namespace.\n"


def test_the_node_and_what_pods_refer_to(cli: Cli, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {key: hidden}\n")
    cli("apply", "-f", str(site))

    def described() -> str:
        return cli.run("describe", "secret", "keys").stdout.decode()

    shown = wait_for("the Secret is read", described)
    assert "key:  6 bytes" in shown and "hidden" not in shown
    shows(cli, rf"^{re.escape(socket.gethostname())} +Ready ", "get", "nodes", "--no-headers")
    shows(cli, r"^  Ready +True .* KubeletReady +kubelet is posting ready status$", "describe", "node")
    shown = cli("describe", "node")
    assert re.search(r"^  Container Runtime Version: +minikubelet://", shown, re.M), shown
    assert re.search(rf"^  cpu: +{os.cpu_count()}$", shown, re.M), shown
    cli("delete", "-f", str(site))


def test_a_wrong_manifest_changes_nothing(cli: Cli, web: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.yaml"
    both.write_text(web.read_text() + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: BAD}\nspec: {}\n")
    done = cli.run("apply", "-f", str(both))
    assert done.returncode == 1 and b"metadata.name" in done.stderr and done.stdout == b""
    assert cli.run("get", "pods").stderr == b"No resources found in default namespace.\n"


def test_why_a_pod_is_not_ready(cli: Cli, web: Path, busybox: str) -> None:
    web.write_text(web.read_text().replace("port: http}", "port: 9}"))
    cli("apply", "-f", str(web))

    def told() -> str:
        done = cli.run("explain", "pod", "web")
        return done.stdout.decode() if done.returncode == 1 and b"refused" in done.stdout else ""

    shown = wait_for("the probe has failed", told)
    assert 'Container "server" runs, but its readiness probe doesn\'t succeed' in shown
    assert "HTTP GET / on port 9, every 1s" in shown
    assert "-> Nothing listens on that port" in shown
    web.write_text(WEB.replace("IMAGE", f"{busybox}-not"))
    assert cli("apply", "-f", str(web)) == "pod/web configured\n"

    def pull() -> str:
        done = cli.run("explain", "pod", "web")
        return done.stdout.decode() if b"can't be pulled" in done.stdout else ""

    shown = wait_for("the pull has failed", pull)
    assert f"{busybox}-not" in shown and "-> Check the image's name and tag" in shown


def explained(cli: Cli, name: str, words: str) -> str:
    """What `explain` says once it says these words."""

    def told() -> str:
        shown = cli.run("explain", "pod", name).stdout.decode()
        return shown if words in shown else ""

    return wait_for(words, told)


def test_why_an_image_cant_be_pulled(cli: Cli, web: Path, registry: Registry, certs_dir: Path) -> None:
    form = Format(architecture="s390x")
    foreign = build_image([Layer().file("which", b"s390x")], {}, form)
    with Registry(auth=Auth("basic", "user", "secret")) as closed:
        host = certs_dir / closed.address
        host.mkdir()
        (host / "hosts.toml").write_text(f'server = "{closed.url}"\n')
        images = {
            "closed": (closed.add("team/app:1", catalog.busybox()), "401", "Check the credentials"),
            "nowhere": (f"{registry.address}/nowhere:1", "404", "Check the image's name and tag"),
            "foreign": (registry.add("foreign:1", foreign), "linux/s390x", "this machine's processor"),
            "both": (registry.add("both:1", build_index([(foreign, form)])), "linux/s390x", "processor"),
        }
        for name, (image, _, _) in images.items():
            pod = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": image}]}}
            web.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", **pod}))
            cli("apply", "-f", str(web))
        for name, (image, reason, todo) in images.items():
            shown = explained(cli, name, "can't be pulled")
            assert image in shown and reason in shown and todo in shown, shown


def test_resources_that_the_node_hasnt(cli: Cli, web: Path) -> None:
    text = web.read_text() + "      resources: {requests: {cpu: CPU}}\n"
    web.write_text(text.replace("CPU", "10m"))
    cli("apply", "-f", str(web))
    cli("wait", "--for=create", "--for=condition=Ready", "-f", str(web), f"--timeout={PATIENCE}s")
    web.write_text(text.replace("CPU", "1000"))
    cli("apply", "-f", str(web))
    shown = explained(cli, "web", "can't give it the resources")
    assert "is Ready" in shown and "Node didn't have enough capacity: cpu, requested: 1000000" in shown
    web.write_text(text.replace("CPU", "20m"))
    cli("apply", "-f", str(web))
    goal = "--for=jsonpath={.status.containerStatuses[?(@.name=='echo')].allocatedResources.cpu}=20m"
    cli("wait", goal, "-f", str(web), f"--timeout={PATIENCE}s")
    wait_for("that is over", lambda: "resources" not in cli("explain", "pod", "web"))


def test_files_in_and_out(cli: Cli, web: Path, tmp_path: Path) -> None:
    cli("apply", "-f", str(web))
    wait_for("the pod is ready", lambda: is_ready(cli, "web"))
    site = tmp_path / "site"
    (site / "deep").mkdir(parents=True)
    (site / "deep/page").write_bytes(os.urandom(2_000_000))
    (site / "deep/page").chmod(0o640)
    cli("cp", str(site), "web:/srv/", "-c", "server")
    assert (
        cli("exec", "web", "-c", "server", "--", "stat", "-c", "%a %s", "/srv/site/deep/page")
        == "640 2000000\n"
    )
    cli("cp", "default/web:/srv/site", str(tmp_path / "back"), "-c", "server")
    assert (tmp_path / "back/deep/page").read_bytes() == (site / "deep/page").read_bytes()
    assert (tmp_path / "back/deep/page").stat().st_mode & 0o777 == 0o640
    cli("cp", "web:/srv/index.html", str(tmp_path), "-c", "server")
    assert (tmp_path / "index.html").read_text() == "hello\n"
    done = cli.run("cp", "web:/no/such", str(tmp_path / "x"), "-c", "server")
    assert done.returncode != 0 and b"/no/such" in done.stderr and not (tmp_path / "x").exists()
    done = cli.run("cp", str(site), "web:/no/such/folder", "-c", "server")
    assert done.returncode != 0 and b"tar" in done.stderr


def test_ports_and_streams(cli: Cli, web: Path) -> None:
    cli("apply", "-f", str(web))
    wait_for("the pod is ready", lambda: is_ready(cli, "web"))
    command = [str(PROGRAM), *cli.options, "port-forward", "web", ":http", ":9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as forwarder:
        assert forwarder.stdout is not None and forwarder.stderr is not None
        ports: dict[str, int] = {}
        while len(ports) < 2:
            line = forwarder.stdout.readline().decode()
            assert line, f"it ended, with {ports} told"
            if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line):
                ports[match[2]] = int(match[1])
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", ports["8080"]), PATIENCE) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
            assert answer.endswith(b"hello\n"), answer
        with socket.create_connection(("127.0.0.1", ports["9"]), PATIENCE) as connection:
            assert connection.recv(10) == b""
        assert b"forwarding to port 9" in forwarder.stderr.readline()
        forwarder.terminate()
    command = [str(PROGRAM), *cli.options, "attach", "-i", "web", "-c", "echo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as attached:
        assert attached.stdin is not None and attached.stdout is not None
        attached.stdin.write(b"one\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == b"got one\n"
        attached.terminate()

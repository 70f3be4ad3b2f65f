"""What `run` checks before it starts, and what it prints."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from minikubelet.cli import checks, foreground, options, urls
from minikubelet.cli.main import main
from minikubelet.cli.options import CommandError
from minikubelet.cli.reporter import Reporter
from minikubelet.kubelet.events import NORMAL, WARNING, EventRecorder
from minikubelet.kubelet.objects import Container, ContainerPort, ObjectMeta, Pod, PodSpec, PodStatus
from minikubelet.kubelet.objects.containers import HTTPGetAction, Probe

GOOD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec: {containers: [{name: c, image: i}]}
"""


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_manifests_are_complete_pods(tmp_path: Path) -> None:
    two = GOOD.replace("NAME", "a") + "---" + GOOD.replace("NAME", "b")
    files = [write(tmp_path / "two.yaml", two), write(tmp_path / "one.yaml", GOOD.replace("NAME", "c"))]
    pods = foreground.read_manifests(files)
    assert [pod.metadata.name[0] for pod in pods] == ["a", "b", "c"]
    assert all(pod.uid and pod.spec.restart_policy == "Always" for pod in pods)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no pod"),
        ("kind: {x: ]}", "bad.yaml:1"),
        (GOOD.replace("image: i", "imagee: i").replace("NAME", "x"), "imagee"),
        (GOOD.replace("NAME", "Not_A_Name"), "metadata.name"),
        (GOOD.replace("NAME", "x") + "---" + GOOD.replace("NAME", "x"), "is defined twice"),
    ],
)
def test_bad_manifests_end_it_before_anything_starts(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "bad.yaml", text)
    with pytest.raises(CommandError) as caught:
        foreground.read_manifests([path])
    assert str(caught.value).startswith(path) and words in str(caught.value)
    assert main(["run", "--root", str(tmp_path / "root"), "--run", str(tmp_path / "run"), path]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "root").exists() and not (tmp_path / "run").exists()


SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
NFS = "spec: {volumes: [{name: v, nfs: {server: s, path: /p}}], containers: [{name: c, image: i}]}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SERVICE, "error: there is no pod in these manifests\n"),
        (
            GOOD.replace("NAME", "x").replace("spec: {containers: [{name: c, image: i}]}", NFS),
            "spec.volumes[0].nfs: volumes of this kind are not supported by this node\n",
        ),
    ],
)
def test_what_would_never_run_ends_it_too(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "bad.yaml", text)
    assert main(["run", "--root", str(tmp_path / "root"), "--run", str(tmp_path / "run"), path]) == 1
    assert capsys.readouterr().err.endswith(words)
    assert not (tmp_path / "root").exists() and not (tmp_path / "run").exists()


def test_warnings_are_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(why: str) -> None:
        raise CommandError("enough")

    monkeypatch.setattr(options, "need_root", refuse)
    path = write(tmp_path / "pod.yaml", "---".join([GOOD.replace("NAME", "x") + "\n", "\n" + SERVICE]))
    assert main(["run", "--root", str(tmp_path / "root"), "--run", str(tmp_path / "run"), path]) == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("Warning: ") and "kind: Service has no effect on this node" in warning
    assert error == "error: enough"


def test_missing_manifest() -> None:
    with pytest.raises(CommandError, match=r"/nope\.yaml: No such file or directory"):
        foreground.read_manifests(["/nope.yaml"])


def test_own_folders_sockets_and_cgroup() -> None:
    one, two = (foreground.Settings(root=f"/{name}/root", run=f"/{name}/run") for name in ("one", "two"))
    assert one.daemon.listen == one.kubelet.container_runtime_endpoint == "unix:///one/run/minikubelet.sock"
    assert one.kubelet.socket == "/one/run/kubelet.sock"
    assert one.kubelet.stop_pods_on_exit and not one.daemon.kubelet
    assert one.daemon.cgroup_root != two.daemon.cgroup_root


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    def claim(root: str, run: str) -> None:
        foreground.claim(foreground.Settings(root=str(tmp_path / root), run=str(tmp_path / run)))

    claim("root", "run")
    claim("root", "run")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "precious").write_text("x")
    for root, run in (("theirs", "run"), ("root", "theirs")):
        with pytest.raises(CommandError, match="is not empty, and not of an earlier 'minikubelet run'"):
            claim(root, run)
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["precious"]
    for root, run in (("a", "a"), ("a", "a/b"), ("b/a", "b")):
        with pytest.raises(CommandError, match="must not lie in each other"):
            claim(root, run)
    with pytest.raises(CommandError, match="longer than a unix socket's path"):
        claim("root", "x" * 100)


def test_lines_of_a_run() -> None:
    output = io.StringIO()
    pod = Pod(
        metadata=ObjectMeta(name="web", namespace="default", uid="u"), status=PodStatus(pod_ip="10.0.0.5")
    )
    reporter = Reporter(time.monotonic(), {"u": "web"}, output)
    recorder = EventRecorder("n")
    recorder.pod(pod, NORMAL, "Pulled", "got it", "c")
    recorder.node(NORMAL, "Starting", "not about a pod")
    for _ in range(2):
        recorder.pod(pod, WARNING, "Unhealthy", "no\nanswer", "c")
    for event in recorder.list():
        reporter.event(event)
    reporter.ready(pod, ["http://127.0.0.1:80/"])
    lines = [line.split("s  ", 1)[1] for line in output.getvalue().splitlines()]
    assert lines == [
        "web  Pulled     c: got it",
        "web  Unhealthy  c: no answer (x2)",
        "web  is Ready (10.0.0.5)",
        "web  answers on http://127.0.0.1:80/",
    ]


async def test_urls_that_answer() -> None:
    import asyncio

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        status = b"200 OK" if line.startswith(b"GET /ready ") else b"503 No"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    number = listener.sockets[0].getsockname()[1]
    web = ContainerPort(name="http", container_port=number, protocol="TCP")
    silent = ContainerPort(container_port=1, protocol="TCP")
    datagrams = ContainerPort(container_port=number, protocol="UDP")
    probe = Probe(http_get=HTTPGetAction(path="/ready", port="http"))
    container = Container(name="c", ports=[web, silent, datagrams], readiness_probe=probe)
    pod = Pod(spec=PodSpec(containers=[container]), status=PodStatus(pod_ip="127.0.0.1"))
    async with listener:
        assert await urls.answering(pod) == [f"http://127.0.0.1:{number}/ready"]
        container.readiness_probe = None
        assert await urls.answering(pod) == []


def test_check_has_a_line_for_each_thing_and_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = checks.all_findings(str(tmp_path / "not" / "there"))
    text = " ".join(finding.what for finding in findings)
    for word in ("root", "kernel", "cgroup2", "overlay", "user namespaces", "bridge", "veth", "nf_tables"):
        assert word in text
    for word in ("forwarding", "libnftables", "libseccomp", "seccomp", "AppArmor", "free for"):
        assert word in text
    assert all(finding.consequence for finding in findings if finding.level != "ok")
    failed = any(finding.level == "fail" for finding in findings)
    assert main(["check", "--root", str(tmp_path)]) == int(failed)
    assert ("pods can't run here" if failed else "pods can run here") in capsys.readouterr().out

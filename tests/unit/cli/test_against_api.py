"""Commands against the kubelet's real API on a socket."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from minikubelet.base.errors import Code, NodeError
from minikubelet.cli import many_logs
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.commands import cp
from minikubelet.cli.main import main
from minikubelet.cli.many_logs import Printer, Source
from minikubelet.cli.options import CommandError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.api.server import LocalApi
from minikubelet.kubelet.events import NORMAL, EventRecorder
from minikubelet.kubelet.objects import Container, ContainerStatus, ObjectMeta, Pod, PodSpec, PodStatus
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.objects.data import (
    ConfigMap,
    DataObject,
    PersistentVolumeClaim,
    RuntimeClass,
    Secret,
)
from minikubelet.kubelet.objects.podstatus import ContainerState, ContainerStateRunning
from minikubelet.kubelet.sinks import MemorySink
from tests.unit.kubelet_api import remote


def make_pod(name: str, namespace: str = "default", uid: str = "") -> Pod:
    running = ContainerState(running=ContainerStateRunning(started_at="2026-01-02T03:04:05Z"))
    status = ContainerStatus(
        name="app", state=running, ready=True, restart_count=0, image="i", image_id="", container_id="mk://c1"
    )
    return Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, uid=uid or name, labels={"app": name}),
        spec=PodSpec(node_name="n1", containers=[Container(name="app", image="i")]),
        status=PodStatus(phase="Running", container_statuses=[status], pod_ip="10.0.0.5"),
    )


class Runtime(remote.Runtime):
    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log

    async def container_status(self, container_id: str) -> api.ContainerStatus:
        return api.ContainerStatus(log_path=str(self._log))

    async def exec(self, request: api.ExecRequest) -> str:
        return "http://127.0.0.1:1/nobody"


class Served:
    """The API in a thread of its own: commands block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.log.write_text("".join(f"2026-01-02T03:04:0{n}Z stdout F line {n}\n" for n in range(4)))
        self.pods = MemorySink()
        self.events = EventRecorder("n1")
        self.objects: list[DataObject] = []
        self.node: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: LocalApi | None = None

    def __enter__(self) -> Served:
        self._thread.start()
        self.call(self._start())
        return self

    async def _start(self) -> None:
        runtime, add = Runtime(self.log), self.add
        backend = Backend(
            self.pods,
            self.events,
            runtime,
            objects=lambda: self.objects,
            add_ephemeral=add,
            node_object=self._node,
        )
        self._server = LocalApi(backend, str(self.folder / "kubelet.sock"))
        await self._server.start()

    async def _node(self) -> dict[str, Any]:
        return self.node

    def add(self, uid: str, container: EphemeralContainer) -> None:
        raise NodeError(Code.UNIMPLEMENTED, "ephemeral containers")

    def call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    def __exit__(self, *exc: object) -> None:
        assert self._server is not None
        self.call(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, *words: str) -> int:
        return main(["--run", str(self.folder), *words])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        served.pods.update(make_pod("web-n1"))
        served.pods.update(make_pod("db"))
        served.pods.update(make_pod("dns", "kube-system"))
        yield served


Capture = pytest.CaptureFixture[str]


def test_pods_are_as_old_as_the_kubelet_knows_them(served: Served, capsys: Capture) -> None:
    """Manifests have no creationTimestamp; an API server's pods do, and people sort by it."""
    newer, older, started = make_pod("newer"), make_pod("older"), make_pod("started")
    newer.metadata.annotations = {"kubernetes.io/config.seen": "2026-01-02T03:04:07.5Z"}
    older.metadata.annotations = {"kubernetes.io/config.seen": "2026-01-02T03:04:06Z"}
    started.metadata.annotations = {"kubernetes.io/config.seen": "2026-01-02T09:00:00Z"}
    started.status.start_time = "2026-01-02T03:04:05Z"
    for pod in (newer, older, started):
        pod.metadata.namespace = "aged"
        pod.metadata.creation_timestamp = None
        served.pods.update(pod)
    assert served.run("get", "pods", "-n", "aged", "--sort-by=.metadata.creationTimestamp", "-o", "name") == 0
    assert capsys.readouterr().out.split() == ["pod/started", "pod/older", "pod/newer"]
    template = "{{range .items}}{{.metadata.creationTimestamp}} {{end}}"
    assert served.run("get", "pods", "-n", "aged", "--template", template) == 0
    assert sorted(capsys.readouterr().out.split()) == [f"2026-01-02T03:04:0{n}Z" for n in (5, 6, 7)]


def test_get_pods(served: Served, capsys: Capture) -> None:
    assert served.run("get", "pods") == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()] == [
        ["NAME", "READY", "STATUS"],
        ["db", "1/1", "Running"],
        ["web-n1", "1/1", "Running"],
    ]
    assert served.run("get", "pods", "--no-headers", "--show-kind") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["pod/db", "pod/web-n1"]
    assert served.run("get", "po", "-A", "-o", "wide", "--no-headers") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["default", "db"],
        ["default", "web-n1"],
        ["kube-system", "dns"],
    ]
    assert lines[0].split()[-4:] == ["10.0.0.5", "n1", "<none>", "<none>"]


def test_get_by_name_label_and_in_other_formats(served: Served, capsys: Capture) -> None:
    assert served.run("get", "pod/web", "-o", "json") == 0  # web-n1: the name in the manifest will do
    assert json.loads(capsys.readouterr().out)["metadata"]["name"] == "web-n1"
    assert served.run("get", "pods", "-l", "app=db", "-o", "yaml") == 0
    listed = yaml.safe_load(capsys.readouterr().out)
    assert listed["kind"] == "List"
    assert [(item["kind"], item["metadata"]["name"]) for item in listed["items"]] == [("Pod", "db")]
    assert served.run("get", "pods", "-o", "name") == 0
    assert capsys.readouterr().out == "pod/db\npod/web-n1\n"
    assert served.run("get", "pods", "-l", "app=none") == 0
    assert capsys.readouterr().err == "No resources found in default namespace.\n"


def test_get_fields_labels_and_order(served: Served, capsys: Capture) -> None:
    def words(*more: str) -> list[list[str]]:
        assert served.run("get", *more) == 0
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    assert words("pod", "web", "-o", "jsonpath={.metadata.name} {.status.podIP}") == [["web-n1", "10.0.0.5"]]
    assert words("pods", "-o=jsonpath={.items[*].metadata.name}") == [["db", "web-n1"]]
    columns = words("pods", "-A", "-o", "custom-columns=N:.metadata.name,P:.status.phase", "--no-headers")
    assert columns == [["db", "Running"], ["web-n1", "Running"], ["dns", "Running"]]
    assert words("pods", "-A", "--field-selector", "metadata.namespace!=default", "-o", "name") == [
        ["pod/dns"]
    ]
    assert words("pods", "--field-selector=status.phase=Failed", "-o", "name") == []
    by_name = words("pods", "-A", "--sort-by", "{.metadata.name}", "-o", "name")
    assert by_name == [["pod/db"], ["pod/dns"], ["pod/web-n1"]]
    table = words("pods", "db", "--show-labels", "-L", "app,none")
    assert table[0][-4:] == ["AGE", "APP", "NONE", "LABELS"]
    assert table[1][-2:] == ["db", "app=db"]
    assert served.run("get", "pods", "-o", "jsonpath={.a") == 2
    assert served.run("get", "pods", "--field-selector", "spec.x=1") == 2
    assert "field label not supported: spec.x" in capsys.readouterr().err


def test_get_several_kinds(served: Served, capsys: Capture) -> None:
    site = ConfigMap(
        api_version="v1", kind="ConfigMap", metadata=ObjectMeta(name="site", namespace="default")
    )
    served.objects.append(site)
    assert served.run("get", "pods,cm") == 0
    names = [line.split()[0] if line else "" for line in capsys.readouterr().out.splitlines()]
    assert names == ["NAME", "pod/db", "pod/web-n1", "", "NAME", "configmap/site"]
    assert served.run("get", "all", "-o", "name") == 0
    assert capsys.readouterr().out == "pod/db\npod/web-n1\nconfigmap/site\n"
    assert served.run("get", "cm/site", "pod/web", "-o", "json") == 0
    listed = json.loads(capsys.readouterr().out)["items"]
    assert [each["metadata"]["name"] for each in listed] == ["site", "web-n1"]
    assert served.run("get", "pod/web", "pod/db", "-o", "name") == 0
    assert capsys.readouterr().out == "pod/web-n1\npod/db\n"
    assert served.run("get", "cm/nope", "pod/db", "-o", "name") == 1
    output = capsys.readouterr()
    assert (output.out, output.err) == ("pod/db\n", 'error: configmaps "nope" not found\n')
    for wrong in (["pods/db", "web"], ["pods,services"], ["pods,cm", "-w"]):
        assert served.run("get", *wrong) == 2


def test_get_what_is_not_there(served: Served, capsys: Capture) -> None:
    assert served.run("get", "pods", "db", "nope") == 1
    output = capsys.readouterr()
    assert output.err == 'error: pods "nope" not found\n'
    assert "db " in output.out


def test_get_what_pods_refer_to(served: Served, capsys: Capture) -> None:
    def meta(name: str, namespace: str = "default") -> ObjectMeta:
        return ObjectMeta(name=name, namespace=namespace, labels={"app": name})

    hidden = "aGlkZGVu"
    served.objects += [
        ConfigMap(api_version="v1", kind="ConfigMap", metadata=meta("site"), data={"a": "1", "b": "2"}),
        ConfigMap(api_version="v1", kind="ConfigMap", metadata=meta("dns", "kube-system"), data={"c": "3"}),
        Secret(api_version="v1", kind="Secret", metadata=meta("keys"), type="Opaque", data={"key": hidden}),
        PersistentVolumeClaim(api_version="v1", kind="PersistentVolumeClaim", metadata=meta("disk")),
        RuntimeClass(
            api_version="node.k8s.io/v1", kind="RuntimeClass", metadata=meta("fast", ""), handler="runc"
        ),
    ]
    assert served.run("get", "cm") == 0
    assert capsys.readouterr().out == "NAME   DATA\nsite   2\n"
    assert served.run("get", "configmaps", "-A", "--no-headers") == 0
    assert capsys.readouterr().out == "default       site   2\nkube-system   dns    1\n"
    assert served.run("get", "secret/keys") == 0
    assert capsys.readouterr().out == "NAME   TYPE     DATA\nkeys   Opaque   1\n"
    assert served.run("get", "secret", "keys", "-o", "yaml") == 0
    shown = capsys.readouterr().out
    assert hidden not in shown and yaml.safe_load(shown)["data"] == {"key": ""}
    assert served.run("get", "pvc", "-o", "name") == 0
    assert capsys.readouterr().out == "persistentvolumeclaim/disk\n"
    assert served.run("get", "runtimeclasses", "-l", "app=fast") == 0
    assert capsys.readouterr().out == "NAME   HANDLER\nfast   runc\n"
    assert served.run("get", "cm", "site", "none") == 1
    assert capsys.readouterr().err == 'error: configmaps "none" not found\n'
    assert served.run("get", "pv") == 0
    assert capsys.readouterr().err == "No resources found.\n"
    assert served.run("get", "services") == 2
    assert "this node has pods, nodes, events, configmaps, secrets" in capsys.readouterr().err


def test_get_events(served: Served, capsys: Capture) -> None:
    served.events.pod(make_pod("db"), NORMAL, "Started", "Started it", "app")
    assert served.run("get", "events", "--no-headers") == 0
    assert "Normal   Started   Pod/db   Started it" in capsys.readouterr().out
    served.events.pod(make_pod("web-n1"), NORMAL, "Pulled", "Pulled it", "app")
    served.events.node(NORMAL, "Starting", "Starting kubelet.")
    for about, reason in (("pod/web", "Pulled"), ("node/n1", "Starting")):
        assert served.run("events", "--for", about, "-o", "custom-columns=R:.reason", "--no-headers") == 0
        assert capsys.readouterr().out == f"{reason}\n"
    assert served.run("events", "--for", "web") == 2
    assert "--for takes KIND/NAME, such as pod/web" in capsys.readouterr().err
    assert (
        served.run("get", "events", "--field-selector", "involvedObject.name=db", "-o", "jsonpath={..reason}")
        == 0
    )
    assert capsys.readouterr().out == "Started"
    assert served.run("get", "events", "--sort-by=.reason", "-o", "custom-columns=R:.reason") == 0
    assert capsys.readouterr().out.split() == ["R", "Pulled", "Started", "Starting"]


def test_describe_shows_events(served: Served, capsys: Capture) -> None:
    served.events.pod(make_pod("db"), NORMAL, "Started", "Started it", "app")
    assert served.run("describe", "pod", "db") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Name:         db\n")
    assert shown.splitlines()[-1].split() == [
        "Normal",
        "Started",
        "0s",
        "kubelet",
        "spec.containers{app}:",
        "Started",
        "it",
    ]
    assert served.run("describe", "pods", "nope") == 1


def test_logs(served: Served, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert served.run("logs", "web", "--tail", "2") == 0
    assert capfdbinary.readouterr().out == b"line 2\nline 3\n"
    assert served.run("logs", "pod/db", "app", "--timestamps", "--limit-bytes", "37") == 0
    assert capfdbinary.readouterr().out == b"2026-01-02T03:04:00.000000000Z line 0"
    assert served.run("logs", "db", "--previous") == 1
    expected = b'error: previous terminated container "app" in pod "db" not found\n'
    assert capfdbinary.readouterr().err == expected


def test_logs_of_several_containers(served: Served, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert served.run("logs", "-l", "app in (db, web-n1)", "--all-containers", "--prefix", "--tail", "1") == 0
    expected = b"[pod/db/app] line 3\n[pod/web-n1/app] line 3\n"
    assert capfdbinary.readouterr().out == expected
    assert served.run("logs", "-l", "app", "--all-containers", "--tail=1", "--limit-bytes=3") == 0
    assert capfdbinary.readouterr().out == b"linlin"  # one after the other, as they are
    assert served.run("logs", "db", "--since-time", "2026-01-02T03:04:03Z") == 0
    assert capfdbinary.readouterr().out == b"line 3\n"
    assert served.run("logs", "-l", "app=none") == 0
    assert capfdbinary.readouterr().err == b"No resources found in default namespace.\n"
    served.log.write_text("".join(f"2026-01-02T03:04:05Z stdout F {n}\n" for n in range(30)))
    assert served.run("logs", "-l", "app=db") == 0
    assert capfdbinary.readouterr().out.split() == [b"%d" % n for n in range(20, 30)]


def test_followed_logs_come_in_whole_lines() -> None:
    class Client(ApiClient):
        def logs(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> Iterator[bytes]:
            if container == "broken":
                raise CommandError("no log")
            yield b"first\nsec"
            turn.wait()  # until each of them is in the midst of a line
            yield b"ond\nlast"

    turn = threading.Barrier(2, timeout=10)
    sources = [Source("default", "web", name) for name in ("a", "b", "broken")]
    output = io.BytesIO()
    with pytest.raises(CommandError, match="no log"):
        Printer(Client(""), {}, output, prefix=True).follow_all(sources)
    for name in (b"a", b"b"):
        mine = [line for line in output.getvalue().split(b"[pod/web/") if line.startswith(name)]
        assert mine == [name + b"] first\n", name + b"] second\n", name + b"] last"]


def test_a_log_that_fails_need_not_end_the_others(served: Served, capfdbinary: Any) -> None:
    class Client(ApiClient):
        def logs(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> Iterator[bytes]:
            if container == "broken":
                raise CommandError("no log")
            yield b"fine\n"

    sources = [Source("default", "web", name) for name in ("broken", "a")]
    output = io.BytesIO()
    printer = Printer(Client(""), {}, output, ignore_errors=True)
    for source in sources:
        printer.print(source)
    assert output.getvalue() == b"error: no log\nfine\n"
    printer.follow_all(sources)
    assert sorted(output.getvalue().splitlines()[2:]) == [b"error: no log", b"fine"]
    with pytest.raises(CommandError, match="no log"):
        Printer(Client(""), {}, output).print(sources[0])

    assert served.run("logs", "-f", "-l", "app in (db, web-n1)", "--max-log-requests=1") == 1
    assert capfdbinary.readouterr().err == (
        b"error: you are attempting to follow 2 log streams, but maximum allowed concurrency is 1, "
        b"use --max-log-requests to increase the limit\n"
    )


def test_following_waits_for_a_container_to_start(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    class Client(ApiClient):
        def __init__(self, *answers: str) -> None:
            super().__init__("")
            self.answers = list(answers)

        def logs(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> Iterator[bytes]:
            if message := self.answers.pop(0):
                raise CommandError(message)
            yield b"up\n"

    monkeypatch.setattr(many_logs, "_PAUSE", 0.001)
    source, output = Source("default", "web", "a"), io.BytesIO()
    not_yet = 'container "a" in pod "web" is waiting to start: ContainerCreating'
    client = Client(not_yet, not_yet, "")
    Printer(client, {"follow": "1"}, output, patience=60).print(source)
    assert output.getvalue() == b"up\n"
    assert capsys.readouterr().err == f"{not_yet}\n"
    for query, patience, message in (
        ({"follow": "1"}, 0, not_yet),
        ({"follow": ""}, 60, not_yet),
        ({"follow": "1"}, 60, 'pods "web" not found'),
    ):
        with pytest.raises(CommandError, match=message):
            Printer(Client(message, ""), query, output, patience=patience).print(source)


def test_the_time_of_logs_is_exact(served: Served, capfdbinary: Any) -> None:
    served.log.write_text("".join(f"2026-01-02T03:04:05.{n}00000000Z stdout F line {n}\n" for n in range(4)))
    assert served.run("logs", "db", "--since-time", "2026-01-02T03:04:05.15Z") == 0
    assert capfdbinary.readouterr().out == b"line 2\nline 3\n"


@pytest.mark.parametrize("words", [["HERE", "db:/tmp/"], ["db:/etc/hosts", "HERE"]])
def test_copying_where_there_is_no_tar(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: list[str]
) -> None:
    def execute(self: object, command: list[str], **ends: int) -> int:
        raise CommandError(f"exec '{command[0]}': exec: \"{command[0]}\": executable file not found in $PATH")

    monkeypatch.setattr(cp._Container, "execute", execute)
    here = tmp_path / "file"
    here.write_text("x")
    assert served.run("cp", *[word.replace("HERE", str(here)) for word in words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cp needs tar, and the image of container app has none (exec 'tar': ")


def test_exec_errors(served: Served, capsys: Capture) -> None:
    assert served.run("exec", "nope", "--", "ls") == 1
    assert capsys.readouterr().err == 'error: pods "nope" not found\n'
    assert served.run("exec", "db", "-n", "kube-system", "--", "ls") == 1
    assert served.run("exec", "db", "--", "ls") == 1
    assert "the runtime's streaming server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["exec", "db", "--", "ls"], "exec into"),
        (["attach", "db"], "attach"),
        (["cp", "db:/a", "."], "exec into"),
    ],
)
def test_a_pod_that_has_ended(served: Served, capsys: Capture, words: list[str], what: str) -> None:
    done = make_pod("db")
    assert done.status is not None
    done.status.phase = "Succeeded"
    served.pods.update(done)
    assert served.run(*words) == 1
    expected = f"error: cannot {what} a container in a completed pod; current phase is Succeeded\n"
    assert capsys.readouterr().err == expected


def test_top_in_order(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def usage(name: str, cpu: int, memory: int, **more: Any) -> dict[str, Any]:
        of = {"cpu": {"usageNanoCores": cpu * 10**6}, "memory": {"workingSetBytes": memory << 20}}
        return {"name": name, **of, **more}

    pods = [
        usage("", 5, 30, podRef={"name": "web-n1", "namespace": "default", "uid": "web-n1"})
        | {"containers": [usage("z", 1, 25), usage("a", 4, 5)]},
        usage("", 9, 8, podRef={"name": "db", "namespace": "default", "uid": "db"})
        | {"containers": [usage("x", 9, 8)]},
    ]
    monkeypatch.setattr(ApiClient, "stats_summary", lambda self: {"node": {}, "pods": pods})

    def shown(*words: str) -> list[list[str]]:
        assert served.run("top", "pods", "--no-headers", *words) == 0
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    assert shown() == [["db", "9m", "8Mi"], ["web-n1", "5m", "30Mi"]]
    assert shown("--sort-by=memory") == [["web-n1", "5m", "30Mi"], ["db", "9m", "8Mi"]]
    a, z, x = ["web-n1", "a", "4m", "5Mi"], ["web-n1", "z", "1m", "25Mi"], ["db", "x", "9m", "8Mi"]
    assert shown("--containers") == [x, a, z]
    assert shown("--containers", "--sort-by=cpu") == [x, a, z]
    assert shown("--containers", "--sort-by=memory") == [z, a, x]
    assert shown("--field-selector=metadata.name!=db") == [["web-n1", "5m", "30Mi"]]


def test_top_of_a_node_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(ApiClient, "stats_summary", lambda self: {"node": {"nodeName": "n1"}})
    assert main(["top", "node", "n1", "--no-headers"]) == 0
    assert capsys.readouterr().out.startswith("n1 ")
    assert main(["top", "node", "n2"]) == 1
    assert capsys.readouterr().err == 'error: nodes "n2" not found\n'

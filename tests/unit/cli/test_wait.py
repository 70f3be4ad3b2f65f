"""``wait`` against the kubelet's real API, and what it takes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from minikubelet.cli import wait_goals
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.commands import apply, wait
from minikubelet.cli.live_pods import LivePods
from minikubelet.cli.main import main
from minikubelet.cli.options import CommandError
from minikubelet.kubelet.objects import ObjectMeta, Pod
from minikubelet.kubelet.objects.data import ConfigMap
from minikubelet.kubelet.objects.podstatus import PodCondition
from tests.unit.cli.pods import pod
from tests.unit.cli.test_against_api import Served, make_pod, served

__all__ = ["served"]
Capture = pytest.CaptureFixture[str]
READY = "--for=condition=Ready"


def with_ready(pod: Pod, value: str) -> Pod:
    conditions = [PodCondition(type="Ready", status=value)]
    return msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, conditions=conditions))


def when_watched(served: Served, change: Callable[[], None], *, calls: int = 2) -> None:
    """Do something once as soon as a command has opened its watch (1) and listed the pods (2)."""
    real, left = served.pods.pods, [calls]

    def pods() -> list[Pod]:
        left[0] -= 1
        if not left[0]:
            setattr(served.pods, "pods", real)  # noqa: B010 - a method, to mypy
            asyncio.get_running_loop().call_soon(change)
        return real()

    setattr(served.pods, "pods", pods)  # noqa: B010


def test_until_a_condition_comes(served: Served, capsys: Capture) -> None:
    web = make_pod("web-n1")
    when_watched(served, lambda: served.pods.update(with_ready(web, "True")))
    assert served.run("wait", READY, "pod/web") == 0
    assert capsys.readouterr() == ("pod/web-n1 condition met\n", "")
    when_watched(served, lambda: served.pods.update(with_ready(web, "False")), calls=1)
    assert served.run("wait", "--for=condition=ready=false", "pods", "web", "-o", "name") == 0
    assert capsys.readouterr().out == "pod/web-n1\n"


def test_every_pod_is_waited_for(served: Served, capsys: Capture) -> None:
    def change() -> None:
        served.pods.update(with_ready(make_pod("web-n1"), "True"))
        served.pods.update(with_ready(make_pod("db"), "True"))

    when_watched(served, change)
    assert served.run("wait", READY, "pods", "--all") == 0
    assert capsys.readouterr().out == "pod/db condition met\npod/web-n1 condition met\n"
    assert served.run("wait", READY, "pods", "-A", "-l", "app", "--timeout=100ms") == 1
    output = capsys.readouterr()
    assert output.out == "pod/db condition met\npod/web-n1 condition met\n"
    assert output.err == "error: timed out waiting for the condition on pods/dns\n"


def test_time_is_up(served: Served, capsys: Capture) -> None:
    before = time.monotonic()
    assert served.run("wait", READY, "pod/web", "pod/db", "--timeout=200ms") == 1
    assert time.monotonic() - before >= 0.2
    assert capsys.readouterr().err.splitlines() == [
        "error: timed out waiting for the condition on pods/web-n1",
        "error: timed out waiting for the condition on pods/db",
    ]
    assert served.run("wait", READY, "pod/web", "--timeout=0") == 1
    assert capsys.readouterr().err == "error: condition not met for pods/web-n1\n"
    assert served.run("wait", "--for=jsonpath={.status.phase}=Running", "pod/web", "--timeout=0") == 0
    assert served.run("wait", "--for=delete", "pod/web", "--timeout=0s") == 1
    assert capsys.readouterr().err == "error: condition not met for pods/web-n1\n"
    assert wait.parser().parse_args(["--timeout=-1s"]).timeout == -1


def test_fields(served: Served, capsys: Capture) -> None:
    when_watched(served, lambda: served.pods.update(make_pod("job")))
    words = ["--for=create", "--for=jsonpath={.status.podIP}", "--for", "jsonpath='{.metadata.uid}'=job"]
    assert served.run("wait", *[word.replace("'", "") for word in words], "pod/job", "-o", "json") == 0
    shown = json.loads("[" + capsys.readouterr().out.replace("}\n{", "},{") + "]")
    assert [(each["kind"], each["metadata"]["name"]) for each in shown] == [("Pod", "job")] * 3
    assert served.run("wait", "--for=jsonpath={.status}=x", "pod/job") == 1
    assert "leads to an object or a list" in capsys.readouterr().err


def test_until_pods_are_there(served: Served, capsys: Capture) -> None:
    when_watched(served, lambda: served.pods.update(make_pod("new-n1")))
    assert served.run("wait", "--for=create", "pod/new") == 0
    assert capsys.readouterr().out == "pod/new-n1 condition met\n"
    when_watched(served, lambda: served.pods.update(make_pod("other")))
    assert served.run("wait", "--for=create", "pods", "-l", "app=other") == 0
    assert capsys.readouterr().out == "pod/other condition met\n"
    for timeout in ("0", "50ms"):
        assert served.run("wait", "--for=create", "pod/nope", "--timeout", timeout) == 1
        assert capsys.readouterr().err == "error: timed out waiting for the condition\n"


def test_until_pods_are_gone(served: Served, capsys: Capture) -> None:
    when_watched(served, lambda: served.pods.remove(make_pod("db")))
    assert served.run("wait", "--for=delete", "pod/db", "pod/nope") == 0
    assert capsys.readouterr() == ("pod/db condition met\n", "")
    assert served.run("wait", "--for=delete", "pods", "-l", "app=none") == 0

    def replace() -> None:
        served.pods.remove(make_pod("web-n1"))
        served.pods.update(make_pod("web-n1", uid="another"))

    when_watched(served, replace)
    assert served.run("wait", "--for=delete", "pod/web") == 0


def test_a_pod_that_is_replaced_goes_on_under_its_name(served: Served) -> None:
    def replace() -> None:
        served.pods.remove(make_pod("web-n1"))
        served.pods.update(with_ready(make_pod("web-n1", uid="another"), "True"))

    when_watched(served, replace)
    assert served.run("wait", READY, "pod/web") == 0


def test_pods_that_are_not_there(served: Served, capsys: Capture) -> None:
    served.pods.update(with_ready(make_pod("db"), "True"))
    assert served.run("wait", READY, "pod/nope", "pod/db") == 1
    assert capsys.readouterr() == ("pod/db condition met\n", 'error: pods "nope" not found\n')
    assert served.run("wait", READY, "pods", "-l", "app=none") == 1
    assert capsys.readouterr().err == "error: no matching resources found\n"


def test_pods_of_a_manifest(served: Served, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "all.yaml"
    objects = [("ConfigMap", "site"), ("Pod", "web"), ("Pod", "db")]
    texts = [f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\n" for kind, name in objects]
    file.write_text("---\n".join(texts))
    assert served.run("wait", "-f", str(file), "--for=jsonpath=.status.phase=Running") == 0
    assert capsys.readouterr().out == "pod/web-n1 condition met\npod/db condition met\n"
    file.write_text(texts[0])
    assert served.run("wait", "-f", str(file), READY) == 1
    assert capsys.readouterr().err == "error: no pods in these manifests\n"


def config_map(name: str, **data: str) -> ConfigMap:
    return ConfigMap(kind="ConfigMap", metadata=ObjectMeta(name=name, namespace="default"), data=data)


def later(change: Callable[[], None]) -> threading.Timer:
    """Do something while a command waits, whenever that is."""
    timer = threading.Timer(0.1, change)
    timer.start()
    return timer


def test_other_kinds(served: Served, capsys: Capture) -> None:
    ready = {"type": "Ready", "status": "True"}
    served.node = {"kind": "Node", "metadata": {"name": "n1"}, "status": {"conditions": [ready]}}
    assert served.run("wait", READY, "nodes", "--all") == 0
    assert served.run("wait", READY, "no/n1", "-n", "elsewhere", "-o", "name") == 0
    assert capsys.readouterr() == ("node/n1 condition met\nnode/n1\n", "")
    assert served.run("wait", "--for=condition=Ready=False", "node", "n1", "--timeout=0") == 1
    assert capsys.readouterr().err == "error: condition not met for nodes/n1\n"

    timer = later(lambda: served.objects.append(config_map("settings", a="1")))
    assert served.run("wait", "--for=create", "configmap/settings") == 0
    assert capsys.readouterr() == ("configmap/settings condition met\n", "")
    timer.join()
    timer = later(lambda: served.objects.__setitem__(0, config_map("settings", a="2")))
    assert served.run("wait", "--for=jsonpath={.data.a}=2", "cm", "settings") == 0
    timer.join()
    timer = later(served.objects.clear)
    assert served.run("wait", "--for=delete", "cm", "--all", "secret/none") == 2
    assert served.run("wait", "--for=delete", "cm", "--all") == 0
    timer.join()
    capsys.readouterr()
    assert served.run("wait", "--for=delete", "cm/settings", "secret/none") == 0
    assert served.run("wait", READY, "cm/settings", "pod/web", "--timeout=0") == 1
    assert capsys.readouterr().err.splitlines() == [
        'error: configmaps "settings" not found',
        "error: condition not met for pods/web-n1",
    ]


def test_the_kubelet_ends(served: Served, capsys: Capture) -> None:
    assert served._server is not None
    client = ApiClient(str(served.folder / "kubelet.sock"))
    pods = LivePods(client, None)
    served.call(served._server.close())
    with pytest.raises(CommandError, match="the kubelet has ended"):
        pods.until(lambda: False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pod/a"], "say what to wait for: --for="),
        ([READY], "name pods (pod/NAME)"),
        ([READY, "pods"], "no name was specified"),
        ([READY, "pods", "-A"], "no name was specified"),
        ([READY, "pod/a", "--all"], "a name can't stand together with"),
        ([READY, "pod/"], "a name is missing after the slash"),
        ([READY, "pods", "-f", "x"], "-f FILE can't stand together"),
        ([READY, "deploy/a"], 'unknown kind "deploy"'),
        ([READY, "cm", "--all", "--field-selector=type=x"], "field"),
        (["--for=ready", "pod/a"], "unrecognized condition: 'ready'"),
        (["--for=condition=", "pod/a"], "unrecognized condition"),
        (["--for=jsonpath=", "pod/a"], "jsonpath expression cannot be empty"),
        (["--for=jsonpath={.a}=", "pod/a"], "has to have a value after the equal sign"),
        (["--for=jsonpath={.a", "pod/a"], "jsonpath '{.a'"),
        ([READY, "pod/a", "--timeout", "5"], "'5' is not a duration"),
    ],
)
def test_wrong_usage(words: list[str], expected: str, capsys: Capture) -> None:
    assert main(["wait", *words]) == 2
    assert expected in capsys.readouterr().err


def goals() -> Iterator[tuple[str, dict[str, object], bool]]:
    ready: dict[str, object] = {"conditions": {"Ready": "True"}}
    yield "condition=Ready", ready, True
    yield "condition=ready=TRUE", ready, True
    yield "condition=Ready=False", ready, False
    yield "condition=Other", ready, False
    yield "condition=Other=", ready, False
    yield "condition=Ready", {**ready, "metadata": {"generation": 2}, "observedGeneration": 1}, False
    yield "condition=Ready", {**ready, "metadata": {"generation": 2}, "observedGeneration": 2}, True
    yield "condition=Ready", {**ready, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, False
    yield "jsonpath={.status.phase}=Running", {}, True
    yield "jsonpath=status.phase='Running'", {}, True
    yield "jsonpath={.status.phase}=Pending", {}, False
    yield "jsonpath={.status.nothing}", {}, False
    yield "jsonpath={.status}", {}, True
    yield 'jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', ready, True
    yield 'jsonpath={.status.conditions[?(@.type!="Ready")].status}=True', ready, False


@pytest.mark.parametrize(("word", "state", "met"), list(goals()))
def test_goals(word: str, state: dict[str, object], met: bool) -> None:
    (goal,) = wait_goals.parse([word])
    assert goal.test(pod(**state)) is met  # type: ignore[arg-type]


def test_a_path_to_several_values_is_an_error() -> None:
    (goal,) = wait_goals.parse(["jsonpath={.status.conditions[*].type}=Ready"])
    with pytest.raises(CommandError, match="more than one value"):
        goal.test(pod(conditions={"Ready": "True", "Initialized": "True"}))


POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec: {containers: [{name: c, image: i}]}
"""


def test_apply_returns_when_the_kubelet_has_noticed(
    served: Served, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, folder = tmp_path / "pods.yaml", str(tmp_path / "node")
    monkeypatch.setattr(ApiClient, "config", lambda self: {"staticPodPath": folder})
    manifest.write_text("---".join(POD.replace("NAME", name) for name in ("new", "web")))
    noticed: list[float] = []

    def notice() -> None:
        served.pods.update(make_pod("new-n1"))
        served.pods.update(with_ready(make_pod("web-n1"), "False"))
        noticed.append(time.monotonic())

    def soon() -> None:
        asyncio.get_running_loop().call_later(0.3, notice)

    when_watched(served, soon)
    assert served.run("apply", "-f", str(manifest)) == 0
    assert capsys.readouterr().out == "pod/new created\npod/web created\n"
    assert noticed
    monkeypatch.setattr(apply, "_NOTICE", 0.2)
    before = time.monotonic()
    manifest.write_text(POD.replace("NAME", "nobody-takes-it"))
    assert served.run("apply", "-f", str(manifest)) == 0
    assert time.monotonic() - before >= 0.2
    assert served.run("apply", "-f", str(manifest)) == 0
    assert "unchanged" in capsys.readouterr().out

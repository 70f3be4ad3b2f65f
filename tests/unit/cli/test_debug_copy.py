"""``debug --copy-to``: the copy as kubectl makes it, put into the node's folder."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from minikubelet.cli import debug_container, debug_copy
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.commands import debug
from minikubelet.cli.live_pods import LivePods
from minikubelet.cli.main import main
from minikubelet.cli.manifest_check import check_manifest
from minikubelet.cli.options import CommandError
from minikubelet.kubelet.manifests.static import CONFIG_SOURCE
from minikubelet.kubelet.objects import ContainerStatus
from minikubelet.kubelet.objects.pod import Pod
from minikubelet.kubelet.objects.podstatus import ContainerState, ContainerStateTerminated
from tests.unit.cli import debug_copies
from tests.unit.cli.test_against_api import Served

Capture = pytest.CaptureFixture[str]
Json = dict[str, Any]
RECORDED = debug_copies.load()
POD: Json = RECORDED["pod"]
MADE = {words: made for words, made in RECORDED["copies"].items() if isinstance(made, dict)}
REFUSED = {words: said for words, said in RECORDED["copies"].items() if isinstance(said, str)}


def bare(value: Any) -> Any:
    """Without what says nothing."""
    if isinstance(value, dict):
        return {key: each for key, item in value.items() if (each := bare(item)) not in (None, {}, "")}
    return [bare(each) for each in value] if isinstance(value, list) else value


def as_static(pod: Json) -> Json:
    """kubectl's copy without what a manifest doesn't have."""
    pod = copy.deepcopy(pod)
    pod["metadata"].get("annotations", {}).pop(CONFIG_SOURCE, None)
    pod["spec"].pop("nodeName", None)
    return dict(bare({"metadata": pod["metadata"], "spec": pod["spec"]}))


@pytest.mark.parametrize("words", MADE)
def test_as_kubectl(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("custom.json").write_text(json.dumps(RECORDED["custom"]))
    args = debug.parser().parse_args(["web", *shlex.split(words.replace("--attach=false", ""))])
    debug_copy.check_options(args)
    piece, name = debug_copy.make_copy(args, POD)
    ours = bare({part: piece.data[part] for part in ("metadata", "spec")})
    theirs = as_static(MADE[words])
    for container in debug_copy.containers(ours):
        ours_alone = args.stdin and not args.tty and name == container["name"]
        assert bool(container.pop("stdinOnce", False)) is ours_alone
    for container in (*debug_copy.containers(ours), *debug_copy.containers(theirs)):
        if "--env" in words:  # kubectl's come in no order
            container.get("env", []).sort(key=lambda each: each["name"])
    assert ours == theirs
    assert yaml.safe_load(piece.text) == piece.data
    assert name == ("" if args.set_image and not args.image and not args.container else args.container)
    assert not [each for each in check_manifest(piece.text.encode(), "") if each.level == "error"]


def test_enough_is_recorded() -> None:
    assert len(MADE) > 30 and len(REFUSED) > 10
    assert POD["spec"]["ephemeralContainers"], "which no copy has"


class Node(Served):
    """The API of a kubelet that has the pod ``web``, and a folder with its manifest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {}}
        (self.manifests / "web.json").write_text(json.dumps(manifest))

    def written(self) -> Json:
        (file,) = (each for each in self.manifests.iterdir() if each.name != "web.json")
        assert file.name == "pod.default.c.yaml"
        return dict(yaml.safe_load(file.read_text()))


def named(name: str, **more: Any) -> Pod:
    pod = copy.deepcopy(POD)
    pod["metadata"].update(name=name, uid=f"uid-{name}", creationTimestamp=None)
    pod["spec"].update(more)
    return msgspec.convert(pod, Pod)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr("minikubelet.cli.commands.apply._NOTICE", 0.05)
    made = Node(tmp_path)
    monkeypatch.setattr(ApiClient, "config", lambda self: {"staticPodPath": str(made.manifests)})
    with made:
        made.pods.update(named("web-n1"))
        yield made


@pytest.mark.parametrize("words", REFUSED)
def test_what_kubectl_refuses(words: str, node: Node, capsys: Capture) -> None:
    code = node.run("debug", "web", *shlex.split(words))
    said = capsys.readouterr().err
    assert said.startswith("error: ") and code == (1 if "creating new" in said else 2)
    kubectls = (
        REFUSED[words].splitlines()[0].partition(" for container")[0].partition(": invalid reference")[0]
    )
    assert kubectls in said or words.endswith("--set-image=server")
    assert [each.name for each in node.manifests.iterdir()] == ["web.json"]


def test_it_is_put_into_the_folder(node: Node, capsys: Capture) -> None:
    assert node.run("debug", "web", "--copy-to=c", "--image=tools") == 0
    output = capsys.readouterr()
    copied = node.written()
    name = copied["spec"]["containers"][-1]["name"]
    assert name.startswith("debugger-") and output.out == ""
    assert output.err.splitlines()[0] == f"Defaulting debug container name to {name}."
    assert "Non-root user is configured" in output.err
    assert "Warning: only one of the pods can have port 8080 of this machine" in output.err
    assert copied["metadata"] == {"name": "c", "namespace": "default"}
    assert node.run("debug", "web", "--copy-to=c", "--image=tools") == 1
    assert capsys.readouterr().err.splitlines()[-1] == 'error: pods "c" already exists'
    assert node.run("debug", "web", "--copy-to=web", "--image=tools") == 1
    assert capsys.readouterr().err.splitlines()[-1] == 'error: pods "web" already exists'


def test_a_copy_that_would_be_wrong_is_not_made(node: Node, capsys: Capture) -> None:
    assert node.run("debug", "web", "--copy-to=C", "--image=tools", "-c", "d") == 1
    assert "error: the copy would be wrong: metadata.name: " in capsys.readouterr().err
    node.pods.update(named("web-n1", hostPID=True))
    assert node.run("debug", "web", "--copy-to=c", "--image=tools", "-c", "d") == 1
    assert "error: the copy would be wrong: spec" in capsys.readouterr().err
    assert node.run("debug", "web", "--copy-to=c", "--image=tools", "-c", "d", "--share-processes=false") == 0


def test_a_pod_that_is_from_no_manifest(node: Node, capsys: Capture) -> None:
    pod = named("other")
    pod.metadata.annotations = {}
    node.pods.update(pod)
    assert node.run("debug", "other", "--copy-to=c", "--image=tools") == 1
    assert 'error: pod "other" is not from a manifest' in capsys.readouterr().err


def test_replaced(node: Node, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def until(live: LivePods, happened: Callable[[], bool]) -> bool:
        node.pods.remove(named("web-n1"))
        return True

    monkeypatch.setattr(LivePods, "until", until)
    assert node.run("debug", "-q", "web", "--copy-to=c", "--set-image=*=b", "--replace") == 0
    assert [each.name for each in node.manifests.iterdir()] == ["pod.default.c.yaml"]
    assert {each["image"] for each in node.written()["spec"]["containers"]} == {"b"}
    node.pods.update(named("elsewhere-n1"))
    assert node.run("debug", "elsewhere", "--copy-to=d", "--set-image=*=b", "--replace") == 1
    assert "is not from the manifest folder" in capsys.readouterr().err


def ended(name: str, code: int, *, again: bool = False) -> ContainerStatus:
    over = ContainerState(terminated=ContainerStateTerminated(exit_code=code, container_id="mk://1"))
    status = ContainerStatus(name=name, state=over, ready=False, restart_count=0, image="i", image_id="")
    if again:
        status.state, status.last_state = ContainerState(), over
    return status


def test_attached_until_its_end(node: Node, capsys: Capture) -> None:
    copied = named("c-n1")
    copied.status.container_statuses = [ended("sidecar", 3), ended("server", 4)]
    node.pods.update(copied)
    debugging = debug._Debugging(
        debug.parser().parse_args(["web", "--run", str(node.folder), "--copy-to=c", "-c", "server"])
    )
    debugging.turn_to_copy()
    assert debugging.attach() == 4
    assert capsys.readouterr().out == "".join(f"line {n}\n" for n in range(4))


def test_the_exit_code_of_one_that_runs_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = named("c-n1")
    node.pods.update(copied)
    args = debug.parser().parse_args(["web", "--run", str(node.folder), "--copy-to=c", "-c", "server"])
    debugging = debug._Debugging(args)
    debugging.turn_to_copy()

    def happen(_: float) -> None:
        copied.status.container_statuses = [ended("server", 5, again=True)]
        node.pods.update(copied)

    monkeypatch.setattr("minikubelet.cli.commands.debug.time.sleep", happen)
    assert debugging._exit_code() == 5


def test_a_custom_profile(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "profile.yaml"
    args = debug.parser().parse_args(["web", "--image=i", "--custom", str(file)])
    for text, message in (
        ("command: [sh]", "are not modifiable via custom profile"),
        ("[]", "does not contain a valid container spec"),
    ):
        file.write_text(text)
        with pytest.raises(CommandError, match=message):
            debug_container.make_container(args, "d")
    file.write_text("env: [{name: A, value: '1'}]\nsecurityContext: {runAsUser: 5}")
    made = debug_container.make_container(args, "d")
    assert made["env"] == [{"name": "A", "value": "1"}] and made["securityContext"]["runAsUser"] == 5
    assert made["securityContext"]["capabilities"] == {"add": ["SYS_PTRACE"]}
    assert main(["debug", "web", "--image=i", "--env", "A"]) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err

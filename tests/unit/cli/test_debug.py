"""``debug``: the container it asks for, and what it does until that one has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.cli.commands import debug
from minikubelet.cli.debug_container import PROFILES, make_container, make_name
from minikubelet.kubelet.ephemeral import admit
from minikubelet.kubelet.objects import ContainerStatus
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.objects.podstatus import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
)
from tests.unit.cli.test_against_api import Served, make_pod
from tests.unit.kubelet.harness import make_pod as complete_pod

Capture = pytest.CaptureFixture[str]
Json = dict[str, Any]


def asked(*words: str) -> Json:
    return make_container(debug.parser().parse_args(["web", "--image=tools", *words]), "d")


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ([], {}),
        (["--target", "app"], {"targetContainerName": "app"}),
        (["--", "sh", "-c", "ls"], {"command": ["sh", "-c", "ls"]}),
        (["--arguments-only", "--", "-v"], {"args": ["-v"]}),
        (["-it"], {"stdin": True, "stdinOnce": False, "tty": True}),
        (["-i"], {"stdin": True, "stdinOnce": True}),
        (["--env", "A=1=$(B)"], {"env": [{"name": "A", "value": "1=$(B)"}]}),
        (["--image-pull-policy=Never"], {"imagePullPolicy": "Never"}),
        (["--profile=sysadmin"], {"securityContext": {"privileged": True}}),
    ],
)
def test_options_become_fields(words: list[str], more: Json) -> None:
    usual = {
        "name": "d",
        "image": "tools",
        "terminationMessagePolicy": "File",
        "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
    }
    assert asked(*words) == {**usual, **more}


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_kubelet_takes_every_profile(profile: str) -> None:
    container = msgspec.convert(asked("--profile", profile, "-it", "--target=app"), EphemeralContainer)
    assert admit(complete_pod(), container).name == "d"


def test_a_name_of_its_own() -> None:
    pod = {"spec": {"containers": [{"name": "app"}]}}
    names = {make_name(pod) for _ in range(20)}
    assert len(names) == 20 and all(name.startswith("debugger-") and len(name) == 14 for name in names)


class Debugged(Served):
    """The API of a kubelet whose new containers go through the states given."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.states: list[ContainerState] = []
        self.got: list[EphemeralContainer] = []
        self.refuses = ""

    def add(self, uid: str, container: EphemeralContainer) -> None:
        if self.refuses:
            raise NodeError(Code.INVALID_ARGUMENT, self.refuses)
        self.got.append(container)
        pod = make_pod("web-n1")
        pod.spec.ephemeral_containers = [container]
        state = self.states[0]
        pod.status.ephemeral_container_statuses = [
            ContainerStatus(
                name=container.name, state=state, ready=False, restart_count=0, image="i", image_id=""
            )
        ]
        self.pods.update(pod)


def ended(code: int, **more: Any) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(exit_code=code, **more))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Debugged]:
    made = Debugged(tmp_path)
    with made:
        made.pods.update(make_pod("web-n1"))
        yield made


@pytest.fixture
def then(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """What happens while the command sleeps."""

    def set_up(happening: Callable[[], None]) -> None:
        monkeypatch.setattr("minikubelet.cli.commands.debug.time.sleep", lambda _: happening())

    return set_up


def test_without_input_it_is_only_started(served: Debugged, capsys: Capture) -> None:
    served.states = [ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))]
    assert served.run("debug", "web", "--image=tools", "--target=app", "--", "top") == 0
    (container,) = served.got
    output = capsys.readouterr()
    assert output.out == "" and output.err == (
        f'Defaulting debug container name to {container.name}.\nTargeting container "app".\n'
    )
    assert (container.command, container.target_container_name) == (["top"], "app")
    assert served.run("debug", "-q", "pod/web", "--image=tools", "-c", "mine") == 0
    assert served.got[1].name == "mine" and capsys.readouterr().err == ""


def test_one_that_has_ended_shows_its_log_and_its_exit_code(served: Debugged, capsys: Capture) -> None:
    served.states = [ended(3, container_id="mk://d1")]
    assert served.run("debug", "-q", "--attach", "web", "--image=tools", "--", "false") == 3
    assert capsys.readouterr().out == "".join(f"line {n}\n" for n in range(4))


def test_it_says_what_it_waits_for(
    served: Debugged, capsys: Capture, then: Callable[[Callable[[], None]], None]
) -> None:
    waiting = ContainerStateWaiting(reason="ErrImagePull", message="no such image")
    served.states = [ContainerState(waiting=waiting)]
    later = iter([served.states[0], ended(0, container_id="mk://d1")])

    def happen() -> None:
        served.states = [next(later)]
        served.add("", served.got[0])

    then(happen)
    assert served.run("debug", "--attach", "web", "--image=tools", "-c", "d") == 0
    assert capsys.readouterr().err.splitlines() == ["container d waits: ErrImagePull: no such image"]


def test_one_that_could_not_start(served: Debugged, capsys: Capture) -> None:
    served.states = [ended(128, reason="StartError", message="exec: nope", container_id="mk://d1")]
    assert served.run("debug", "--attach", "web", "--image=tools", "-c", "d") == 1
    assert capsys.readouterr().err == "error: container d: exec: nope\n"


def test_a_pod_that_is_replaced_meanwhile(
    served: Debugged, capsys: Capture, then: Callable[[Callable[[], None]], None]
) -> None:
    served.states = [ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))]

    def happen() -> None:
        served.pods.remove(make_pod("web-n1"))
        served.pods.update(make_pod("web-n1", uid="another"))

    then(happen)
    assert served.run("debug", "-q", "--attach", "web", "--image=tools") == 1
    assert capsys.readouterr().err == 'error: pod "web-n1" was replaced\n'


def test_a_pod_that_ends_meanwhile(
    served: Debugged, capsys: Capture, then: Callable[[Callable[[], None]], None]
) -> None:
    served.states = [ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))]

    def happen() -> None:
        pod = make_pod("web-n1")
        pod.status.phase = "Failed"
        served.pods.update(pod)

    then(happen)
    assert served.run("debug", "-q", "--attach", "web", "--image=tools", "-c", "d") == 1
    assert capsys.readouterr().err == 'error: pod "web-n1" has ended (Failed) before d ran\n'


def test_what_the_kubelet_refuses(served: Debugged, capsys: Capture) -> None:
    served.refuses = 'spec.ephemeralContainers[0].targetContainerName: Not found: "none"'
    assert served.run("debug", "-q", "web", "--image=tools", "--target=none") == 1
    assert capsys.readouterr().err == f"error: {served.refuses}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["web"],
        ["web", "--image=i", "-t"],
        ["web", "--image=i", "-i", "--no-attach"],
        ["web", "--image=i", "--arguments-only"],
        ["web", "--image=i", "--env", "A"],
        ["web", "--image=i", "--profile=root"],
    ],
)
def test_typed_wrongly(served: Debugged, words: list[str]) -> None:
    served.states = [ended(0)]
    assert served.run("debug", *words) == 2 and served.got == []

"""READY, STATUS and RESTARTS in kubectl's words."""

from __future__ import annotations

from typing import Any

import pytest

from minikubelet.cli import pod_row, text
from minikubelet.cli.text import Table
from tests.unit.cli.pods import NOW, ago, pod, running, status, terminated, waiting

DELETED: dict[str, Any] = {"metadata": {"deletionTimestamp": ago(3)}}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (pod(phase="Pending"), "0/1 Pending 0"),
        (pod(running()), "1/1 Running 0"),
        (pod(running("a"), running("b", ready=False)), "1/2 Running 0"),
        (pod(waiting("ContainerCreating"), phase="Pending"), "0/1 ContainerCreating 0"),
        (pod(waiting("ImagePullBackOff"), phase="Pending"), "0/1 ImagePullBackOff 0"),
        (pod(waiting("CrashLoopBackOff", restarts=4)), "0/1 CrashLoopBackOff 4"),
        (pod(terminated(0, "Completed"), phase="Succeeded"), "0/1 Completed 0"),
        (pod(terminated(1, "Error"), phase="Failed"), "0/1 Error 0"),
        (pod(terminated(137, "OOMKilled")), "0/1 OOMKilled 0"),
        (pod(terminated(3)), "0/1 ExitCode:3 0"),
        (pod(terminated(0, state={"signal": 9})), "0/1 Signal:9 0"),
        (pod(terminated(0, "Completed", "a"), running("b"), conditions={"Ready": "True"}), "1/2 Running 0"),
        (pod(terminated(0, "Completed", "a"), running("b")), "1/2 NotReady 0"),
        (pod(terminated(0, "Completed", "a"), terminated(1, "Error", "b")), "0/2 Error 0"),
        (pod(terminated(1, "Error", "a"), running("b")), "1/2 Error 0"),
        (pod(running(), reason="Evicted", phase="Failed"), "1/1 Evicted 0"),
        (pod(running(), **DELETED), "1/1 Terminating 0"),
        (pod(terminated(0, "Completed"), phase="Succeeded", **DELETED), "0/1 Completed 0"),
        (pod(running(), reason="NodeLost", **DELETED), "1/1 Unknown 0"),
    ],
)
def test_status_words(shown: dict[str, Any], expected: str) -> None:
    assert " ".join(pod_row.row(shown, NOW)[1:4]) == expected


@pytest.mark.parametrize(
    ("init", "sidecars", "conditions", "expected"),
    [
        ([waiting("PodInitializing", "i")], (), {}, "0/1 Init:0/1 0"),
        ([terminated(0, "Completed", "i"), running("j")], (), {}, "0/1 Init:1/2 0"),
        ([waiting("ImagePullBackOff", "i")], (), {}, "0/1 Init:ImagePullBackOff 0"),
        ([waiting("CrashLoopBackOff", "i", restarts=2)], (), {}, "0/1 Init:CrashLoopBackOff 2"),
        ([terminated(1, "Error", "i")], (), {}, "0/1 Init:Error 0"),
        ([terminated(2, "", "i")], (), {}, "0/1 Init:ExitCode:2 0"),
        ([terminated(1, "", "i", state={"signal": 9})], (), {}, "0/1 Init:Signal:9 0"),
        ([status("s", ready=True, running={}) | {"started": True}], ("s",), {}, "1/2 PodInitializing 0"),
        ([status("s", running={}) | {"started": False}], ("s",), {}, "0/2 Init:0/1 0"),
        ([waiting("PodInitializing", "i")], (), {"Initialized": "True"}, "0/1 PodInitializing 0"),
    ],
)
def test_init_containers(
    init: list[dict[str, Any]], sidecars: tuple[str, ...], conditions: dict[str, str], expected: str
) -> None:
    shown = pod(
        waiting("PodInitializing"), init=init, sidecars=sidecars, conditions=conditions, phase="Pending"
    )
    assert " ".join(pod_row.row(shown, NOW)[1:4]) == expected


def test_restarts_say_when_the_last_was() -> None:
    ended = {"terminated": {"exitCode": 1, "finishedAt": ago(70)}}
    assert pod_row.row(pod(running(restarts=3, last=ended)), NOW)[3] == "3 (70s ago)"
    # Restarts of finished init containers don't count any more, those of sidecars do.
    init = [terminated(0, "Completed", "i", restarts=5), running("s", restarts=2) | {"started": True}]
    assert pod_row.row(pod(running(restarts=1), init=init, sidecars=("s",)), NOW)[1:4] == [
        "2/2",
        "Running",
        "3",
    ]


def test_wide_and_namespace_columns() -> None:
    gated = pod(phase="Pending", podIP="", metadata={"name": "a-longer-name"})
    gated["spec"]["readinessGates"] = [{"conditionType": kind} for kind in ("example.com/a", "example.com/b")]
    gated["status"]["conditions"] = [{"type": "example.com/b", "status": "True"}]
    rows = [pod_row.row(each, NOW, wide=True, namespace=True) for each in (pod(running()), gated)]
    table = Table(pod_row.headers(wide=True, namespace=True))
    shown = table.render(rows).splitlines()
    assert [line.split("AGE")[-1].split("100s")[-1].strip() for line in shown] == [
        "IP         NODE   NOMINATED NODE   READINESS GATES",
        "10.0.0.5   n1     <none>           <none>",
        "<none>     n1     <none>           1/2",
    ]
    assert shown[1].startswith("default     web             1/1     Running   0          100s   ")
    assert table.render([rows[0]], header=False).rstrip("\n") == shown[1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11100, "3h5m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (691200, "8d"),
        (63071999, "729d"),
        (63072000, "2y"),
        (70000000, "2y80d"),
        (300000000, "9y"),
    ],
)
def test_durations_as_kubectl_words_them(seconds: int, words: str) -> None:
    assert text.human_duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (3071234, "3.07MB"), (999_950_000, "1GB")]
)
def test_sizes(count: int, words: str) -> None:
    assert text.size(count) == words


def test_a_container_can_not_steer_the_terminal() -> None:
    assert text.escape("a\x1b[2Jb\r\x07\x9bc\td\x7f") == "a^[[2Jb^M^G\\x9bc\td^?"
    shown = Table(["STATUS"]).render([["\x1b]0;owned\x07Run\nning"]])
    assert shown.splitlines()[1] == "^[]0;owned^GRun ning"


def test_columns_follow_the_lines_around_them() -> None:
    source = "Name:\tweb\nLonger Title:\tx\nplain\n  a:\tb\tc\n  long one:\td\te\n\tindented"
    assert text.tabulate(source) == (
        "Name:          web\n"
        "Longer Title:  x\n"
        "plain\n"
        "  a:         b  c\n"
        "  long one:  d  e\n"
        "             indented"
    )


def test_a_refused_pod_is_as_old_as_its_manifest() -> None:
    refused = pod(phase="Failed")
    del refused["metadata"]["creationTimestamp"]
    assert pod_row.row(refused, NOW)[-1] == "<unknown>"
    refused["metadata"]["annotations"] = {"kubernetes.io/config.seen": ago(90)}
    assert pod_row.row(refused, NOW)[-1] == "90s"

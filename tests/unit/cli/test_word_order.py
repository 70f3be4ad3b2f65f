"""Words in the orders that kubectl's users type them in."""

from __future__ import annotations

import pytest

from minikubelet.cli.commands import delete, describe, exec, get, logs
from minikubelet.cli.main import main
from tests.unit.cli.test_against_api import Served, served

__all__ = ["served"]
Capture = pytest.CaptureFixture[str]


def test_options_stand_between_kind_and_names() -> None:
    parsed = get.parser().parse_args(["pods", "-o", "json", "web", "-n", "x", "db"])
    assert (parsed.kind, parsed.names) == ("pods", ["web", "db"])
    assert (parsed.output, parsed.namespace) == ("json", "x")
    parsed = describe.parser().parse_args(["-n", "x", "pod", "web"])
    assert (parsed.kind, parsed.names, parsed.namespace) == ("pod", ["web"], "x")
    parsed = delete.parser().parse_args(["pod", "--wait=false", "web"])
    assert (parsed.kind, parsed.names, parsed.wait) == ("pod", ["web"], "false")


def test_flags_take_true_and_false() -> None:
    parsed = logs.parser().parse_args(["web", "-f=true", "--timestamps=false", "--previous=True"])
    assert (parsed.follow, parsed.timestamps, parsed.previous) == (True, False, True)
    parsed = exec.parser().parse_args(["web", "--tty=false", "--", "run", "-i=false"])
    assert (parsed.tty, parsed.command) == (False, ["run", "-i=false"])


def test_a_flag_takes_nothing_else(capsys: Capture) -> None:
    assert main(["get", "pods", "--watch=maybe"]) == 2
    assert "ignored explicit argument 'maybe'" in capsys.readouterr().err


def test_the_namespace_may_stand_before_the_command(served: Served, capsys: Capture) -> None:
    assert served.run("-n", "kube-system", "get", "pods", "-o", "name") == 0
    assert capsys.readouterr().out == "pod/dns\n"
    assert served.run("--namespace=kube-system", "get", "pods", "-o", "name") == 0
    assert capsys.readouterr().out == "pod/dns\n"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("edit", "apply -f it again"),
        ("label", "apply -f it again"),
        ("scale", "a lone node runs pods"),
        ("cluster-info", "see get nodes"),
        ("logz", 'mean "logs"?'),
    ],
)
def test_words_for_what_is_called_otherwise_here(word: str, hint: str, capsys: Capture) -> None:
    assert main([word, "-f", "x"]) == 2
    assert hint in capsys.readouterr().err

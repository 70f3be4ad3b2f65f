"""`diff`: what `apply` would change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.test_apply_delete import POD, Run, given, run

__all__ = ["given", "run"]
Capture = pytest.CaptureFixture[str]


def test_nothing_something_and_a_failure(run: Run, given: Path, capsys: Capture) -> None:
    web = given / "web.yaml"
    assert run("apply", "-f", str(given)) == 0
    capsys.readouterr()
    assert run("diff", "-f", str(given)) == 0
    web.write_text(web.read_text() + "# a comment\n")
    assert run("diff", "-f", str(web)) == 0
    assert capsys.readouterr() == ("", "")
    web.write_text(web.read_text().replace("image: i", "image: other"))
    assert run("diff", "-f", str(given)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "--- LIVE/v1.Pod.default.web",
        "+++ MERGED/v1.Pod.default.web",
        "@@ -6,5 +6,5 @@",
        "   name: web",
        " spec:",
        "   containers:",
        "-  - image: i",
        "+  - image: other",
        "     name: c",
    ]
    web.write_text(POD.replace("NAME", "web").replace("image", "imago"))
    assert run("diff", "-f", str(web)) == 2
    output = capsys.readouterr()
    assert output.out == "" and "imago" in output.err
    assert run("diff", "-f", str(given / "nope")) == 2
    assert run("diff") == 2


def test_what_is_new(run: Run, given: Path, capsys: Capture) -> None:
    assert run("diff", "-R", "-f", str(given)) == 1
    shown = capsys.readouterr().out
    assert shown.count("@@ -0,0 +1,") == 5 and "\n-" not in shown.replace("\n--- LIVE/", "\n")
    assert "+++ MERGED/node.k8s.io.v1.RuntimeClass.default.fast\n" in shown
    assert not (given.parent / "node").exists()


def test_secrets_show_no_values(run: Run, given: Path, capsys: Capture) -> None:
    file = given / "keys.json"
    notes = {"kubectl.kubernetes.io/last-applied-configuration": "data: first"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "annotations": notes}}
    file.write_text(json.dumps({**secret, "stringData": {"same": "first", "other": "second"}}))
    assert run("diff", "-f", str(file)) == 1
    assert run("apply", "-f", str(file)) == 0
    file.write_text(
        json.dumps({**secret, "stringData": {"same": "first", "other": "third", "new": "fourth"}})
    )
    assert run("diff", "-f", str(file)) == 1
    shown = capsys.readouterr().out
    assert not [word for word in ("first", "second", "third", "fourth") if word in shown]
    assert shown.splitlines()[-6:] == [
        "   name: keys",
        " stringData:",
        "-  other: '*** (before)'",
        "+  new: '***'",
        "+  other: '*** (after)'",
        "   same: '***'",
    ]

"""`explain` of a pod that the node doesn't take."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.cli.api_client import ApiClient
from tests.unit.cli.test_against_api import Served, served

__all__ = ["served"]
Capture = pytest.CaptureFixture[str]


def test_explain_says_what_is_wrong_with_a_manifest_that_the_node_does_not_take(
    served: Served, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    monkeypatch.setattr(ApiClient, "config", lambda self: {"staticPodPath": str(folder)})
    (folder / "none.yaml").write_text(
        "kind: Pod\napiVersion: v1\nmetadata: {name: none}\nspec: {containers: []}\n"
    )
    (folder / "set.yaml").write_text(
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: set}\nspec: {}\n"
    )
    (folder / "torn.json").write_text('{"kind": "Pod", "metadata": {"name": "torn"')
    assert served.run("explain", "pod", "none") == 1
    shown = capsys.readouterr().out
    assert shown.startswith("Pod none is not on this node.\n\nIts manifest can't be used\n")
    assert f"{folder}/none.yaml:4:8: spec.containers: Required value\n  -> Correct it" in shown
    assert served.run("explain", "pod/set") == 1
    assert "kind: apps/v1 Deployment is not supported" in capsys.readouterr().out
    assert served.run("explain", "pod/torn") == 1
    assert f"{folder}/torn.json" in capsys.readouterr().out
    assert served.run("explain", "pod", "nope") == 1
    assert capsys.readouterr().err == 'error: pods "nope" not found\n'
    assert served.run("explain", "pod", "none", "-n", "kube-system") == 1
    assert capsys.readouterr().err == 'error: pods "none" not found\n'

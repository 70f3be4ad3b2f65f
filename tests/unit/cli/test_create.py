"""``create``: objects that aren't there yet, from manifests and from values. No pod runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.completion import complete
from minikubelet.cli.main import main

Capture = pytest.CaptureFixture[str]
Run = Callable[..., int]
PODS = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db}
spec: {containers: [{name: c, image: i}]}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "files"
    (folder / "d/inside").mkdir(parents=True)
    (folder / "d/app.conf").write_text("a=1\nb=x y\n")
    (folder / "d/bin").write_bytes(b"\xff\xfe")
    (folder / "d/not a key").write_text("x")
    (folder / "env").write_text('# c\nA=1\n\nB="q"\n C=3=4\nFROM_OUTSIDE\nNOWHERE_SET\n')
    (folder / "pw.txt").write_text("pw")
    (folder / "web.yaml").write_text(PODS)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FROM_OUTSIDE", "here")
    return folder


@pytest.fixture
def run(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(ApiClient, "pods", lambda self: [])
    return lambda *words: main(["create", *words, "--manifests", str(tmp_path / "node")])


def printed(run: Run, capsys: Capture, *words: str) -> dict[str, Any]:
    assert run(*words, "--dry-run=client", "-o", "yaml") == 0
    return dict(yaml.safe_load(capsys.readouterr().out))


def test_config_maps_as_kubectl_makes_them(run: Run, capsys: Capture) -> None:
    words = ("configmap", "x", "--from-literal=a=1", "--from-literal", "b='q'", "--from-file=d")
    assert printed(run, capsys, *words, "-n", "n") == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": "n"},
        "data": {"a": "1", "b": "'q'", "app.conf": "a=1\nb=x y\n"},
        "binaryData": {"bin": "//4="},
    }
    assert printed(run, capsys, "cm", "x", "--from-file=k=d/app.conf")["data"] == {"k": "a=1\nb=x y\n"}
    assert printed(run, capsys, "cm", "x", "--from-env-file=env")["data"] == {
        **{"A": "1", "B": '"q"', "C": "3=4"},
        "FROM_OUTSIDE": "here",
    }
    assert "data" not in printed(run, capsys, "cm", "x")


def test_secrets_as_kubectl_makes_them(run: Run, files: Path, capsys: Capture) -> None:
    made = printed(
        run, capsys, "secret", "generic", "s", "--from-file=pw.txt", "--from-literal=u=me", "--type=T"
    )
    assert (made["type"], made["data"]) == ("T", {"pw.txt": "cHc=", "u": "bWU="})
    assert printed(run, capsys, "secret", "generic", "s").keys() == {"apiVersion", "kind", "metadata"}
    made = printed(run, capsys, "secret", "tls", "s", "--cert=pw.txt", "--key=pw.txt")
    assert (made["type"], made["data"]) == ("kubernetes.io/tls", {"tls.crt": "cHc=", "tls.key": "cHc="})
    words = ("--docker-server=reg:5000", "--docker-username=u", "--docker-password=p", "--docker-email=e@x")
    made = printed(run, capsys, "secret", "docker-registry", "s", *words)
    assert made["type"] == "kubernetes.io/dockerconfigjson"
    entry = {"username": "u", "password": "p", "email": "e@x", "auth": "dTpw"}
    assert json.loads(base64.b64decode(made["data"][".dockerconfigjson"])) == {"auths": {"reg:5000": entry}}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "must specify -f FILE"),
        (["-f", "web.yaml", "configmap", "x"], 2, "must specify -f FILE"),
        (["configmap"], 2, "exactly one NAME is required"),
        (["secret", "x"], 2, "expected secret generic|tls|docker-registry NAME"),
        (["pod", "x"], 2, "write a manifest"),
        (["cm", "x", "--from-literal=a"], 2, "expected key=value"),
        (["cm", "x", "--from-literal=a=1", "--from-literal=a=2"], 1, 'cannot add key "a"'),
        (["cm", "x", "--from-literal=a/b=1"], 1, '"a/b" is not a valid key name for a ConfigMap'),
        (["cm", "x", "--from-literal=..=1"], 1, "is not a valid key name"),
        (["cm", "x", "--from-file=d=d"], 2, "cannot give a key name for a directory path"),
        (["cm", "x", "--from-file=nope"], 1, "nope: No such file or directory"),
        (["cm", "x", "--from-file=k="], 2, "expected FILE or KEY=FILE"),
        (["cm", "x", "--from-env-file=d/bin"], 1, "contains invalid utf8 bytes"),
        (["cm", "x", "--from-env-file=env", "--from-file=d"], 2, "cannot be combined"),
        (["cm", "X", "--from-literal=a=1"], 1, "metadata.name: "),
        (["secret", "tls", "x"], 2, "key and cert must be specified"),
        (["secret", "docker-registry", "x"], 2, "--docker-username and --docker-password are needed"),
    ],
)
def test_what_is_refused(
    run: Run, tmp_path: Path, capsys: Capture, words: list[str], code: int, said: str
) -> None:
    assert run(*words) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "node").exists()


def test_what_is_there_already(run: Run, tmp_path: Path, capsys: Capture) -> None:
    assert run("cm", "x", "--from-literal=a=y") == 0
    assert capsys.readouterr().out == "configmap/x created\n"
    file = tmp_path / "node/configmap.default.x.yaml"
    assert yaml.safe_load(file.read_text())["data"] == {"a": "y"} and file.stat().st_mode & 0o77 == 0
    assert run("cm", "x", "--from-literal=a=other") == 1
    assert capsys.readouterr().err == 'error: configmaps "x" already exists\n'
    assert run("-f", "web.yaml", "--dry-run=server") == 0
    assert capsys.readouterr().out == "pod/web created (dry run)\npod/db created (dry run)\n"
    assert run("-f", "web.yaml", "-o", "name") == 0
    assert capsys.readouterr().out == "pod/web\npod/db\n"
    (tmp_path / "node/pod.default.db.yaml").unlink()
    assert run("-f", "web.yaml") == 1
    assert capsys.readouterr() == ("pod/db created\n", 'error: pods "web" already exists\n')


def test_completion() -> None:
    assert [word for word, _ in complete(["create", ""])[0]] == ["configmap", "secret"]
    assert [word for word, _ in complete(["create", "secret", "g"])[0]] == ["generic"]
    assert complete(["create", "configmap", "x", "--from-file", ""]) == ([], True)

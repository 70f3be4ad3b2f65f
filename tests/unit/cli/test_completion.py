"""Completion: what Tab offers, asked as shells ask."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from minikubelet.cli.completion import SHELLS, complete
from minikubelet.cli.main import GROUPS, main
from minikubelet.kubelet.objects import ObjectMeta, Pod
from minikubelet.kubelet.objects.data import ConfigMap
from tests.unit.cli.test_against_api import Served, make_pod

FORMATS = ["wide", "json", "yaml", "name", "go-template=", "go-template-file=", "template=", "templatefile="]
FORMATS += ["jsonpath=", "jsonpath-as-json=", "jsonpath-file=", "custom-columns=", "custom-columns-file="]


def words(*typed: str) -> list[str]:
    return [word for word, _ in complete(typed)[0]]


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIKUBELET_RUN", str(tmp_path))
    return tmp_path


def test_commands(run_dir: Path) -> None:
    assert {name for commands in GROUPS.values() for name in commands} <= set(words(""))
    assert words("ge") == ["get"]
    assert words("--run", "/x", "desc") == ["describe"]
    assert words("nonsense", "") == []


def test_options_and_their_values(run_dir: Path) -> None:
    assert "--follow" in words("logs", "--f")
    assert "--previous" not in words("logs", "--f")
    assert words("get", "pods", "-o", "") == FORMATS
    assert words("get", "pods", "--output=j") == [
        "--output=json",
        *("--output=jsonpath=", "--output=jsonpath-as-json=", "--output=jsonpath-file="),
    ]
    assert words("get", "pods", "-o", "go") == ["go-template=", "go-template-file="]
    assert "--template" in words("get", "pods", "--te") and complete(["get", "--template", ""])[1] is True
    assert words("image", "") and "pull" in words("image", "")
    assert words("completion", "") == list(SHELLS)
    assert words("wait", "--for", "c") == ["condition=Ready", "condition=", "create"]
    assert words("wait", "--for=d") == ["--for=delete"]
    assert words("wait", "n") == ["nodes"] and words("wait", "con") == ["configmaps"]
    assert complete(["diff", "-f", ""])[1] is True


def test_pods_namespaces_and_containers(run_dir: Path) -> None:
    with Served(run_dir) as served:
        for pod in (make_pod("web"), make_pod("db"), make_pod("dns", "kube-system")):

            async def add(pod: Pod = pod) -> None:
                served.pods.update(pod)

            served.call(add())
        assert words("logs", "") == ["db", "web"]
        assert words("logs", "w") == ["web"]
        assert words("logs", "-n", "") == ["default", "kube-system"]
        assert words("describe", "pod", "-n", "kube-system", "") == ["dns"]
        assert words("exec", "web", "-c", "") == ["app"]
        assert words("events", "--for", "") == ["pod/db", "pod/web"]
        assert words("logs", "pod/w") == ["pod/web"]
        assert words("get", "po/") == ["po/db", "po/web"]
        assert words("wait", "pod", "w") == ["web"]


def test_what_pods_refer_to(run_dir: Path) -> None:
    with Served(run_dir) as served:
        for name, namespace in (("site", "default"), ("dns", "kube-system")):
            meta = ObjectMeta(name=name, namespace=namespace)
            served.objects.append(ConfigMap(api_version="v1", kind="ConfigMap", metadata=meta))
        assert words("get", "cm", "") == ["site"]
        assert words("delete", "configmaps", "-n", "kube-system", "") == ["dns"]
        assert words("delete", "cm/") == ["cm/site"]
        assert words("delete", "config") == ["configmaps"]
        assert words("describe", "config") == ["configmaps"]
        assert words("explain", "config") == []
        served.node = {"kind": "Node", "metadata": {"name": "n1"}}
        assert words("describe", "no") == ["nodes"]
        assert words("get", "node", "") == ["n1"]
        assert words("delete", "no") == []
        assert words("get", "nonsense", "") == []


def test_without_a_daemon_there_are_no_names_and_no_errors(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["__complete", "logs", ""]) == 0
    assert capsys.readouterr() == (":words\n", "")


def test_files_where_files_fit(run_dir: Path) -> None:
    assert complete(["run", ""])[1] is True
    assert complete(["exec", "web", "--", "ca"])[1] is True
    assert complete(["get", ""])[1] is False


def test_bash_itself(run_dir: Path) -> None:
    program = Path(__file__).resolve().parents[3] / ".venv/bin/minikubelet"
    script = f"""
        source <('{program}' completion bash)
        COMP_WORDS=('{program}' get pods --output "") COMP_CWORD=4
        _minikubelet; printf '%s\\n' "${{COMPREPLY[@]}}"
        COMP_WORDS=('{program}' desc) COMP_CWORD=1
        _minikubelet; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*FORMATS, "describe"], done.stderr

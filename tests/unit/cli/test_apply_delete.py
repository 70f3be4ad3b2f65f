"""`apply` and `delete` on a folder; no pod runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.main import main
from minikubelet.kubelet.api import objects
from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.decode import decode_manifest
from minikubelet.kubelet.manifests.static import make_static

Capture = pytest.CaptureFixture[str]
Run = Callable[..., int]

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME}}
spec: {containers: [{name: c, image: i}]}
"""
SECRET = b"{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: hidden}}"
OTHERS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: site, labels: {app: web}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: fast}
handler: runc
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Manifests, some in a folder inside."""
    folder = tmp_path / "given"
    (folder / "more").mkdir(parents=True)
    for name, where in (("web", folder), ("db", folder), ("cache", folder / "more")):
        (where / f"{name}.yaml").write_text(POD.replace("NAME", name))
    (folder / "more/others.yaml").write_text(OTHERS)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(ApiClient, "pods", lambda self: [])
    folder = str(tmp_path / "node")
    return lambda *words: main([*words, "--manifests", folder])


def test_folders_inside_folders_are_for_minus_r(run: Run, given: Path, capsys: Capture) -> None:
    assert run("apply", "-f", str(given)) == 0
    assert capsys.readouterr().out == "pod/db created\npod/web created\n"
    assert run("delete", "pod", "db", "--dry-run") == 0
    assert capsys.readouterr().out == 'pod "db" deleted from default namespace (dry run)\n'
    assert run("apply", "-R", "-f", str(given), "--dry-run=client") == 0
    assert capsys.readouterr().out.splitlines() == [
        "configmap/site created (dry run)",
        "runtimeclass/fast created (dry run)",
        "pod/db unchanged (dry run)",
        "pod/web unchanged (dry run)",
        "pod/cache created (dry run)",
    ]
    assert run("apply", "--dry-run", "-o", "name", "-f", str(given / "more/cache.yaml")) == 0
    assert capsys.readouterr().out == "pod/cache\n"
    assert run("apply", "--dry-run=none", "-f", str(given / "more/cache.yaml")) == 0
    assert capsys.readouterr().out == "pod/cache created\n"
    assert run("apply", "-o", "name", "-f", str(given / "more/cache.yaml")) == 0
    assert capsys.readouterr().out == "pod/cache\n"


def test_apply_warns_of_what_has_no_effect(run: Run, given: Path, capsys: Capture) -> None:
    (given / "web.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n")
    assert run("apply", "-f", str(given)) == 0
    assert capsys.readouterr().err == (
        f"Warning: {given}/web.yaml:2:1: kind: Service has no effect on this node: "
        "pods are reached at their own addresses, or at a hostPort\n"
    )


def test_what_has_no_effect_is_left_out(run: Run, given: Path, tmp_path: Path, capsys: Capture) -> None:
    role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: web}\n"
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
    pod = POD.replace("NAME", "web")
    (given / "web.yaml").write_text("---\n".join([service, pod, role]))
    assert run("apply", "-f", str(given / "web.yaml")) == 0
    assert capsys.readouterr().out == "pod/web created\n"
    assert [each.name for each in (tmp_path / "node").iterdir()] == ["pod.default.web.yaml"]
    assert run("diff", "-f", str(given / "web.yaml")) == 0
    (tmp_path / "node/by-hand.yaml").write_text(service)
    assert run("delete", "-f", str(given / "web.yaml")) == 0
    assert capsys.readouterr().out.splitlines() == [
        'service "web" deleted from default namespace',
        'pod "web" deleted from default namespace',
    ]
    assert list((tmp_path / "node").iterdir()) == []
    assert run("delete", "-f", str(given / "web.yaml")) == 1
    assert capsys.readouterr().err == 'error: pods "web" not found\n'


def test_a_pod_as_it_is_shown_changes_its_manifest(
    run: Run, given: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert run("apply", "-f", str(given / "web.yaml")) == 0
    ((running, _),) = decode_manifest((given / "web.yaml").read_bytes()).pods
    make_static(running, "n1", "x")
    apply_defaults(running)
    running.metadata.annotations["example.org/kept"] = "yes"
    shown = given / "shown.json"
    shown.write_bytes(
        msgspec.json.encode({"apiVersion": "v1", "kind": "Pod", **msgspec.to_builtins(running)})
    )
    capsys.readouterr()
    assert run("apply", "-f", str(shown)) == 0
    output = capsys.readouterr()
    assert output.out == "pod/web configured\n"
    assert output.err == f"Warning: {shown}: pod web-n1 as it is shown: its manifest web is meant\n"
    (file,) = (tmp_path / "node").iterdir()
    written = yaml.safe_load(file.read_text())
    assert written["metadata"] == {
        "name": "web",
        "namespace": "default",
        "labels": {"app": "web"},
        "annotations": {"example.org/kept": "yes"},
    }
    assert "nodeName" not in written["spec"] and "tolerations" not in written["spec"]
    assert written["spec"]["containers"][0]["image"] == "i"
    assert run("apply", "-f", str(shown)) == 0
    assert capsys.readouterr().out == "pod/web unchanged\n"
    assert run("delete", "-f", str(shown)) == 0
    assert capsys.readouterr().out == 'pod "web" deleted from default namespace\n'


def test_a_secret_as_it_is_shown_is_not_applied(run: Run, given: Path, capsys: Capture) -> None:
    """Its values would be lost."""
    ((secret,), text) = (decode_manifest(SECRET).objects, given / "secret.json")
    text.write_bytes(msgspec.json.encode(objects.shown(secret)))
    assert run("apply", "-f", str(text)) == 1
    assert "a Secret as it is shown, without its values" in capsys.readouterr().err
    assert "annotations" not in objects.shown(secret, sizes=True)["metadata"]


@pytest.mark.parametrize(
    "kind", ["apps/v1 Deployment", "batch/v1 Job", "batch/v1 CronJob", "apps/v1 StatefulSet"]
)
def test_apply_says_which_kinds_it_does_not_take(run: Run, given: Path, kind: str, capsys: Capture) -> None:
    version, name = kind.split()
    (given / "z.yaml").write_text(f"apiVersion: {version}\nkind: {name}\nmetadata: {{name: x}}\nspec: {{}}\n")
    assert run("apply", "-f", str(given)) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert (
        f"error: {given}/z.yaml:2:1: kind: {kind} is not supported: this node has no controllers"
        in output.err
    )


@pytest.mark.parametrize("command", ["apply", "delete"])
def test_what_cant_be_read_is_said_plainly(run: Run, command: str, capsys: Capture) -> None:
    assert run(command, "-f", "/no/such.yaml") == 1
    assert capsys.readouterr().err == 'error: the path "/no/such.yaml" does not exist\n'
    assert run(command, "-f", "https://example.com/pod.yaml") == 1
    assert "only files are read" in capsys.readouterr().err


def test_delete_by_label_kind_and_all(run: Run, given: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("apply", "-R", "-f", str(given)) == 0
    capsys.readouterr()
    assert run("delete", "pods", "-l", "app in (web, none)") == 0
    assert capsys.readouterr().out == 'pod "web" deleted from default namespace\n'
    assert run("delete", "cm/site", "runtimeclass/fast", "pod/db") == 0
    assert capsys.readouterr().out.splitlines() == [
        'configmap "site" deleted from default namespace',
        'runtimeclass "fast" deleted',
        'pod "db" deleted from default namespace',
    ]
    assert run("delete", "cm", "site") == 1
    assert capsys.readouterr().err == 'error: configmaps "site" not found\n'
    assert run("delete", "po", "-l", "app=web") == 0
    assert capsys.readouterr().err == "No resources found.\n"
    assert run("delete", "pods", "--all") == 0
    assert capsys.readouterr().out == 'pod "cache" deleted from default namespace\n'
    assert list((tmp_path / "node").iterdir()) == []


def test_delete_in_all_namespaces(run: Run, given: Path, capsys: Capture) -> None:
    other = given / "other.yaml"
    other.write_text(POD.replace("NAME", "web").replace("metadata: {", "metadata: {namespace: elsewhere, "))
    assert "elsewhere" in other.read_text()
    assert run("apply", "-f", str(given)) == 0
    assert run("delete", "pods", "--all", "--dry-run", "-o", "name", "-n", "elsewhere") == 0
    assert capsys.readouterr().out.splitlines()[-1:] == ["pod/web"]
    assert run("delete", "pods", "-l", "app=web", "-A") == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        'pod "web" deleted from default namespace',
        'pod "web" deleted from elsewhere namespace',
    ]
    assert run("delete", "pods", "db", "-A") == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pod"], "give a name, a label (-l), or say --all"),
        (["pod", "a", "--all"], "a name can't stand together with"),
        (["pod", "a", "-l", "b=c"], "a name can't stand together with"),
        (["deploy", "a"], 'unknown kind "deploy": this node has pods, configmaps'),
        (["pod/a", "b"], "'b' is not KIND/NAME"),
        (["pod", "a", "--grace-period=0", "--force"], "terminationGracePeriodSeconds of its manifest"),
        (["pod", "a", "--now"], "terminationGracePeriodSeconds of its manifest"),
        ([], "name pods (delete pod NAME), or a manifest (-f FILE)"),
    ],
)
def test_delete_typed_wrongly(run: Run, words: list[str], expected: str, capsys: Capture) -> None:
    assert run("delete", *words) == 2
    assert expected in capsys.readouterr().err

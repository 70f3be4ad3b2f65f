"""`lint`: file, line and column of everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minikubelet.cli.main import main
from minikubelet.cli.manifest_check import check_manifest, locate
from minikubelet.kubelet.manifests.yaml_reader import split_path

GOOD = "apiVersion: v1\nkind: Pod\nmetadata: {name: ok}\nspec:\n  containers: [{name: c, image: i}]\n"
BAD = """\
# a comment, and then
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {disk: ssd}
  containers:
    - name: x
      image: i
      ports:
        - {name: web, containerPort: 99999}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  containers:
    - name: x
      imag: y
"""


def places(text: str) -> list[tuple[str, int, int, str]]:
    return [(each.level, each.line, each.column, each.field) for each in check_manifest(text.encode(), "f")]


def test_all_findings_of_all_documents_with_their_places() -> None:
    assert places(BAD) == [
        ("warning", 6, 3, "spec.nodeSelector"),
        ("error", 11, 23, "spec.containers[0].ports[0].containerPort"),
        ("error", 19, 7, "spec.containers[0].imag"),
    ]


def test_a_wrong_word_in_a_list_hides_none_of_those_behind_it() -> None:
    text = GOOD.replace("image: i", 'image: i, args: [1, a, yes, .5], ports: [{containerPort: "80"}]')
    at = "spec.containers[0]"
    assert [(each.field, each.column) for each in check_manifest(text.encode(), "f")] == [
        (f"{at}.args[0]", text.splitlines()[-1].index("1,") + 1),
        (f"{at}.args[2]", text.splitlines()[-1].index("yes") + 1),
        (f"{at}.args[3]", text.splitlines()[-1].index(".5") + 1),
        (f"{at}.ports[0].containerPort", text.splitlines()[-1].index("containerPort") + 1),
    ]


def test_a_name_that_would_be_generated() -> None:
    (finding,) = check_manifest(GOOD.replace("name: ok", "generateName: ok-").encode(), "f")
    assert finding.message == "Required value: from generateName only an API server makes one"


def test_json_has_places_too() -> None:
    text = json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"x": 1}}, indent=2
    )
    assert places(text) == [("error", 8, 5, "spec.x")]


def test_a_good_manifest_has_no_findings() -> None:
    assert places(GOOD) == []


@pytest.mark.parametrize("text", ["", "# nothing", "---\n---\n"])
def test_a_file_without_objects_is_an_error(text: str) -> None:
    (finding,) = check_manifest(text.encode(), "f")
    assert (finding.level, finding.message) == ("error", "holds no object")


def test_broken_yaml_has_its_line() -> None:
    (finding,) = check_manifest(b"a: 1\nb: [\n", "f")
    assert finding.level == "error" and finding.line == 3 and "not valid YAML" in finding.message
    (finding,) = check_manifest(b"\xff\xfe\x00", "f")
    assert finding.level == "error"


def test_paths() -> None:
    assert split_path("spec.containers[0].name") == ("spec", "containers", 0, "name")
    assert locate("a:\n  - b: 1\n    c: 2\n", ("a", 0, "c")) == (3, 5)
    assert locate("a:\n  - b: 1\n", ("a", 0, "gone", "x")) == (2, 5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text(BAD)
    good.write_text(GOOD)
    assert main(["lint", str(good)]) == 0
    assert capsys.readouterr() == ("", "0 errors, 0 warnings\n")
    assert main(["lint", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.err == "2 errors, 1 warning\n"
    assert f"{bad}:11:23: error: spec.containers[0].ports[0].containerPort: Invalid value: 99999" in shown.out
    good.write_text(GOOD + "  nodeSelector: {a: b}\n")
    assert main(["lint", str(good)]) == 0
    assert main(["lint", "--strict", str(good)]) == 1
    capsys.readouterr()
    assert main(["lint", "-o", "json", str(bad)]) == 1
    assert [each["line"] for each in json.loads(capsys.readouterr().out)] == [6, 11, 19]
    assert main(["lint", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err


NEEDY = """\
apiVersion: v1
kind: Pod
metadata: {name: needy}
spec:
  runtimeClassName: fast
  containers:
    - name: c
      image: i
      envFrom:
        - secretRef: {name: none}
        - configMapRef: {name: maybe, optional: true}
      env:
        - {name: A, valueFrom: {configMapKeyRef: {name: here, key: a}}}
        - {name: B, valueFrom: {configMapKeyRef: {name: here, key: b}}}
  volumes:
    - name: data
      persistentVolumeClaim: {claimName: disk}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: here}
data: {a: x}
"""


def test_what_pods_refer_to_is_looked_for_in_all_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pod.yaml").write_text(NEEDY)
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    (tmp_path / "claim.json").write_text(json.dumps({**claim, "spec": spec}))
    assert main(["lint", str(tmp_path / "pod.yaml"), str(tmp_path / "claim.json")]) == 0
    lines = [line.partition("pod.yaml:")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        '5:3: warning: spec.runtimeClassName: RuntimeClass "fast" is in none of the given files',
        "10:23: warning: spec.containers[0].envFrom[0].secretRef.name: "
        'Secret "none" is in none of the given files',
        "14:51: warning: spec.containers[0].env[1].valueFrom.configMapKeyRef.name: "
        'ConfigMap "here" has no key "b"',
    ]
    assert main(["lint", str(tmp_path / "pod.yaml")]) == 0
    assert 'PersistentVolumeClaim "disk" is in none of the given files' in capsys.readouterr().out


def test_volumes_that_no_lone_node_has_are_errors() -> None:
    text = (
        GOOD
        + """\
  volumes:
    - {name: a, nfs: {server: s, path: /}}
    - {name: b, emptyDir: {}}
    - name: c
      projected:
        sources:
          - serviceAccountToken: {path: token}
"""
    )
    assert places(text) == [
        ("error", 7, 17, "spec.volumes[0].nfs"),
        ("error", 12, 13, "spec.volumes[2].projected.sources[0].serviceAccountToken"),
    ]


def test_yaml_may_begin_with_a_brace() -> None:
    text = GOOD.replace("i}]", "i, command: [sh, -c, \"echo \\'x\\'\"]}]")
    assert places(text) == []
    assert places("{# not JSON\n apiVersion: v1, kind: ConfigMap, metadata: {name: a},}\n---\n" + GOOD) == []


def test_one_mistake_of_an_object_does_not_hide_the_others() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {tier: 1}}
spec:
  container: []
  containers:
    - name: 5
      imgae: i
      env: [{name: A, value: 1}]
"""
    assert places(text) == [
        ("error", 3, 30, "metadata.labels.tier"),
        ("error", 5, 3, "spec.container"),
        ("error", 7, 7, "spec.containers[0].name"),
        ("error", 8, 7, "spec.containers[0].imgae"),
        ("error", 9, 23, "spec.containers[0].env[0].value"),
    ]


def test_places_in_lists() -> None:
    pod = "  - apiVersion: v1\n    kind: Pod\n    metadata: {name: NAME}\n    spec:\n"
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        + pod.replace("NAME", "a")
        + "      containers:\n        - {name: x, imgae: i}\n"
        + pod.replace("NAME", "b")
        + "      dnsPolicy: Some\n      containers: [{name: x, image: i}]\n"
    )
    (finding,) = check_manifest(text.encode(), "f")
    assert (finding.line, finding.column, finding.field) == (9, 21, "spec.containers[0].imgae")
    (finding,) = check_manifest(text.replace("imgae", "image").encode(), "f")
    assert (finding.line, finding.column, finding.field) == (14, 7, "spec.dnsPolicy")


def test_scheduling_gates_are_told_of_where_they_are() -> None:
    text = GOOD.replace("spec:", "spec:\n  schedulingGates: [{name: example.com/quota}]")
    (finding,) = check_manifest(text.encode(), "f")
    assert (finding.level, finding.line, finding.field) == ("error", 5, "spec.schedulingGates")
    assert "takes no pod that has some" in finding.message


def test_what_is_taken_out_as_a_mistake_is_not_missed() -> None:
    text = (
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: a}\n"
        "spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], nfs: {path: /, server: x}}\n"
    )
    (finding,) = check_manifest(text.encode(), "f")
    assert finding.field == "spec.nfs"

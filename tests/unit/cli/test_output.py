"""``-o jsonpath``, ``-o custom-columns``, field selectors and the order of lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from minikubelet.cli import json_path, output, selectors, yaml_text
from minikubelet.cli.options import CommandError
from minikubelet.kubelet.manifests.yaml_reader import read_yaml

POD: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}},
    "spec": {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 3,
        "containers": [
            {"name": "p", "image": "i1", "ports": [{"containerPort": 80}, {"containerPort": 443}]},
            {"name": "q", "image": "i2"},
        ],
    },
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [  # what kubectl 1.36 prints for the same object (kubectl annotate --local -f pod.json a=b -o jsonpath=…)
        ("plain", "plain"),
        ("{.metadata.name}\n", "a\n"),
        ("{$.kind} {@.kind}", "Pod Pod"),
        (r"{.metadata.labels.app\.kubernetes\.io/name}", "x"),
        (r"{.metadata.labels['app\.kubernetes\.io/name']}", "x"),
        ("{.metadata['name']}{['kind']}", "aPod"),
        ("{.spec.containers[*].name}", "p q"),
        ("{.spec.*.name}", ""),
        ("{.spec.containers[-1].name}", "q"),
        ("{.spec.containers[0:1].name}", "p"),
        ("{.spec.containers[-1:].name}", "q"),
        ("{.spec.containers[0].ports[::2].containerPort}", "80"),
        ("{.spec.containers[0].ports[0,1].containerPort}", "80 443"),
        ("{.spec.containers[1]['name','image']}", "q i2"),
        ("{.spec.containers[*]['name','image']}", "p q i1 i2"),
        ("{.spec.containers[1]}", '{"image":"i2","name":"q"}'),
        ("{.spec.hostNetwork} {.spec.terminationGracePeriodSeconds}", "true 3"),
        ("{..name}", "a p q"),
        ("{..containerPort}", "80 443"),
        ('{.spec.containers[?(@.name=="q")].image}', "i2"),
        ("{.spec.containers[?(@.name!='q')].image}", "i1"),
        ("{.spec.containers[?(@.ports)].name}", "p"),
        ("{.spec.containers[?(@.ports[0].containerPort>79)].name}", "p"),
        ("{.nope}{.metadata.nope.more}", ""),
        ("{.metadata.name}{','}{.kind}", "a,Pod"),
        (r'{range .spec.containers[*]}{.name}{"\t"}{.image}{"\n"}{end}', "p\ti1\nq\ti2\n"),
        ("{range .spec.containers[*]}{.name}{range .ports[*]}:{.containerPort}{end};{end}", "p:80:443;q;"),
        ("{range .spec.containers[*]}[{.name}, {.image}] {end}", "[p, i1] [q, i2] "),
        ("{range .spec.containers[*]}{.name}", "pq"),
        ("{range .nope[*]}x{end}{range .nope}y{end}", ""),
        ("{.spec.containers[1:1].name}", ""),
        ("{.spec.containers[1].ports[0].containerPort}", ""),
        ("{.spec.containers[*].ports[-1].containerPort}", "443"),
        ("{.spec.containers[*].ports[?(@.containerPort<100)].containerPort}", "80"),
        ('{.spec.containers[?("q"==@.name)].image}', "i2"),
        ('{.spec.containers[?(.name=="q")].image}', "i2"),
        ("{.spec.containers[?(@.name==@.image)].name}", ""),
        ("{.spec.containers..containerPort}", "80 443"),
        ("{..ports[*].containerPort}", "80 443"),
        ('{"it"}{1}{true}{1.5}', "it1true1.5"),
        ('{"a" "b"}', "b"),
        (r'{"\u00e9\x41\101\t\"\\"}', 'éAA\t"\\'),
        ("{.kind .metadata.name}", ""),
        ("{ .kind }}", "Pod}"),
    ],
)
def test_jsonpath(template: str, expected: str) -> None:
    assert json_path.template(template)(POD) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "{end}",
        "{*}",
        "{.a..*}",
        "{.a[?(@.b==1].c}",
        "{.a[-]}",
        "{.a[?(@.b[?(@.c==80)])].d}",
        "{'a\n'}",
        "{.kind,.metadata.name}",
        "{.a[}",
        "{.a[x]}",
        "{kind}",
        "{.a[?(@.b=~'c')]}",
        "{.a[?(@.b==c)]}",
        "",
        """{.a[?(@.b=="c" && @.d=="e")]}""",
        "{'a}",
    ],
)
def test_bad_jsonpath(template: str) -> None:
    with pytest.raises(CommandError, match="jsonpath") as caught:
        json_path.template(template)
    assert caught.value.usage


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{.spec.containers[5].name}", "array index out of bounds: index 5, length 2"),
        ("{.spec.containers[-5].name}", "array index out of bounds: index -3, length 2"),
        ("{.spec.containers[0:9].name}", "array index out of bounds: index 8, length 2"),
        ("{.spec.containers[1:0].name}", "starting index 1 is greater than ending index 0"),
        ("{.spec.containers[::-1].name}", "step must be > 0"),
        ("{.kind[0]}", "string is not array or slice"),
        ("{.metadata[*]}", "map[string]interface {} is not array or slice"),
        ("{.metadata[?(@.a)]}", "map[string]interface {} is not array or slice and cannot be filtered"),
        (
            "{.spec.containers[?(@.ports[*].containerPort==443)].name}",
            "can only compare one element at a time",
        ),
        ("{.spec.containers[?(@.name==1)].name}", "incompatible types for comparison"),
        ("{.spec.containers[?(@.ports[0].containerPort==80.0)]}", "incompatible types for comparison"),
        ("{.spec.containers[?(@.ports==1)].name}", "invalid type for comparison"),
    ],
)
def test_what_kubectl_does_not_make_of_values(template: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        json_path.template(template)(POD)
    assert str(caught.value) == f'error executing jsonpath "{template}": {message}'


@pytest.mark.parametrize(
    ("template", "missing"),
    [  # what kubectl 1.36 says with --allow-missing-template-keys=false
        ("{.kind} {.spec.nope}", "nope"),
        ("{range .nope[*]}x{end}", "nope"),
        ("{.spec.containers[?(@.nope=='x')].name}", "nope"),
        ("{..nope}", "nope"),
        ("{['spec','nope']}", "nope"),
        ("{.spec.*.nope}", "nope"),
        ("{.kind.x}", "x"),
        ("{range .spec.containers[*]}{.ports}{end}", "ports"),
        ("{.spec.containers[*].ports}", None),
        ("{.spec.containers[?(@.nope)].name}", None),
    ],
)
def test_fields_that_must_not_be_missing(template: str, missing: str | None) -> None:
    render = json_path.template(template, allow_missing=False)
    if missing is None:
        assert render(POD) == json_path.template(template)(POD)
        return
    with pytest.raises(CommandError) as caught:
        render(POD)
    assert str(caught.value) == f'error executing jsonpath "{template}": {missing} is not found'


def test_keys_with_dots_may_stand_as_they_are() -> None:
    """kubectl takes the dots for steps, and finds nothing."""
    for quote in "'\"":
        template = f"{{.metadata.labels[{quote}app.kubernetes.io/name{quote}]}}"
        assert json_path.template(template)(POD) == "x"


@pytest.mark.parametrize("text", ["{.a}{.b}", "{}", "", "{.a"])
def test_bad_paths(text: str) -> None:
    with pytest.raises(CommandError, match="jsonpath"):
        json_path.path(text)


def test_formats_are_checked_before_anything_is_done() -> None:
    forms = output.Formats("json")
    assert "json" in forms and "jsonpath={.a}" in forms and "custom-columns=A:.a" in forms
    assert "go-template={{.a}}" in forms and "go-template" in forms and "templatefile=x" in forms
    assert not any(form in forms for form in ("xml", "jsonpath=", "custom-columns=", "jsonpathx={.a}"))
    assert (
        "jsonpath-file=x" in forms and "jsonpath-as-json={.a}" in forms and "custom-columns-file=x" in forms
    )
    for form in ("custom-columns=A", "custom-columns=A:.a,", "custom-columns=:.a", "jsonpath={"):
        with pytest.raises(CommandError):
            output.Whole(form)


def test_custom_columns(capsys: pytest.CaptureFixture[str]) -> None:
    whole = output.Whole(
        "custom-columns=NAME:.metadata.name,IMAGES:spec.containers[*].image,NODE:{.spec.nodeName}"
    )
    whole.all([POD], single=False)
    whole.change({"metadata": {"name": "b"}, "spec": {"nodeName": "n1"}})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [["NAME", "IMAGES", "NODE"], ["a", "i1,i2", "<none>"], ["b", "<none>", "n1"]]


def test_columns_show_values_as_go_does(capsys: pytest.CaptureFixture[str]) -> None:
    """What kubectl 1.36 prints for the same object."""
    paths = "A:.metadata.labels,B:.spec.containers[0].ports,C:.spec.hostNetwork,D:..containerPort"
    output.Whole(f"custom-columns={paths}", header=False).all([POD], single=True)
    assert (
        capsys.readouterr().out.rstrip("\n")
        == "map[app.kubernetes.io/name:x]   [map[containerPort:80] map[containerPort:443]]   true   80,443"
    )


def test_formats_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "template"
    file.write_text("{.metadata.name}, {.kind}\n")
    output.Whole(f"jsonpath-file={file}").all([POD], single=True)
    assert capsys.readouterr().out == "a, Pod\n"
    file.write_text("NAME  KIND\nmetadata.name {.kind}\n")
    output.Whole(f"custom-columns-file={file}").all([POD], single=True)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["NAME", "KIND"], ["a", "Pod"]]
    for text in ("NAME\n", "NAME KIND\nmetadata.name\n"):
        file.write_text(text)
        with pytest.raises(CommandError, match="one line of headers"):
            output.Whole(f"custom-columns-file={file}")
    with pytest.raises(CommandError, match="error reading"):
        output.Whole(f"jsonpath-file={file}.gone")


def test_json_lists_of_what_a_template_finds(capsys: pytest.CaptureFixture[str]) -> None:
    output.Whole("jsonpath-as-json={.spec.containers[*].name}{.nope}").all([POD], single=True)
    assert capsys.readouterr().out == '[\n    "p",\n    "q"\n]\n[]\n'


def test_order() -> None:
    items: list[dict[str, Any]] = [{"n": 10}, {"n": 9}, {}, {"n": "b"}, {"n": "a"}]
    assert output.sort(items, ".n") == [{}, {"n": 9}, {"n": 10}, {"n": "a"}, {"n": "b"}]
    assert output.sort(items, "") == items
    amounts = [{"n": "1Gi"}, {"n": "500m"}, {"n": "64Mi"}, {"n": "2"}]
    assert [each["n"] for each in output.sort(amounts, "{.n}")] == ["500m", "2", "64Mi", "1Gi"]
    with pytest.raises(CommandError, match=r'couldn\'t find any field with path "\{.nope}" in the list'):
        output.sort(items, ".nope")
    assert output.sort([], ".nope") == [] and output.sort([{}], ".nope") == [{}]


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==a,spec.hostNetwork=true", True),
        ("metadata.name!=a", False),
        ("status.phase=Running", False),
        ("status.phase!=Running", True),
        ("spec.nodeName=", True),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    assert selectors.parse_fields(text, selectors.POD_FIELDS)(POD) is matches


@pytest.mark.parametrize(
    "text", ["x", "=a", "status.phase=a=b", "status.phase in (a)", "spec.containers=a", ","]
)
def test_bad_field_selectors(text: str) -> None:
    with pytest.raises(CommandError, match="field"):
        selectors.parse_fields(text, selectors.POD_FIELDS)


YAML = """\
args:
- |
  one
  two
- "trailing \\nspace"
long: WORDS
name: é
"yes": "true"
"""
KUBECTLS = """\
""
"y"
"n"
"Y"
"N"
"yes"
"No"
"on"
"Off"
"true"
"FALSE"
"null"
"~"
"1"
"-1"
"+1"
"0"
"0x1F"
"0o17"
"017"
"08"
"1e3"
"1E5"
"1.5"
".5"
"5."
"1_000"
"0b1"
"22:22"
"190:20:30"
"2026-01-01"
"2026-01-01T00:00:00Z"
".inf"
".nan"
'-'
+
'?'
'- a'
'a: b'
'a #b'
'#a'
'''q'''
'"q"'
'*x'
'&x'
'!x'
'%x'
'@x'
'`x'
'{a'
'[a'
']'
a]
a,b
', a'
' a'
'a '
\\
é
'a:'
a:b
:a
http://x:80/
127.0.0.1
1.2.3
100m
64Mi
$(X)
'|'
'> a'
a|b
'--- a'
'...'
1e
e1
0x
infinity
nan
None
nil
"10:00"
"1:2"
"0.0"
"-.5"
"12e03"
0o8
t
T
f
o
"""


def test_yaml_for_people() -> None:
    words = "word " * 50 + "end"
    value = {"yes": "true", "name": "é", "long": words, "args": ["one\ntwo\n", "trailing \nspace"]}
    shown = yaml_text.dump(value)
    assert yaml.safe_load(shown) == value
    assert shown == YAML.replace("WORDS", words)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("app=web,tier!=db,!gone", True),
        ("app in (web, api),tier notin (db,)", True),
        ("example.com/a-b==1.5_x", True),
        ("app==", False),
        ("level>2,level<4", True),
        ("none notin (), gone", False),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    labels = {"app": "web", "tier": "front", "example.com/a-b": "1.5_x", "level": "3"}
    assert selectors.parse(text)(labels) is matches


@pytest.mark.parametrize(
    "text",
    ["a/b/c", "Example.com/a", "app=-web", "app in (web-)", "app in (a b)", 'app="web"', "app===web", "-app"],
)
def test_selectors_of_labels_that_there_can_not_be(text: str) -> None:
    with pytest.raises(CommandError, match="unable to parse label selector"):
        selectors.parse(text)


def test_words_are_quoted_as_by_kubectl() -> None:
    """So that what is shown can be applied: what kubectl 1.36 writes for each (annotate --local -o yaml)."""
    for word in KUBECTLS.splitlines():
        (document,) = read_yaml(f"- {word}\n".encode())
        (text,) = document.data
        assert isinstance(text, str)
        assert yaml_text.dump([text, {text: 1}]) == f"- {word}\n- {word}: 1\n"

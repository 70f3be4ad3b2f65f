"""``-o jsonpath``, ``-o custom-columns``, field selectors and the order of lists."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from minikubelet.cli import json_path, output, selectors, yaml_text
from minikubelet.cli.options import CommandError

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
    [  # what kubectl 1.32 prints for the same object (kubectl annotate --local -f pod.json a=b -o jsonpath=…)
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
    ],
)
def test_jsonpath(template: str, expected: str) -> None:
    assert json_path.template(template)(POD) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "{end}",
        "{range .a}",
        "{.a[}",
        "{.a[x]}",
        "{.a[]}",
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


def test_an_index_past_the_end_is_an_error() -> None:
    with pytest.raises(CommandError, match="index out of bounds: index 5, length 2"):
        json_path.template("{.spec.containers[5].name}")(POD)


def test_formats_are_checked_before_anything_is_done() -> None:
    forms = output.Formats("json")
    assert "json" in forms and "jsonpath={.a}" in forms and "custom-columns=A:.a" in forms
    assert not any(
        form in forms for form in ("xml", "jsonpath", "jsonpath=", "custom-columns=", "jsonpathx={.a}")
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


def test_order() -> None:
    items: list[dict[str, Any]] = [{"n": 10}, {"n": 9}, {}, {"n": "b"}, {"n": "a"}]
    assert output.sort(items, ".n") == [{}, {"n": 9}, {"n": 10}, {"n": "a"}, {"n": "b"}]
    assert output.sort(items, "") == items


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
'yes': 'true'
"""


def test_yaml_for_people() -> None:
    words = "word " * 50 + "end"
    value = {"yes": "true", "name": "é", "long": words, "args": ["one\ntwo\n", "trailing \nspace"]}
    shown = yaml_text.dump(value)
    assert yaml.safe_load(shown) == value
    assert shown == YAML.replace("WORDS", words)

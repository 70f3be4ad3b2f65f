"""``-o go-template``: what kubectl prints and says, and that no template goes on for ever."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from minikubelet.cli import output
from minikubelet.cli.go_template import functions, runner, template, values
from minikubelet.cli.options import CommandError, Parser
from tests.unit.cli import go_templates

RECORDED = go_templates.load()
CASES = [(group, text) for group in ("lenient", "strict") for text in RECORDED[group]]


def test_enough_is_recorded() -> None:
    answers = [RECORDED[group][text] for group, text in CASES]
    assert sum(isinstance(answer, list) for answer in answers) > 150
    assert sum(isinstance(answer, str) for answer in answers) > 150
    everything = " ".join(text for _, text in CASES)
    assert all(name in everything for name in functions.FUNCTIONS)


@pytest.mark.parametrize(("group", "text"), CASES)
def test_as_kubectl(group: str, text: str) -> None:
    made: Any
    try:
        made = [template(text, allow_missing=group == "lenient")(RECORDED["object"])]
    except CommandError as exc:
        made = str(exc)
        assert exc.usage is made.startswith("error parsing")
    assert made == RECORDED[group][text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{define "a"}}{{template "a"}}{{end}}{{template "a"}}', "exceeded maximum template depth (500)"),
        ("{{range 1000000000}}{{end}}", "exceeded the maximum number of steps"),
        ("{{range 1000000000}}{{range 1000000000}}x{{end}}{{end}}", "exceeded the maximum number of steps"),
        ('{{$x := "0123456789"}}{{range 100}}{{$x = print $x $x}}{{end}}', "MiB of text"),
        ('{{range 1000}}{{printf "%9000000d" 1}}{{end}}', "MiB of text"),
        ('{{$x := printf "%9000000d" 1}}{{print $x $x $x $x $x $x $x $x $x $x}}', "MiB of text"),
    ],
)
def test_it_ends(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MOST_STEPS", 20_000)
    monkeypatch.setattr(values, "MOST_LETTERS", 10 << 20)
    with pytest.raises(CommandError) as caught:
        template(text)({})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "max expression depth exceeded"),
        ("{{if 1}}" * 50_000, "nested too deeply"),
    ],
)
def test_brackets_and_bodies_inside_one_another(text: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        template(text)
    assert str(caught.value).endswith(message)


def test_many_bodies_inside_one_another() -> None:
    deep = "{{with .a}}" * 100 + "{{.}}" + "{{end}}" * 100
    data: Any = "x"
    for _ in range(100):
        data = {"a": data}
    assert template(deep)(data) == "x"
    tree = '{{define "t"}}{{with .a}}{{template "t" .}}{{else}}.{{end}}{{end}}{{template "t" .}}'
    for _ in range(300):
        data = {"a": data}
    with pytest.raises(CommandError, match="can't evaluate field a in type string"):
        template(tree)(data)


def test_bytes_that_are_no_text_are_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    form = '{{slice "é" 1}} {{slice "é" 0 1}}{{slice "é" 1}} {{base64decode "/w=="}} {{.x}}{{len .x}}'
    output.Whole(f"go-template={form}").all([{"x": "\ud800"}], single=True)
    assert capsys.readouterr().out == "\ufffd é \ufffd \ufffd3"


def settled(*words: str) -> argparse.Namespace:
    parser = Parser("get", "", "")
    output.add_format(parser, "wide", "json")
    args = parser.parse_args(words)
    output.settle(args)
    return args


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ([], None),
        (["-o", "wide"], "wide"),
        (["-o", "json", "--template", "{{.x}}"], "json"),
        (["--template", "{{.x}}"], "go-template={{.x}}"),
        (["-o", "go-template", "--template={{.x}}"], "go-template={{.x}}"),
        (["-o", "go-template-file", "--template", "f"], "go-template-file=f"),
        (["-o", "jsonpath", "--template", "{.x}"], "jsonpath={.x}"),
        (["-o", "go-template={{.x}}"], "go-template={{.x}}"),
    ],
)
def test_where_the_template_stands(words: list[str], form: str | None) -> None:
    assert settled(*words).output == form


def test_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pods = [{"metadata": {"name": name}} for name in ("a", "b")]
    args = settled("-o", "template={{range .items}}{{.metadata.name}},{{.x}};{{end}}")
    whole = output.whole(args)
    assert whole is not None
    whole.all(pods, single=False)
    assert capsys.readouterr().out == "a,<no value>;b,<no value>;"
    file = tmp_path / "template"
    file.write_text("{{.metadata.name}}\n")
    for form in ("go-template-file", "templatefile"):
        output.Whole(f"{form}={file}").all(pods[:1], single=True)
        assert capsys.readouterr().out == "a\n"
    strict = output.whole(settled("--template={{.x}}", "--allow-missing-template-keys=false"))
    assert strict is not None
    with pytest.raises(CommandError, match='map has no entry for key "x"'):
        strict.all(pods[:1], single=True)
    assert capsys.readouterr().out == ""

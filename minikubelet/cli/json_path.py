"""JSONPath templates as kubectl's ``-o jsonpath=`` takes them: text, and ``{expressions}`` over an object.

https://kubernetes.io/docs/reference/kubectl/jsonpath/: fields, ``..``, ``*``, indexes, slices, unions,
filters, ``range`` and quoted text; what isn't there is printed as nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minikubelet.cli.json_path_parser import Action, SyntaxFault, parse
from minikubelet.cli.json_path_steps import Fault, Step, Values, follow
from minikubelet.cli.options import CommandError

_RELAXED = re.compile(r"\{\.?([^{}]+)\}\Z|\.?([^{}]+)\Z")
_RELAXED_RULE = "expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"


@dataclass(frozen=True)
class _Range:
    """``{range PATH}BODY{end}``."""

    steps: Sequence[Step]
    body: Sequence[_Node]


_Node = str | Action | _Range


def template(text: str, *, allow_missing: bool = True) -> Callable[[Any], str]:
    """What ``text`` makes of an object. Raises CommandError for a template that isn't one.

    Without ``allow_missing``, a field that isn't there is an error when the template is used.
    """
    nodes = _nodes_of(text, allow_missing=allow_missing)
    return lambda value: "".join(
        " ".join(shown(each) for each in found) for found in _run(nodes, value, text)
    )


def template_as_json(text: str, *, allow_missing: bool = True) -> Callable[[Any], str]:
    """What each action and text finds, as a JSON list of its own (``-o jsonpath-as-json=``)."""
    nodes = _nodes_of(text, allow_missing=allow_missing)
    return lambda value: "".join(json.dumps(found, indent=4) + "\n" for found in _run(nodes, value, text))


def path(text: str) -> Callable[[Any], list[Any]]:
    """What a path such as ``.spec.nodeName``, ``spec.nodeName`` or ``{.a}`` finds. Raises CommandError."""
    match = _RELAXED.match(text)
    if match is None:
        raise CommandError(f"jsonpath {text!r}: unexpected path string, {_RELAXED_RULE}", usage=True)
    bare = match[1] or match[2]
    nodes = _nodes_of(f"{{.{bare}}}" if bare[0] != "[" else f"{{{bare}}}", text)
    return lambda value: [each for found in _run(nodes, value, text) for each in found]


def shown(value: Any) -> str:
    """A value as kubectl prints it: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _nodes_of(text: str, typed: str = "", *, allow_missing: bool = True) -> Sequence[_Node]:
    if not text:
        raise CommandError("jsonpath: a template must follow, as in jsonpath='{.metadata.name}'", usage=True)
    try:
        nodes, rest = _nested(parse(text, allow_missing=allow_missing), inside=False)
    except SyntaxFault as exc:
        raise CommandError(f"error parsing jsonpath {typed or text}, {exc}", usage=True) from None
    assert not rest
    return nodes


def _nested(found: list[str | Action], *, inside: bool) -> tuple[list[_Node], list[str | Action]]:
    """Ranges with their bodies; one that is never ended goes up to the end, as with kubectl."""
    nodes: list[_Node] = []
    while found:
        each, found = found[0], found[1:]
        if isinstance(each, str) or not each.word:
            nodes.append(each)
        elif each.word == "range":
            body, found = _nested(found, inside=True)
            nodes.append(_Range(each.steps, body))
        elif inside:
            return nodes, found
        else:
            raise SyntaxFault("not in range, nothing to end")
    return nodes, []


def _run(nodes: Sequence[_Node], value: Any, text: str) -> Iterator[Values]:
    try:
        yield from _results(nodes, value)
    except Fault as exc:
        raise CommandError(f'error executing jsonpath "{text}": {exc}') from None


def _results(nodes: Sequence[_Node], value: Any) -> Iterator[Values]:
    for node in nodes:
        if isinstance(node, str):
            yield [node]
        elif isinstance(node, Action):
            yield follow(node.steps, [value])
        else:
            for each in follow(node.steps, [value]):
                yield from _results(node.body, each)

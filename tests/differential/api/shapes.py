"""Answers in a form that can be compared: status, headers, and text, shape of JSON or families of metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.differential.api.battery import Request
from tests.differential.api.client import Answer
from tests.differential.normalise import normalise_text

Result = dict[str, Any]

_UNSAID = {"date", "content-length", "transfer-encoding"}
"""Headers that say nothing about how a request was understood."""
_PRESENCE = {"last-modified", "etag", "audit-id", "process-start-time-unix"}
_SHAPED = ("/pods", "/runningpods", "/configz", "/stats")
"""Where the JSON is too much, or too different from run to run, to be compared but for its keys and types."""
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+( \d+)?\Z")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')
_MOMENT = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


def normalise(request: Request, answer: Answer, home: Path) -> Result:
    """What of an answer counts."""
    if answer.failure:
        return {"failure": answer.failure}
    headers = {}
    for name, value in sorted(answer.headers, key=lambda each: each[0].lower()):
        name = name.lower()
        if name not in _UNSAID:
            headers[name] = "SET" if name in _PRESENCE else _text(value, home)
    result: Result = {"status": answer.status}
    if headers:
        result["headers"] = headers
    if request.with_body and request.method != "HEAD":
        result["body"] = _body(request, answer, home)
    return result


def _body(request: Request, answer: Answer, home: Path) -> Any:
    text = answer.body.decode("utf-8", "backslashreplace")
    if answer.header("content-type").startswith("text/plain; version=0.0.4"):
        return {"families": families(text)}
    if text[:1] in ("{", "[") and text.rstrip()[-1:] in ("}", "]"):
        try:
            value = json.loads(text)
        except ValueError:
            return _text(text, home)
        if request.target.startswith(_SHAPED):
            return {"shape": shape(value)}
    return _text(text, home)


def _text(text: str, home: Path) -> str:
    return normalise_text(_MOMENT.sub("TIME", text), home)


def shape(value: Any, path: str = "") -> dict[str, str]:
    """Types by path of keys: ``items[].metadata.name`` is a ``string``. Items of lists count together."""
    found: dict[str, set[str]] = {}
    _collect(value, path, found)
    return {where: " or ".join(sorted(kinds)) for where, kinds in sorted(found.items())}


def _collect(value: Any, path: str, found: dict[str, set[str]]) -> None:
    if isinstance(value, dict):
        found.setdefault(path or ".", set()).add("object")
        for key, inner in value.items():
            _collect(inner, f"{path}.{key}" if path else key, found)
    elif isinstance(value, list):
        found.setdefault(path, set()).add("list")
        for inner in value:
            _collect(inner, f"{path}[]", found)
    else:
        kinds = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
        found.setdefault(path, set()).add(kinds[type(value)])


def families(text: str) -> dict[str, dict[str, Any]]:
    """Families of the text format 0.0.4 by name: type, whether there is help, labels, bounds of buckets."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            _, what, name, *rest = line.split(" ", 3)
            family = found.setdefault(name, {"type": "untyped", "help": False, "labels": set(), "bounds": []})
            family["help" if what == "HELP" else "type"] = bool(rest) if what == "HELP" else rest[0]
        elif match := _SAMPLE.match(line):
            family = found[_family(match[1], found)]
            labels = dict(_LABEL.findall(match[2] or ""))
            if (bound := labels.pop("le", None)) is not None and bound not in family["bounds"]:
                family["bounds"].append(bound)
            labels.pop("quantile", None)
            family["labels"] |= labels.keys()
    return {name: _family_shown(each) for name, each in sorted(found.items())}


def _family_shown(family: dict[str, Any]) -> dict[str, Any]:
    shown = {**family, "labels": " ".join(sorted(family["labels"]))}
    bounds = [f"{float(each):g}" for each in shown.pop("bounds")]
    return {**shown, "bounds": " ".join(bounds)} if bounds else shown


def _family(name: str, found: dict[str, dict[str, Any]]) -> str:
    """Whose sample that is: a histogram's have endings. KeyError if it is nobody's."""
    for ending in ("_bucket", "_sum", "_count"):
        bare = name.removesuffix(ending)
        if bare != name and bare in found:
            return bare
    return name

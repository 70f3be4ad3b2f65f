"""Objects compared as kubectl does it: YAML with sorted keys, and of Secrets only whether a value changes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from minikubelet.cli import yaml_text
from minikubelet.cli.describe_parts import LAST_APPLIED

Json = dict[str, Any]
_HIDDEN = "***"
_SECRETS = ("data", "stringData")


def unified(old: Json | None, new: Json, name: str) -> str:
    """What changes from ``old`` (None: there is none yet) to ``new``; empty if nothing does."""
    if old is not None and new.get("kind") == "Secret":
        old, new = _without_secrets(old, new)
    elif new.get("kind") == "Secret":
        new = _hidden(new, {})
    before = _lines(old) if old is not None else []
    lines = difflib.unified_diff(before, _lines(new), f"LIVE/{name}", f"MERGED/{name}")
    return "".join(lines)


def file_name(each: Json, namespace: str) -> str:
    """How kubectl calls the file of an object: ``v1.Pod.default.web``."""
    version = str(each.get("apiVersion", "")).replace("/", ".")
    return ".".join((version, str(each.get("kind", "")), namespace, each["metadata"]["name"]))


def _lines(value: Json) -> list[str]:
    return yaml_text.dump(value).splitlines(keepends=True)


def _without_secrets(old: Json, new: Json) -> tuple[Json, Json]:
    """Both with stars for values; where they differ the stars do, too."""
    differing = {
        (part, key)
        for part in _SECRETS
        for key in _values(old, part).keys() & _values(new, part).keys()
        if _values(old, part)[key] != _values(new, part)[key]
    }
    return (
        _hidden(old, dict.fromkeys(differing, f"{_HIDDEN} (before)")),
        _hidden(new, dict.fromkeys(differing, f"{_HIDDEN} (after)")),
    )


def _hidden(secret: Json, words: Mapping[tuple[str, str], str]) -> Json:
    parts: Json = {
        part: {key: words.get((part, key), _HIDDEN) for key in _values(secret, part)}
        for part in _SECRETS
        if part in secret
    }
    meta = secret["metadata"]
    if isinstance(notes := meta.get("annotations"), dict) and LAST_APPLIED in notes:
        parts["metadata"] = {**meta, "annotations": {**notes, LAST_APPLIED: _HIDDEN}}
    return {**secret, **parts}


def _values(secret: Json, part: str) -> Json:
    found = secret.get(part)
    return found if isinstance(found, dict) else {}

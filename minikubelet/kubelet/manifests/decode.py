"""Documents become objects: JSON or YAML, one or many a file, lists unfolded; every field must be known."""

from __future__ import annotations

import copy
import difflib
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from minikubelet.kubelet.manifests import data_objects, other_kinds
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import (
    MAX_BYTES,
    MAX_DEPTH,
    Document,
    Path,
    dotted,
    read_yaml,
    split_path,
)
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.data import (
    ConfigMap,
    DataObject,
    PersistentVolume,
    PersistentVolumeClaim,
    RuntimeClass,
    Secret,
)

_KINDS: dict[str, type[Pod] | type[DataObject]] = {
    "Pod": Pod,
    "ConfigMap": ConfigMap,
    "Secret": Secret,
    "PersistentVolumeClaim": PersistentVolumeClaim,
    "PersistentVolume": PersistentVolume,
    "RuntimeClass": RuntimeClass,
}
T = TypeVar("T")
_VERSIONS = {"RuntimeClass": "node.k8s.io/v1"}
"""apiVersion of what is not ``v1``."""
_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?\Z", re.S)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`\Z", re.S)
_EXPECTED = re.compile(r"Expected `(.+?)`, got `(.+?)`\Z")
_TEMPLATE = re.compile(rb"\{\{-? *[.a-zA-Z]|\{% ")
"""The marks of Go's templates and Jinja's."""
_UNREADABLE = ("not valid", "a key must be")
"""What their marks are in YAML and JSON, outside of quotes."""
_LACKING = "Object missing required field"
_MOST_MISTAKES = 50
"""Of one object; who has more will ask again."""
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "bool": "true or false",
    "float": "a number",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


@dataclass
class Manifest:
    """What a file holds, in order."""

    pods: list[tuple[Pod, Document]] = field(default_factory=list)
    """As written: no defaults, not validated."""
    objects: list[DataObject] = field(default_factory=list)
    """Complete and checked."""
    warnings: list[ManifestError] = field(default_factory=list)
    """About objects, and about kinds that are left out."""

    def __len__(self) -> int:
        return len(self.pods) + len(self.objects)


def decode_manifest(text: bytes, file: str = "") -> Manifest:
    """All that a manifest holds.

    Raises ManifestError with ``file``, the line and the field path of the first problem.
    """
    manifest = Manifest()
    try:
        for whole in _documents(text):
            for document in _unfold(whole):
                _add(manifest, document)
    except ManifestError as exc:
        exc.file = exc.file or file
        raise
    for warning in manifest.warnings:
        warning.file = warning.file or file
    return manifest


def decode_mistakes(text: bytes, file: str = "") -> list[tuple[ManifestError, Path]]:
    """Every mistake that keeps objects from being decoded, and its path in its YAML document.

    A mistake hides those behind it; so it is taken out and the object looked at again.
    """
    try:
        documents = [document for whole in _documents(text) for document in _unfold(whole)]
    except ManifestError as exc:
        found = [(exc, split_path(exc.field))]
    else:
        found = [
            (each, (*document.inside, *split_path(each.field)))
            for document in documents
            for each in _mistakes(document)
        ]
    for mistake, _ in found:
        mistake.file = mistake.file or file
    return found


def _mistakes(document: Document) -> Iterator[ManifestError]:
    rest = Document(copy.deepcopy(document.data), document.lines, document.inside)
    known: set[str] = set()
    while len(known) < _MOST_MISTAKES:
        try:
            if known:  # what was taken out may be what a check would miss
                _object(rest)
            else:
                _add(Manifest(), rest)
            return
        except ManifestError as exc:
            if exc.field in known or (known and exc.message.startswith(_LACKING)):
                return  # that comes of what was taken out
            yield exc
            known.add(exc.field)
            if not _take_out(rest.data, split_path(exc.field), exc.message):
                return


def _take_out(data: Any, path: Path, message: str) -> bool:
    """Remove what is at ``path``; False if nothing is there, or if it is what an object can't be without.

    A word in a list is replaced instead, so that those behind it keep their places.
    """
    if len(path) < 2:
        return False
    try:
        for step in path[:-1]:
            data = data[step]
        last = path[-1]
        if isinstance(data, list) and isinstance(last, int) and message.startswith("expected a string"):
            data[last] = ""
        else:
            del data[last]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def decode_json(text: bytes, kind: type[T]) -> T:
    """One object of an API request. Raises ManifestError with the field path of the first problem."""
    document = Document(_json(text))
    if not isinstance(document.data, dict):
        raise ManifestError("expected a mapping")
    return convert(document.data, document, kind)


def decode_pods(text: bytes, file: str = "") -> list[tuple[Pod, Document]]:
    """The pods of a manifest only; see :func:`decode_manifest`."""
    return decode_manifest(text, file).pods


def _add(manifest: Manifest, document: Document) -> None:
    kind, version = document.data.get("kind"), document.data.get("apiVersion")
    if message := other_kinds.no_effect(version, kind):
        manifest.warnings.append(ManifestError(message, field="kind", line=document.line(("kind",))))
        return
    found = _object(document)
    if isinstance(found, Pod):
        manifest.pods.append((found, document))
        return
    data_objects.complete(found)
    data_objects.check(found, document)
    manifest.warnings += data_objects.warnings(found, document)
    manifest.objects.append(found)


def _documents(text: bytes) -> Iterator[Document]:
    try:
        yield from _parse(text)
    except ManifestError as exc:
        if exc.message.startswith(_UNREADABLE) and _TEMPLATE.search(text):
            exc.message += f" ({other_kinds.TEMPLATE_HINT})"
        raise


def _parse(text: bytes) -> Iterator[Document]:
    if text.lstrip()[:1] != b"{":
        yield from read_yaml(text)
        return
    try:
        whole = _json(text)
    except _NotJson as wrong:
        try:  # YAML's braces, or several documents
            yield from list(read_yaml(text))
        except ManifestError:
            raise wrong from None
    else:
        yield Document(whole)


class _NotJson(ManifestError):
    """Text that no JSON parser takes."""


def _json(text: bytes) -> Any:
    if len(text) > MAX_BYTES:
        raise ManifestError(f"larger than {MAX_BYTES} bytes")
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as exc:
        raise _NotJson(f"not valid JSON: {exc.msg}", line=exc.lineno) from None
    except (RecursionError, UnicodeDecodeError, ValueError) as exc:
        raise ManifestError(f"not valid JSON: {exc}") from None
    _check_depth(data)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ManifestError(f"key {key!r} appears twice")
        seen[key] = value
    return seen


def _check_depth(data: Any) -> None:
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ManifestError(f"nested deeper than {MAX_DEPTH} levels")
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]


def _unfold(document: Document) -> Iterator[Document]:
    """The items of a List, PodList and so on, each with its own lines; anything else as it is."""
    data = document.data
    if not isinstance(data, dict):
        raise ManifestError("expected a mapping with apiVersion and kind", line=document.line(()))
    kind = data.get("kind")
    inner = kind.removesuffix("List") if isinstance(kind, str) and kind.endswith("List") else None
    if inner is None or (inner and inner not in _KINDS):
        yield document
        return
    items = data.get("items") or []
    if not isinstance(items, list):
        raise ManifestError("expected a list", field="items", line=document.line(("items",)))
    for index, item in enumerate(items):
        if inner and isinstance(item, dict):
            item = {"apiVersion": _VERSIONS.get(inner, "v1"), "kind": inner, **item}
        prefix: Path = ("items", index)
        lines = {path[2:]: line for path, line in document.lines.items() if path[:2] == prefix}
        yield from _unfold(Document(item, lines, (*document.inside, *prefix)))


def _object(document: Document) -> Pod | DataObject:
    data = document.data
    kind, version = data.get("kind"), data.get("apiVersion")
    if not kind or not version:
        raise ManifestError(other_kinds.nameless(data), line=document.line(()))
    if not isinstance(kind, str) or kind not in _KINDS or version != _VERSIONS.get(kind, "v1"):
        message = other_kinds.refusal(version, kind, {each: _VERSIONS.get(each, "v1") for each in _KINDS})
        raise ManifestError(message, field="kind", line=document.line(("kind",)))
    return convert({key: value for key, value in data.items() if key != "status"}, document, _KINDS[kind])


def convert(data: Any, document: Document, kind: type[T]) -> T:
    """The document's ``data`` as an object. Raises ManifestError with line and field path."""
    plain = _without_nulls(data, document)
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as exc:
        raise _explain(str(exc), plain, document) from None


def _without_nulls(value: Any, document: Document, path: Path = ()) -> Any:
    """``null`` means absent everywhere, as in Go's decoder. No text may hold a NUL or half a character."""
    if isinstance(value, dict):
        return {
            _text(key, document, path): _without_nulls(each, document, (*path, key))
            for key, each in value.items()
            if each is not None
        }
    if isinstance(value, list):
        return [_without_nulls(each, document, (*path, index)) for index, each in enumerate(value)]
    return _text(value, document, path) if isinstance(value, str) else value


def _text(value: str, document: Document, path: Path) -> str:
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value if char > "\ud7ff"):
        raise ManifestError("holds a NUL or half a character", field=dotted(path), line=document.line(path))
    return value


def _explain(text: str, data: Any, document: Document) -> ManifestError:
    """msgspec's message in this project's words, at the right line."""
    match = _AT.match(text)
    what, where = (match["what"], match["path"] or "") if match else (text, "")
    path = _steps(where, data)
    if unknown := _UNKNOWN.match(what):
        path = (*path, unknown[1])
        close = difflib.get_close_matches(unknown[1], _vocabulary(), n=1, cutoff=0.75)
        hint = f' (did you mean "{close[0]}"?)' if close and close[0] != unknown[1] else ""
        what = f"unknown field{hint}"
    elif expected := _EXPECTED.match(what):
        wanted = " or ".join(_WORDS.get(word, word) for word in expected[1].split(" | ") if word != "null")
        what = f"expected {wanted}, got {_WORDS.get(expected[2], expected[2])}"
        if wanted == "a string" and expected[2] in ("int", "float", "bool"):
            what += " (it needs quotes)"
    return ManifestError(what, field=dotted(path), line=document.line(path))


def _steps(where: str, data: Any) -> Path:
    """msgspec's ``.spec.containers[0].env[...]`` as a path; ``[...]`` becomes the key that is no string."""
    path: list[str | int] = []
    for name, index in re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", where):
        step: str | int = name
        if index == "..." and isinstance(data, dict):
            step = next((key for key, value in data.items() if not isinstance(value, str)), "?")
        elif index:
            step = int(index) if index.isdigit() else index
        path.append(step)
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            data = None
    return tuple(path)


@functools.cache
def _vocabulary() -> list[str]:
    """Every field name an object can have, for suggestions."""
    names: set[str] = set()
    seen: set[type] = set()
    todo: list[Any] = [msgspec.inspect.type_info(kind) for kind in _KINDS.values()]
    while todo:
        info = todo.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in seen:
                continue
            seen.add(info.cls)
            names.update(each.encode_name for each in info.fields)
            todo += [each.type for each in info.fields]
        elif isinstance(info, msgspec.inspect.UnionType):
            todo += info.types
        elif isinstance(info, msgspec.inspect.ListType):
            todo.append(info.item_type)
        elif isinstance(info, msgspec.inspect.DictType):
            todo.append(info.value_type)
    return sorted(names)

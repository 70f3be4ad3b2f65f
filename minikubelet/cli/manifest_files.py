"""Objects in manifest files as pieces of text: found, compared, put into the node's folder and taken out.

What a person wrote is kept as written: a YAML document is cut out of its file with its comments.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from minikubelet.base.files import write_atomic
from minikubelet.cli.options import CommandError
from minikubelet.kubelet.manifests import other_kinds
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import MAX_BYTES, read_yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Key:
    """What an object is called."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


@dataclass
class Piece:
    """One document of a file, or one item of a list in it."""

    key: Key
    data: Any
    text: str
    in_list: bool = False
    """Whether other objects share its document, so that it can't be cut out."""

    @property
    def has_effect(self) -> bool:
        """Whether it means something to a node by itself: Services, roles and the like don't."""
        return other_kinds.no_effect(self.data.get("apiVersion"), self.key.kind) is None


@dataclass
class ManifestFile:
    """A file and the objects in it, in order."""

    path: str
    pieces: list[Piece] = field(default_factory=list)


def read_pieces(text: bytes, path: str, namespace: str = "") -> list[Piece]:
    """The objects of a manifest; those without a namespace get ``namespace``, or count as in ``default``.

    Raises ManifestError for what isn't YAML or JSON, and for documents that are no objects.
    """
    documents, texts = _documents(text, path)
    found = []
    for data, piece in zip(documents, texts, strict=True):
        objects = _unfold(data, path)
        for each in objects:
            found.append(_piece(each, piece, path, namespace, in_list=len(objects) > 1))
    return found


def _documents(text: bytes, path: str) -> tuple[list[Any], list[str]]:
    """Data and text of each document."""
    wrong = ""
    if text.lstrip()[:1] == b"{":
        try:
            return [json.loads(text)], [text.decode()]
        except (ValueError, RecursionError) as exc:
            wrong = f"not valid JSON: {exc}"  # but maybe YAML's braces
    try:
        return [document.data for document in read_yaml(text)], _cut(text)
    except ManifestError as exc:
        if wrong:
            raise ManifestError(wrong, file=path) from None
        exc.file = exc.file or path
        raise


def document_starts(whole: str) -> list[tuple[int, int]]:
    """Where each YAML document begins: characters and lines before it. Raises yaml.YAMLError."""
    marks: list[Any] = [
        event.start_mark
        for event in yaml.parse(whole, Loader=_LOADER)
        if isinstance(event, yaml.DocumentStartEvent)
    ]
    return [(mark.index, mark.line) for mark in marks]


def _cut(text: bytes) -> list[str]:
    """The text of each document that isn't empty, without its ``---``."""
    whole = text.decode("utf-8-sig")
    at = document_starts(whole)
    pieces = []
    for index, (start, _) in enumerate(at):
        # Comments above the first document belong to it.
        piece = whole[(start if index else 0) : (at[index + 1][0] if index + 1 < len(at) else len(whole))]
        if any(True for _ in read_yaml(piece.encode())):
            pieces.append(re.sub(r"\A((?:[ \t]*(?:#[^\n]*)?\n)*)---[ \t]*\n", r"\1", piece))
    return pieces


def _unfold(data: Any, path: str) -> list[Any]:
    if isinstance(data, dict) and data.get("kind") in ("List", "PodList"):
        items = data.get("items") or []
        if not isinstance(items, list):
            raise ManifestError("expected a list", field="items", file=path)
        more = {"apiVersion": "v1", "kind": "Pod"} if data["kind"] == "PodList" else {}
        return [{**more, **item} if isinstance(item, dict) else item for item in items]
    return [data]


def _piece(data: Any, text: str, path: str, namespace: str, *, in_list: bool) -> Piece:
    meta = data.get("metadata") if isinstance(data, dict) else None
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        raise ManifestError("an object needs apiVersion, kind and metadata.name", file=path)
    own = meta.get("namespace")
    if namespace and own not in (None, namespace):
        raise ManifestError(
            f'the namespace from the object "{own}" does not match the namespace "{namespace}"',
            field="metadata.namespace",
            file=path,
        )
    if namespace and own is None and namespace != "default":
        data = {**data, "metadata": {**meta, "namespace": namespace}}
        text = json.dumps(data, indent=2) + "\n"
    elif in_list:
        text = json.dumps(data, indent=2) + "\n"
    return Piece(Key(kind, str(own or namespace or "default"), meta["name"]), data, text, in_list)


class Folder:
    """The node's manifest folder (or its one file), as far as its files can be read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: list[ManifestFile] = []
        names = [path]
        if not os.path.isfile(path):
            try:
                names = [os.path.join(path, name) for name in sorted(os.listdir(path)) if name[0] != "."]
            except FileNotFoundError:
                names = []
        for name in names:
            if not os.path.isfile(name):
                continue
            try:
                with open(name, "rb") as file:
                    pieces = read_pieces(file.read(MAX_BYTES + 1), name)
            except (ManifestError, UnicodeDecodeError):
                continue  # somebody is at work on it; the kubelet says what is wrong with it
            self.files.append(ManifestFile(name, pieces))

    def find(self, key: Key) -> tuple[ManifestFile, Piece] | None:
        """Where an object is."""
        for file in self.files:
            for piece in file.pieces:
                if piece.key == key:
                    return file, piece
        return None

    def every(self) -> list[Key]:
        """All objects."""
        return [piece.key for file in self.files for piece in file.pieces]

    def would_be(self, piece: Piece) -> str:
        """What :meth:`put` would answer."""
        found = self.find(piece.key)
        if found is None:
            return "created"
        return "unchanged" if found[1].data == piece.data else "configured"

    def put(self, piece: Piece) -> str:
        """``created``, ``configured`` or ``unchanged``. Raises CommandError, OSError."""
        found = self.find(piece.key)
        if found is None:
            name = ".".join((piece.key.kind.lower(), piece.key.namespace, piece.key.name))
            path = os.path.join(self.path, f"{name}.yaml")
            os.makedirs(self.path, mode=0o755, exist_ok=True)
            write_atomic(path, piece.text.encode())
            self.files.append(ManifestFile(path, [piece]))
            return "created"
        file, old = found
        if old.data == piece.data:
            return "unchanged"
        file.pieces[file.pieces.index(old)] = piece
        self._write(file, old)
        return "configured"

    def remove(self, keys: Iterable[Key]) -> None:
        """Take objects out; a file without any goes. Raises CommandError, OSError."""
        for key in keys:
            found = self.find(key)
            if found is None:
                continue
            file, piece = found
            file.pieces.remove(piece)
            if not file.pieces:
                os.unlink(file.path)
                self.files.remove(file)
            else:
                self._write(file, piece)

    def _write(self, file: ManifestFile, changed: Piece) -> None:
        if changed.in_list or any(each.in_list for each in file.pieces):
            raise CommandError(f"{changed.key} is in a list with others in {file.path}: edit that file")
        texts = [piece.text if piece.text.endswith("\n") else piece.text + "\n" for piece in file.pieces]
        write_atomic(file.path, "---\n".join(texts).encode(), mode=os.stat(file.path).st_mode & 0o777)


def gather(paths: Iterable[str], *, recursive: bool = False) -> list[str]:
    """The manifest files that ``-f`` names: files, folders, ``-``. Raises CommandError."""
    found = []
    for path in paths:
        if path != "-" and os.path.isdir(path):
            inside = list(_inside(path, recursive=recursive))
            found += inside
            if not inside:
                raise CommandError(f"{path}: holds no {', '.join(_SUFFIXES)} file")
        elif path == "-" or "://" in path or os.path.exists(path):
            found.append(path)
        else:
            raise CommandError(f'the path "{path}" does not exist')
    return found


def _inside(folder: str, *, recursive: bool) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(where, name) for name in sorted(names) if name.endswith(_SUFFIXES))
        if not recursive:
            return

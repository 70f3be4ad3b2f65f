"""What a command is about: kinds and names, in the ways that kubectl takes them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minikubelet.cli import object_rows
from minikubelet.cli.options import CommandError

if TYPE_CHECKING:
    from minikubelet.cli.manifest_files import Key, Piece

PODS = ("pods", "pod", "po")


@dataclass(frozen=True)
class Target:
    """What is asked for of one kind; None stands for pods."""

    kind: object_rows.Kind | None
    names: list[str]

    @property
    def word(self) -> str:
        """The kind as it stands before a name."""
        return self.kind.name.lower() if self.kind is not None else "pod"

    @property
    def plural(self) -> str:
        """The kind as kubectl's messages name it."""
        return self.kind.words[0] if self.kind is not None else "pods"


def pod_names(kind: str, names: list[str]) -> list[str]:
    """Names from ``pods A B`` or ``pod/A``. Raises CommandError for other kinds."""
    word, slash, name = kind.partition("/")
    if word not in PODS:
        raise CommandError(f'unknown kind "{word}": this node has pods', usage=True)
    given = [name, *names] if slash else names
    return [_bare(each) for each in given]


def _bare(name: str) -> str:
    word, slash, rest = name.partition("/")
    return rest if slash and word in PODS else name


def pieces(args: argparse.Namespace) -> list[Piece]:
    """All that is in the manifests that ``-f`` names. Raises ManifestError, CommandError, OSError."""
    from minikubelet.cli import manifest_files, node_folder, shown_pods  # PyYAML takes a while

    namespace = "" if args.namespace == "default" else args.namespace
    found = []
    for path in manifest_files.gather(args.filename, recursive=args.recursive):
        every = manifest_files.read_pieces(node_folder.read(path), path, namespace)
        found += [shown_pods.as_manifest(each) or each for each in every]
    return found


def keys(args: argparse.Namespace) -> list[Key]:
    """The objects in them that mean something to the node. Raises as :func:`pieces`."""
    return [piece.key for piece in pieces(args) if piece.has_effect]


def chosen(args: argparse.Namespace, *, more: tuple[str, ...] = ()) -> list[Target]:
    """What ``KIND NAME…`` or ``-f FILE`` names; ``args.namespace`` becomes that of the manifests' objects.

    Raises ManifestError, CommandError, OSError.
    """
    if not args.filename:
        if not args.kind:
            raise CommandError("the following arguments are required: KIND", usage=True)
        return parse(args.kind, args.names, more=more)
    if args.kind or args.all_namespaces or args.selector:
        raise CommandError("-f FILE can't stand together with KIND, -A or -l", usage=True)
    named: dict[object_rows.Kind | None, list[str]] = {}
    namespaces = set()
    for key in keys(args):
        kind = _kind(key.kind, more)
        named.setdefault(kind, []).append(key.name)
        if kind is None or kind.namespaced:
            namespaces.add(key.namespace)
    if len(namespaces) > 1:
        raise CommandError(f"these objects are in several namespaces: {', '.join(sorted(namespaces))}")
    args.namespace = next(iter(namespaces), args.namespace)
    return [Target(kind, names) for kind, names in named.items()]


def parse(kind: str, names: list[str], *, more: tuple[str, ...] = ()) -> list[Target]:
    """``KIND NAME…``, ``KIND,KIND``, ``KIND/NAME KIND/NAME``, ``all``. Raises CommandError.

    ``more``: kinds that the command knows beside these.
    """
    words = [kind, *names]
    if any(word.endswith("/") for word in words):
        raise CommandError("a name is missing after the slash", usage=True)
    if "/" in kind:
        if bare := [word for word in words if "/" not in word]:
            raise CommandError(f"{bare[0]!r} names no kind: say KIND/NAME of each, or KIND NAME…", usage=True)
        named: dict[object_rows.Kind | None, list[str]] = {}
        for each, _, name in (word.partition("/") for word in words):
            named.setdefault(_kind(each, more), []).append(name)
        return [Target(each, found) for each, found in named.items()]
    if kind == "all":
        kind = ",".join(["pods", *(each.words[0] for each in object_rows.KINDS)])
    given = [_bare(name) for name in names]
    return [Target(_kind(each, more), given) for each in kind.split(",")]


def _kind(word: str, more: tuple[str, ...]) -> object_rows.Kind | None:
    if word.lower() in PODS:
        return None
    if (kind := object_rows.find_kind(word)) is not None:
        return kind
    listed = ", ".join(["pods", "nodes", *more, *(each.words[0] for each in object_rows.KINDS)])
    raise CommandError(f'unknown kind "{word}": this node has {listed}', usage=True)

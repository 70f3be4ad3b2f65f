"""``create``."""

from __future__ import annotations

import argparse
import json
import sys

from minikubelet.cli import data_objects, node_folder, options
from minikubelet.cli.commands.apply import noticed
from minikubelet.cli.manifest_check import check_manifest
from minikubelet.cli.manifest_files import Key, Piece
from minikubelet.cli.object_rows import KINDS
from minikubelet.cli.options import CommandError

_EXAMPLES = """
# What a manifest has; it must not be there yet
minikubelet create -f web.yaml

# A ConfigMap from words, and from files by their names
minikubelet create configmap site --from-literal=color=blue --from-file=conf.d/

# A Secret; and its manifest, to keep
minikubelet create secret generic user --from-file=./username.txt
minikubelet create secret generic user --from-literal=password=S3cret --dry-run=client -o yaml
"""
_SECRETS = ("generic", "tls", "docker-registry")


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = "Put new objects into the node's manifest folder: a manifest's, or a ConfigMap or Secret."
    usage = f"(-f FILE | configmap NAME | secret {'|'.join(_SECRETS)} NAME) [options]"
    made = options.Parser("create", description, usage, _EXAMPLES)
    made.add_argument("words", metavar="KIND NAME", nargs="*", help="configmap NAME, secret TYPE NAME")
    options.add_files(made)
    for name, what in (
        ("--from-literal", "KEY=VALUE"),
        ("--from-file", "[KEY=]FILE"),
        ("--from-env-file", "FILE"),
    ):
        made.add_argument(name, metavar=what, action="append", default=[], help="values, may be repeated")
    made.add_argument("--type", default="", help="of a generic Secret")
    for name in ("--cert", "--key"):
        made.add_argument(name, metavar="FILE", default="", help="of a Secret for TLS, PEM")
    made.add_argument("--docker-server", default="https://index.docker.io/v1/", help="a registry")
    for name in ("--docker-username", "--docker-password", "--docker-email"):
        made.add_argument(name, default="", help="for a registry")
    options.add_dry_run(made)
    made.add_argument("-o", "--output", choices=("name", "yaml", "json"), help="what is printed")
    made.add_argument("-n", "--namespace", metavar="NAME", default="", help="for objects that name none")
    node_folder.add_manifests(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if bool(args.filename) == bool(args.words):
        raise CommandError("must specify -f FILE, or configmap or secret with a name", usage=True)
    pieces = node_folder.read_pieces(args) if args.filename else [_piece(args)]
    if pieces is None:
        return 1
    dry = args.dry_run != "none"
    if dry and args.dry_run == "client" and args.words:
        _tell(args, pieces[0], " (dry run)")  # needs no node
        return 0
    folder = node_folder.open_folder(args)
    there = [piece for piece in pieces if folder.find(piece.key) is not None]
    pieces.sort(key=lambda each: each.key.kind == "Pod")
    with noticed(args) as changed:
        for piece in pieces:
            if piece in there:
                continue
            if not dry:
                folder.put(piece)
                changed += [piece.key] if piece.key.kind == "Pod" else []
            _tell(args, piece, " (dry run)" if dry else "")
    for piece in there:
        print(f'error: {_plural(piece.key)} "{piece.key.name}" already exists', file=sys.stderr)
    return 1 if there else 0


def _plural(key: Key) -> str:
    return next((kind.words[0] for kind in KINDS if kind.name == key.kind), f"{key.kind.lower()}s")


def _piece(args: argparse.Namespace) -> Piece:
    """The object that the words ask for. Raises CommandError, OSError."""
    kind, *rest = args.words
    if kind in ("configmap", "cm", "configmaps") and len(rest) == 1:
        data = data_objects.config_map(args, rest[0])
    elif kind in ("secret", "secrets") and len(rest) == 2 and rest[0] in _SECRETS:
        data = data_objects.secret(args, rest[1], rest[0])
    elif kind in ("configmap", "cm", "configmaps"):
        raise CommandError(f"exactly one NAME is required, received {len(rest)}", usage=True)
    elif kind in ("secret", "secrets"):
        raise CommandError(f"expected secret {'|'.join(_SECRETS)} NAME", usage=True)
    else:
        raise CommandError(f'"{kind}" is not made of words here: write a manifest, then -f FILE', usage=True)
    from minikubelet.cli import yaml_text

    text = yaml_text.dump(data)
    wrong = [each for each in check_manifest(text.encode(), "") if each.level == "error"]
    if wrong:
        raise CommandError("; ".join(f"{each.field}: {each.message}" for each in wrong))
    return Piece(Key(data["kind"], args.namespace or "default", data["metadata"]["name"]), data, text)


def _tell(args: argparse.Namespace, piece: Piece, more: str) -> None:
    if args.output == "yaml":
        print(piece.text, end="")
    elif args.output == "json":
        print(json.dumps(piece.data, indent=4))
    else:
        print(str(piece.key) if args.output == "name" else f"{piece.key} created{more}")

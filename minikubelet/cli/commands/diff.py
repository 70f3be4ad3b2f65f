"""``diff``."""

from __future__ import annotations

import argparse

from minikubelet.cli import node_folder, object_diff, options
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import escape

FAILURE = 2
"""Exit code of a failure: 1 says that something would change."""

_EXAMPLES = """
# What apply would change
minikubelet diff -f web.yaml

# Apply only if something changes
minikubelet diff -f web.yaml >/dev/null || minikubelet apply -f web.yaml
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Show what apply would change in the node's manifest folder, as a unified diff of YAML.\n"
        "Exit code 0: nothing; 1: something; 2: the comparison failed. Secrets show no values."
    )
    made = options.Parser("diff", description, "-f FILE [options]", _EXAMPLES)
    options.add_files(made)
    made.add_argument("-n", "--namespace", metavar="NAME", default="", help="for objects that name none")
    node_folder.add_manifests(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if not args.filename:
        raise CommandError("must specify -f FILE", usage=True)
    pieces = node_folder.read_pieces(args)
    if pieces is None:
        return FAILURE
    folder = node_folder.open_folder(args)
    changes = False
    for piece in pieces:
        found = folder.find(piece.key)
        old = found[1].data if found is not None else None
        if old == piece.data:
            continue
        changes = True
        name = object_diff.file_name(piece.data, piece.key.namespace)
        print(escape(object_diff.unified(old, piece.data, name)), end="")
    return int(changes)

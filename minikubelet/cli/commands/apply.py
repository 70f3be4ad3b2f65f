"""``apply``."""

from __future__ import annotations

import argparse

from minikubelet.cli import node_folder, options
from minikubelet.cli.options import CommandError

_EXAMPLES = """
# Run what a manifest says; again after each change of it
minikubelet apply -f web.yaml

# All manifests of a folder, and of those inside it
minikubelet apply -R -f manifests/

# What would be done
cat web.yaml | minikubelet apply -f - --dry-run
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Put objects into the node's manifest folder, each in a file of its own, so that it runs them.\n"
        "Nothing is changed if one of them is wrong."
    )
    made = options.Parser("apply", description, "-f FILE [options]", _EXAMPLES)
    options.add_files(made)
    made.add_argument(
        "--dry-run",
        nargs="?",
        choices=("none", "client", "server"),
        const="client",
        default="none",
        help="only say what would be done",
    )
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
        return 1
    folder = node_folder.open_folder(args)
    dry = args.dry_run != "none"
    # What pods refer to comes first, so that they needn't wait for it.
    for piece in sorted(pieces, key=lambda each: each.key.kind == "Pod"):
        done = folder.would_be(piece) if dry else folder.put(piece)
        print(f"{piece.key} {done}{' (dry run)' if dry else ''}")
    return 0

"""``apply``."""

from __future__ import annotations

import argparse
import sys

from minikubelet.cli import manifest_files, node_folder, options
from minikubelet.cli.manifest_check import check_manifest
from minikubelet.cli.options import CommandError

_EXAMPLES = """
# Run what a manifest says; again after each change of it
minikubelet apply -f web.yaml

# All manifests of a folder
minikubelet apply -f manifests/

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
    node_folder.add_files(made)
    made.add_argument("--dry-run", action="store_true", help="only say what would be done")
    made.add_argument("-n", "--namespace", metavar="NAME", default="", help="for objects that name none")
    node_folder.add_manifests(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if not args.filename:
        raise CommandError("must specify -f FILE", usage=True)
    pieces = []
    problems = []
    for path in manifest_files.gather(args.filename):
        text = node_folder.read(path)
        shown = "<stdin>" if path == "-" else path
        problems += [finding for finding in check_manifest(text, shown) if finding.level == "error"]
        if not problems:
            pieces += manifest_files.read_pieces(text, shown, args.namespace)
    if problems:
        for finding in problems:
            print(f"error: {finding}", file=sys.stderr)
        return 1
    folder = node_folder.open_folder(args)
    # What pods refer to comes first, so that they needn't wait for it.
    for piece in sorted(pieces, key=lambda each: each.key.kind == "Pod"):
        done = folder.would_be(piece) if args.dry_run else folder.put(piece)
        print(f"{piece.key} {done}{' (dry run)' if args.dry_run else ''}")
    return 0

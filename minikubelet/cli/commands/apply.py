"""``apply``."""

from __future__ import annotations

import argparse
import sys

from minikubelet.cli import manifest_files, node_folder, options
from minikubelet.cli.manifest_check import Finding, check_manifest
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import escape

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
    node_folder.add_files(made)
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
    pieces = []
    found: list[Finding] = []
    for path in manifest_files.gather(args.filename, recursive=args.recursive):
        text = node_folder.read(path)
        shown = "<stdin>" if path == "-" else path
        found += check_manifest(text, shown)
        if not _any_wrong(found):
            pieces += manifest_files.read_pieces(text, shown, args.namespace)
    for finding in found:
        word = "error" if finding.level == "error" else "Warning"
        print(escape(f"{word}: {finding}"), file=sys.stderr)
    if _any_wrong(found):
        return 1
    folder = node_folder.open_folder(args)
    dry = args.dry_run != "none"
    # What pods refer to comes first, so that they needn't wait for it.
    for piece in sorted(pieces, key=lambda each: each.key.kind == "Pod"):
        done = folder.would_be(piece) if dry else folder.put(piece)
        print(f"{piece.key} {done}{' (dry run)' if dry else ''}")
    return 0


def _any_wrong(found: list[Finding]) -> bool:
    return any(each.level == "error" for each in found)

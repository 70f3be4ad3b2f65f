"""``apply``."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator

from minikubelet.cli import node_folder, options
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.live_pods import LivePods
from minikubelet.cli.manifest_files import Key
from minikubelet.cli.options import CommandError

_EXAMPLES = """
# Run what a manifest says; again after each change of it
minikubelet apply -f web.yaml

# All manifests of a folder, and of those inside it
minikubelet apply -R -f manifests/

# What would be done
cat web.yaml | minikubelet apply -f - --dry-run
"""

_NOTICE = 2.0
"""Seconds that a kubelet gets to notice what has changed in its folder; it takes some milliseconds."""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Put objects into the node's manifest folder, each in a file of its own, so that it runs them.\n"
        "Nothing is changed if one of them is wrong."
    )
    made = options.Parser("apply", description, "-f FILE [options]", _EXAMPLES)
    options.add_files(made)
    options.add_dry_run(made)
    made.add_argument("-o", "--output", choices=("name",), help="only the names of the objects")
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
    pieces.sort(key=lambda each: each.key.kind == "Pod")
    if dry:
        for piece in pieces:
            print(_told(args, piece.key, f"{folder.would_be(piece)} (dry run)"))
        return 0
    with noticed(args) as changed:
        for piece in pieces:
            done = folder.put(piece)
            print(_told(args, piece.key, done))
            if done != "unchanged" and piece.key.kind == "Pod":
                changed.append(piece.key)
    return 0


def _told(args: argparse.Namespace, key: Key, what: str) -> str:
    return str(key) if args.output == "name" else f"{key} {what}"


@contextlib.contextmanager
def noticed(args: argparse.Namespace) -> Iterator[list[Key]]:
    """Yields a list to be filled with the pods that are changed; then the kubelet gets time to notice.

    So whoever looks at the pods after this command sees what it did, as with an API server. A kubelet that
    finds nothing new is waited for in vain, but not for long.
    """
    changed: list[Key] = []
    live = None
    with contextlib.suppress(CommandError):
        if not args.manifests:  # another folder is nothing to the kubelet
            live = LivePods(ApiClient(options.kubelet_socket(args)), time.monotonic() + _NOTICE)
    before = live.all() if live is not None else []
    yield changed
    if live is None:
        return

    def is_new(key: Key) -> bool:
        found = live.find(key.namespace, key.name)
        return found is not None and found not in before

    with contextlib.suppress(CommandError):
        live.until(lambda: all(map(is_new, changed)))

"""The node's manifest folder from the command line: which it is, and what ``-f`` names."""

from __future__ import annotations

import argparse
import os
import sys

from minikubelet.cli import manifest_files, options
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.manifest_check import Finding, check_manifest
from minikubelet.cli.manifest_files import Folder, Piece
from minikubelet.cli.options import CommandError
from minikubelet.cli.shown_pods import as_manifest
from minikubelet.cli.text import escape
from minikubelet.kubelet.manifests.yaml_reader import MAX_BYTES


def add_manifests(parser: argparse.ArgumentParser) -> None:
    """``--manifests``."""
    parser.add_argument("--manifests", metavar="DIR", default="", help="default: the running node's folder")


def read(path: str) -> bytes:
    """A manifest's bytes, at most one more than is allowed. Raises CommandError, OSError."""
    if path == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    if "://" in path:
        raise CommandError(f"{path}: only files are read: fetch it, look at it, then name the file")
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)


def read_pieces(args: argparse.Namespace) -> list[Piece] | None:
    """The objects of the manifests that ``-f`` names; None if one of them is wrong.

    Says on standard error what is wrong, and what has no effect here and is left out. Raises CommandError,
    OSError.
    """
    pieces: list[Piece] = []
    found: list[Finding] = []
    for path in manifest_files.gather(args.filename, recursive=args.recursive):
        text = read(path)
        shown = "<stdin>" if path == "-" else path
        found += check_manifest(text, shown)
        if not _any_wrong(found):
            every = manifest_files.read_pieces(text, shown, args.namespace)
            for each in every:
                if (manifest := as_manifest(each)) is not None:
                    what = f"pod {each.key.name} as it is shown: its manifest {manifest.key.name} is meant"
                    print(escape(f"Warning: {shown}: {what}"), file=sys.stderr)
                if each.has_effect:
                    pieces.append(manifest or each)
    for finding in found:
        word = "error" if finding.level == "error" else "Warning"
        print(escape(f"{word}: {finding}"), file=sys.stderr)
    return None if _any_wrong(found) else pieces


def _any_wrong(found: list[Finding]) -> bool:
    return any(each.level == "error" for each in found)


def open_folder(args: argparse.Namespace) -> Folder:
    """The folder named, or the one the running kubelet watches. Raises CommandError."""
    path = args.manifests
    if not path:
        config = ApiClient(options.kubelet_socket(args)).config()
        path = config.get("staticPodPath", "")
        if not path:
            raise CommandError("the running kubelet has no manifest folder (staticPodPath)")
    if os.path.isfile(path):
        raise CommandError(f"{path} is a single file: edit it")
    return Folder(os.path.abspath(path))

"""``image ls|pull|load|save|rm``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

from minikubelet.cli import options, text
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import Table

_CHUNK = 1 << 20

_VERBS = {
    "ls": ("list images", "[options]"),
    "pull": ("pull an image from its registry", "REFERENCE [options]"),
    "load": ("add the images of a tar (OCI layout or docker archive)", "[FILE]"),
    "save": ("write images to a tar", "REFERENCE... [-o FILE] [options]"),
    "rm": ("remove images", "REFERENCE..."),
}

_EXAMPLES = """
# What is in the store
minikubelet image ls

# Pull, with a bar for each layer
minikubelet image pull docker.io/library/busybox:1.37

# Carry an image to a machine without network
minikubelet image save busybox:1.37 -o busybox.tar
minikubelet image load busybox.tar

# Remove it
minikubelet image rm busybox:1.37
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "image", "List, pull, load, save and remove images.", "ls|pull|load|save|rm [options]", _EXAMPLES
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Verb, title="Verbs")
    listing = verbs.add_parser("ls", aliases=["list"], help=_VERBS["ls"][0])
    listing.add_argument("-q", "--quiet", action="store_true", help="only IDs")
    listing.add_argument("--digests", action="store_true", help="also digests")
    listing.add_argument("-o", "--output", choices=("json",), help="format of the output")
    pull = verbs.add_parser("pull", help=_VERBS["pull"][0])
    pull.add_argument("reference", metavar="REFERENCE")
    pull.add_argument(
        "--creds", metavar="USER[:PASSWORD]", help="for the registry; no password: read from stdin"
    )
    pull.add_argument("-q", "--quiet", action="store_true", help="only the image's ID")
    load = verbs.add_parser("load", help=_VERBS["load"][0])
    load.add_argument("file", metavar="FILE", nargs="?", help="default: stdin")
    load.add_argument("-i", "--input", metavar="FILE", help="the same, as docker has it")
    save = verbs.add_parser("save", help=_VERBS["save"][0])
    save.add_argument("references", metavar="REFERENCE", nargs="+")
    save.add_argument("-o", "--output", metavar="FILE", default="-", help="default: stdout")
    save.add_argument("--format", choices=("oci", "docker"), default="oci", help="default: oci")
    remove = verbs.add_parser("rm", aliases=["rmi", "remove"], help=_VERBS["rm"][0])
    remove.add_argument("references", metavar="REFERENCE", nargs="+")
    options.add_sockets(made)
    for each in (listing, pull, load, save, remove):
        options.add_sockets(each, inherit=True)
    return made


class _Verb(options.Parser):
    """The parser of one verb."""

    def __init__(self, prog: str = "", **more: Any) -> None:
        verb = prog.rpartition(" ")[2]
        what, usage = _VERBS[verb]
        super().__init__(f"image {verb}", f"{what[0].upper()}{what[1:]}.", usage)


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    from minikubelet.cli.cri import CriClient

    verb = {"list": "ls", "rmi": "rm", "remove": "rm"}.get(args.verb, args.verb)
    with CriClient(options.cri_endpoint(args)) as client:
        verbs = {"ls": _list, "pull": _pull, "load": _load, "save": _save, "rm": _remove}
        return verbs[verb](client, args)


def _list(client: Any, args: argparse.Namespace) -> int:
    images = client.list_images()
    if args.output == "json":
        from google.protobuf import json_format

        every = [json_format.MessageToDict(image) for image in images]
        print(json.dumps({"images": every}, indent=2))
        return 0
    if args.quiet:
        print("".join(f"{image.id}\n" for image in images), end="")
        return 0
    rows = [row for image in images for row in image_rows(image, digests=args.digests)]
    headers = ["IMAGE", "TAG", *(["DIGEST"] if args.digests else []), "IMAGE ID", "SIZE"]
    print(Table(headers).render(sorted(rows)), end="")
    return 0


def image_rows(image: Any, *, digests: bool) -> list[list[str]]:
    """One row a tag, as crictl lists images."""
    by_name = dict(each.split("@", 1) for each in image.repo_digests if "@" in each)
    names = [_split_tag(tag) for tag in image.repo_tags]
    names = names or [(name, "<none>") for name in by_name] or [("<none>", "<none>")]
    identifier = image.id.removeprefix("sha256:")[:13]
    return [
        [name, tag, *([by_name.get(name, "<none>")] if digests else []), identifier, text.size(image.size)]
        for name, tag in names
    ]


def _split_tag(reference: str) -> tuple[str, str]:
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "<none>")


def _pull(client: Any, args: argparse.Namespace) -> int:
    from minikubelet.cli.progress import Layer, Progress
    from minikubelet.criapi import node_pb2 as node

    request = node.PullRequest(reference=args.reference)
    if args.creds is not None:
        user, colon, password = args.creds.partition(":")
        if not colon:
            password = _password()
        request.auth.CopyFrom(node.RegistryAuth(username=user, password=password))
    progress = Progress(sys.stderr)
    image_id, came = "", False
    try:
        for event in client.pull(request):
            if event.WhichOneof("event") == "layer":
                layer, came = event.layer, True
                if not args.quiet:
                    progress.update(layer.digest, Layer(layer.status, layer.offset, layer.total))
            else:
                image_id = event.image_id
    finally:
        progress.finish()
    how = "pulled" if came else "is up to date:"
    print(image_id if args.quiet else f"{args.reference} {how} {image_id}")
    return 0


def _password() -> str:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("Password: ")
    return sys.stdin.readline().rstrip("\n")


def _load(client: Any, args: argparse.Namespace) -> int:
    if args.file and args.input:
        raise CommandError("FILE or -i FILE, not both", usage=True)
    path = args.file or args.input or "-"
    if path == "-" and sys.stdin.isatty():
        raise CommandError("load from a terminal? name a file", usage=True)
    with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
        for line in load(client, file):
            print(line)
    return 0


def load(client: Any, file: IO[bytes]) -> Iterator[str]:
    """Load an archive; the lines to show."""
    for reply in client.load(iter(lambda: file.read(_CHUNK), b"")):
        if reply.message:
            yield reply.message
        else:
            yield from (f"loaded {name}" for name in reply.loaded)


def _save(client: Any, args: argparse.Namespace) -> int:
    from minikubelet.criapi import node_pb2 as node

    docker = args.format == "docker"
    kind = node.ARCHIVE_FORMAT_DOCKER if docker else node.ARCHIVE_FORMAT_OCI_LAYOUT
    chunks = client.save(node.SaveRequest(references=args.references, format=kind))
    if args.output == "-":
        if sys.stdout.isatty():
            raise CommandError("write a tar to a terminal? name a file with -o", usage=True)
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        return 0
    partial = f"{args.output}.part"
    try:
        with open(partial, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
        os.rename(partial, args.output)
    except BaseException as exc:
        if not isinstance(exc, FileExistsError):
            os.unlink(partial)
        raise
    return 0


def _remove(client: Any, args: argparse.Namespace) -> int:
    """RemoveImage is idempotent; a person who mistypes a name wants to know."""
    missing = []
    for reference in args.references:
        if client.image(reference) is None:
            missing.append(reference)
            continue
        client.remove_image(reference)
        print(f"removed {reference}")
    for reference in missing:
        print(f"error: no such image: {reference}", file=sys.stderr)
    return 1 if missing else 0

"""The copy of a pod that ``debug --copy-to`` makes, as a manifest: what kubectl clears and changes."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from typing import Any

from minikubelet.cli.debug_container import apply_profile, change_container, make_name, pairs
from minikubelet.cli.manifest_files import Key, Piece
from minikubelet.cli.options import CommandError
from minikubelet.cli.shown_pods import as_manifest

Json = dict[str, Any]
_PROBES = {
    "keep_liveness": "livenessProbe",
    "keep_readiness": "readinessProbe",
    "keep_startup": "startupProbe",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is for copies alone."""
    parser.add_argument("--copy-to", metavar="NAME", default="", help="change a copy of the pod, not the pod")
    parser.add_argument(
        "--set-image",
        metavar="NAME=IMAGE,…",
        action="append",
        default=[],
        help="other images for the copy's containers; * for all",
    )
    parser.add_argument(
        "--share-processes",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="one process namespace for the copy (default: where a container is added or changed)",
    )
    parser.add_argument("--replace", action="store_true", help="stop the pod, and delete its manifest")
    parser.add_argument("--same-node", action="store_true", help="there is no other node")
    for what in ("labels", "annotations"):
        parser.add_argument(f"--keep-{what}", action="store_true", help=f"leave the copy its {what}")
    for what in ("liveness", "readiness", "startup"):
        parser.add_argument(f"--keep-{what}", action="store_true", help=f"leave the copy its {what} probes")
    parser.add_argument(
        "--keep-init-containers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave the copy its init containers",
    )


def check_options(args: argparse.Namespace) -> None:
    """Raises CommandError for options that don't go together, in kubectl's words."""
    if not args.copy_to:
        for option in ("replace", "same_node", "set_image"):
            if getattr(args, option):
                name = option.replace("_", "-")
                raise CommandError(f"--{name} may only be used with --copy-to.", usage=True)
        if not args.image:
            raise CommandError("you must specify --image when not using --copy-to.", usage=True)
        return
    if not (args.image or args.set_image or args.command):
        raise CommandError("you must specify --image, --set-image or command arguments.", usage=True)
    if args.command and not (args.container or args.image):
        why = "you must specify an existing container or a new image when specifying args."
        raise CommandError(why, usage=True)
    if args.target:
        why = "--target is incompatible with --copy-to. Use --share-processes instead."
        raise CommandError(why, usage=True)
    pairs(args.set_image, "--set-image")


def make_copy(args: argparse.Namespace, pod: Json) -> tuple[Piece, str]:
    """The manifest, and the container in it that is new or changed; "" if only images are.

    Raises CommandError.
    """
    whole = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(pod)}
    key = Key("Pod", pod["metadata"].get("namespace", "default"), pod["metadata"]["name"])
    shown = as_manifest(Piece(key, whole, ""))
    if shown is None:
        raise CommandError(f'pod "{key.name}" is not from a manifest: a copy has to be made where it is from')
    meta, spec = shown.data["metadata"], shown.data["spec"]
    meta = {name: meta[name] for name in ("namespace", "labels", "annotations") if name in meta}
    data = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": args.copy_to, **meta}, "spec": spec}
    if args.share_processes is not None:
        spec["shareProcessNamespace"] = args.share_processes
    _set_images(spec, dict(pairs(args.set_image, "--set-image")))
    name = _change(args, data)
    from minikubelet.cli import yaml_text

    return Piece(Key("Pod", key.namespace, args.copy_to), data, yaml_text.dump(data)), name


def _set_images(spec: Json, images: dict[str, str]) -> None:
    for container in spec["containers"]:
        container["image"] = images.get(container["name"]) or images.get("*") or container["image"]


def _change(args: argparse.Namespace, data: Json) -> str:
    """Add a container, or change the one that is named; its name. Raises CommandError."""
    spec = data["spec"]
    known = {each["name"]: each for each in containers(data)}
    if args.container not in known:
        if not args.image:
            if args.set_image:
                return ""
            raise CommandError("you must specify image when creating new container")
        name = args.container or make_name(data)
        known[name] = {"name": name, "terminationMessagePolicy": "File"}
        spec["containers"].append(known[name])
    else:
        name = args.container
    change_container(known[name], args)
    _clear(args, data)
    apply_profile(known[name], args)
    return str(name)


def containers(pod: Json) -> Iterator[Json]:
    """Those of a manifest, of each kind that it may have."""
    for kind in ("containers", "initContainers"):
        yield from pod["spec"].get(kind) or []


def _clear(args: argparse.Namespace, data: Json) -> None:
    """What would make others take the copy for the pod, or stop it while one looks into it."""
    meta, spec = data["metadata"], data["spec"]
    for what in ("labels", "annotations"):
        if not getattr(args, f"keep_{what}"):
            meta.pop(what, None)
    for option, probe in _PROBES.items():
        for container in spec["containers"]:
            if not getattr(args, option):
                container.pop(probe, None)
    if not args.keep_init_containers:
        spec.pop("initContainers", None)
    spec.setdefault("shareProcessNamespace", True)


def host_ports(pod: Json) -> set[tuple[str, int]]:
    """Ports of the machine that only one pod at a time can have."""
    ports = [port for each in containers(pod) for port in each.get("ports") or []]
    return {(str(port.get("protocol", "TCP")), port["hostPort"]) for port in ports if port.get("hostPort")}

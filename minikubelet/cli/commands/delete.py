"""``delete``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

from minikubelet.cli import node_folder, object_rows, options, selectors, targets
from minikubelet.cli.api_client import ApiClient, Json, not_found
from minikubelet.cli.manifest_files import Folder, Key
from minikubelet.cli.options import CommandError
from minikubelet.cli.targets import PODS

_EXAMPLES = """
# Stop a pod and take it out of the node's manifest folder
minikubelet delete pod web

# All that a manifest has
minikubelet delete -f web.yaml

# Pods with a label, and a ConfigMap
minikubelet delete pods -l app=web
minikubelet delete configmap site

# Without waiting until it is gone
minikubelet delete pod web --wait=false
"""


_PAUSE = 0.1
"""Seconds between two looks at what is still there."""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Take objects out of the node's manifest folder; pods are stopped with their grace periods.\n"
        "Returns when they are gone."
    )
    made = options.Parser("delete", description, "(KIND NAME... | -f FILE) [options]", _EXAMPLES)
    made.add_argument("kind", metavar="KIND", nargs="?", help="pod, configmap, …; KIND/NAME works too")
    made.add_argument("names", metavar="NAME", nargs="*")
    options.add_files(made)
    made.add_argument("-l", "--selector", default="", help="those with labels such as app=web,tier!=db")
    made.add_argument("--all", action="store_true", help="all of the kind in the namespace")
    made.add_argument(
        "-A", "--all-namespaces", action="store_true", help="with --all or -l: of all namespaces"
    )
    made.add_argument("-o", "--output", choices=("name",), help="only the names of what is deleted")
    for word in ("--force", "--now", "--grace-period"):
        made.add_argument(word, nargs="?", const="", help=argparse.SUPPRESS)
    made.add_argument("--ignore-not-found", action="store_true", help="what isn't there is no error")
    options.add_dry_run(made)
    made.add_argument("--wait", choices=("true", "false"), default="true", help="default: true")
    made.add_argument(
        "--timeout", metavar="DURATION", type=options.seconds, default=None, help="wait no longer than this"
    )
    node_folder.add_manifests(made)
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if bool(args.filename) == bool(args.kind):
        raise CommandError("name pods (delete pod NAME), or a manifest (-f FILE)", usage=True)
    if any(given is not None for given in (args.force, args.now, args.grace_period)):
        why = "a pod has the terminationGracePeriodSeconds of its manifest to stop"
        raise CommandError(f"--force, --now and --grace-period can't be had here: {why}", usage=True)
    folder = node_folder.open_folder(args)
    client = ApiClient(options.kubelet_socket(args))
    pods = client.pods()
    wanted = _from_files(args, folder) if args.filename else _from_names(args, folder, pods)
    present = [key for key in wanted if folder.find(key) is not None]
    dry = args.dry_run != "none"
    if not dry:
        folder.remove(present)
    missing = [key for key in wanted if key not in present]
    for key in present:
        print(_told(key, args))
    if not args.ignore_not_found:
        for key in missing:
            print(f"error: {_missing(key, pods)}", file=sys.stderr)
    if not wanted:
        print("No resources found.", file=sys.stderr)
    if args.wait == "true" and not dry:
        _wait(client, _uids(present, pods), args.timeout)
    return 1 if missing and not args.ignore_not_found else 0


def _told(key: Key, args: argparse.Namespace) -> str:
    if args.output == "name":
        return f"{key.kind.lower()}/{key.name}"
    where = f" from {key.namespace} namespace" if _is_namespaced(key.kind) else ""
    return f'{key.kind.lower()} "{key.name}" deleted{where}{" (dry run)" if args.dry_run != "none" else ""}'


def _missing(key: Key, pods: list[Json]) -> str:
    if key.kind != "Pod":
        words = (each.words[0] for each in object_rows.KINDS if each.name == key.kind)
        return f'{next(words, key.kind.lower())} "{key.name}" not found'
    if _uids([key], pods):
        return f'pod "{key.name}" is not from the manifest folder (a URL, or a file that can\'t be read)'
    return str(not_found(key.name))


def _from_files(args: argparse.Namespace, folder: Folder) -> list[Key]:
    """The manifests' objects; those that mean nothing to the node only if somebody has put them there."""
    found = targets.pieces(args)
    return [each.key for each in found if each.has_effect or folder.find(each.key) is not None]


def _from_names(args: argparse.Namespace, folder: Folder, pods: list[Json]) -> list[Key]:
    found = []
    for kind, names in _named(args.kind, args.names).items():
        # What belongs to no namespace has none in its manifest, which is read as default.
        namespace = args.namespace if _is_namespaced(kind) else "default"
        every = [
            key
            for key in folder.every()
            if key.kind == kind and (args.all_namespaces or key.namespace == namespace)
        ]
        if not args.all and not args.selector:
            if not names:
                raise CommandError("give a name, a label (-l), or say --all", usage=True)
            if args.all_namespaces:
                raise CommandError("a name can't stand together with --all-namespaces", usage=True)
            found += [_meant(name, Key(kind, namespace, name), every, pods) for name in names]
            continue
        if names:
            raise CommandError("a name can't stand together with --all or -l", usage=True)
        selected = selectors.parse(args.selector)
        found += [key for key in every if selected(_labels(folder, key))]
    return found


def _named(kind: str, names: list[str]) -> dict[str, list[str]]:
    """Names by kind, from ``KIND NAME…`` or ``KIND/NAME KIND/NAME``. Raises CommandError."""
    word, slash, _ = kind.partition("/")
    if not slash:
        return {_kind(word): [name.rpartition("/")[2] for name in names]}
    found: dict[str, list[str]] = {}
    for each in (kind, *names):
        word, slash, name = each.partition("/")
        if not slash or not name:
            raise CommandError(f"{each!r} is not KIND/NAME", usage=True)
        found.setdefault(_kind(word), []).append(name)
    return found


def _kind(word: str) -> str:
    if word.lower() in PODS:
        return "Pod"
    if (kind := object_rows.find_kind(word)) in object_rows.KINDS and kind is not None:
        return kind.name
    listed = ", ".join(["pods", *(each.words[0] for each in object_rows.KINDS)])
    raise CommandError(f'unknown kind "{word}": this node has {listed}', usage=True)


def _is_namespaced(kind: str) -> bool:
    return all(each.namespaced for each in object_rows.KINDS if each.name == kind)


def _labels(folder: Folder, key: Key) -> dict[str, str]:
    found = folder.find(key)
    labels = found[1].data["metadata"].get("labels") if found is not None else None
    return {str(name): str(value) for name, value in labels.items()} if isinstance(labels, dict) else {}


def _meant(name: str, whole: Key, every: Iterable[Key], pods: list[Json]) -> Key:
    """The manifest's object for a name as written there or as ``get pods`` shows it, NAME-NODE."""
    known = {key.name: key for key in every}
    if name in known:
        return known[name]
    for pod in pods if whole.kind == "Pod" else ():
        node = pod.get("spec", {}).get("nodeName", "").lower()
        if pod["metadata"]["name"] == name and (short := name.removesuffix(f"-{node}")) in known:
            return known[short]
    return whole


def _uids(keys: Iterable[Key], pods: list[Json]) -> set[str]:
    """The running pods of manifests' pods."""
    names = {(key.namespace, key.name) for key in keys if key.kind == "Pod"}
    found = set()
    for pod in pods:
        meta, node = pod["metadata"], pod.get("spec", {}).get("nodeName", "").lower()
        whole = (meta.get("namespace", ""), meta["name"])
        if whole in names or (whole[0], whole[1].removesuffix(f"-{node}")) in names:
            found.add(meta.get("uid", ""))
    return found


def _wait(client: ApiClient, uids: set[str], timeout: float | None) -> None:
    """Until none of the pods is left. Raises CommandError after ``timeout`` seconds."""
    end = None if timeout is None else time.monotonic() + timeout
    while left := uids & {pod["metadata"].get("uid", "") for pod in client.pods()}:
        if end is not None and time.monotonic() > end:
            raise CommandError(f"timed out: {len(left)} of {len(uids)} pods are still stopping")
        time.sleep(_PAUSE)

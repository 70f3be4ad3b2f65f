"""``get``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

from minikubelet.cli import object_rows, options, pod_row, selectors
from minikubelet.cli.api_client import ApiClient, Json, full_name, not_found
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import Table

KINDS = ("pods", "pod", "po")

_EXAMPLES = """
# List the pods of all namespaces, with addresses
minikubelet get pods -A -o wide

# One pod as YAML
minikubelet get pod web -o yaml

# What pods refer to (of Secrets only the names of the keys)
minikubelet get configmaps
minikubelet get secret credentials -o yaml

# Pods with a label, and what happens to them from now on
minikubelet get pods -l app=web -w
"""
_DESCRIPTION = (
    "List pods, events, or what pods refer to: "
    + ", ".join(each.words[0] for each in object_rows.KINDS)
    + "."
)


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser("get", _DESCRIPTION, "KIND [NAME...] [options]", _EXAMPLES)
    made.add_argument("kind", metavar="KIND", help="what to list; KIND/NAME works too")
    made.add_argument("names", metavar="NAME", nargs="*", help="only these")
    made.add_argument("-o", "--output", choices=("wide", "json", "yaml", "name"), help="format of the output")
    made.add_argument("-w", "--watch", action="store_true", help="go on with the changes as they happen")
    made.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    made.add_argument("-l", "--selector", default="", help="labels, such as app=web,tier!=db")
    made.add_argument("--no-headers", action="store_true", help="leave out the header line")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def pod_names(kind: str, names: list[str]) -> list[str]:
    """Names from ``pods A B`` or ``pod/A``. Raises CommandError for other kinds."""
    word, slash, name = kind.partition("/")
    if word not in KINDS:
        raise CommandError(f'unknown kind "{word}": this node has pods', usage=True)
    given = [name, *names] if slash else names
    return [_bare(each) for each in given]


def _bare(name: str) -> str:
    word, slash, rest = name.partition("/")
    return rest if slash and word in KINDS else name


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    word, slash, name = args.kind.partition("/")
    if word in ("events", "event", "ev"):
        return _events(args)
    if (kind := object_rows.find_kind(word)) is not None:
        names = [each.rpartition("/")[2] for each in ([name] if slash else []) + args.names]
        wish = object_rows.wish_from(kind, names, args)
        return object_rows.show(wish, ApiClient(options.kubelet_socket(args)).objects())
    if word not in KINDS:
        listed = ", ".join(["pods", "events", *(each.words[0] for each in object_rows.KINDS)])
        raise CommandError(f'unknown kind "{word}": this node has {listed}', usage=True)
    names = pod_names(args.kind, args.names)
    if names and args.all_namespaces:
        raise CommandError("a pod can't be named together with --all-namespaces", usage=True)
    client = ApiClient(options.kubelet_socket(args))
    every = client.pods()
    here = [pod for pod in every if pod["metadata"].get("namespace") == args.namespace]
    names = [full_name(here, name) for name in names]
    matches = _filter(args, names)
    pods = [pod for pod in every if matches(pod)]
    found = {pod["metadata"]["name"] for pod in pods}
    missing = [name for name in names if name not in found]
    printer = _Printer(args, single=len(names) == 1)
    if pods or args.output in ("json", "yaml"):
        if not missing or pods:
            printer.all(pods)
    elif not names:
        where = "" if args.all_namespaces else f" in {args.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
    for name in missing:
        print(f"error: {not_found(name)}", file=sys.stderr)
    if missing:
        return 1
    if args.watch:
        _watch(client, printer, matches, {_version(pod) for pod in pods})
    return 0


def _events(args: argparse.Namespace) -> int:
    """What ``events`` does, with those of its options that ``get`` has."""
    from minikubelet.cli.commands import events  # it imports this module

    if args.names or args.selector or args.output not in (None, "json", "wide"):
        raise CommandError("see minikubelet events --help for ways to pick events", usage=True)
    words = [
        *(["-A"] if args.all_namespaces else ["-n", args.namespace]),
        *(["-w"] if args.watch else []),
        *(["-o", "json"] if args.output == "json" else []),
        *(["--no-headers"] if args.no_headers else []),
    ]
    given = events.parser().parse_args(words)
    given.run, given.listen = args.run, args.listen
    return events.run(given)


def _filter(args: argparse.Namespace, names: list[str]) -> Callable[[Json], bool]:
    selected = selectors.parse(args.selector)

    def matches(pod: Json) -> bool:
        meta = pod["metadata"]
        if not args.all_namespaces and meta.get("namespace") != args.namespace:
            return False
        return (not names or meta["name"] in names) and selected(meta.get("labels", {}))

    return matches


def _version(pod: Json) -> str:
    return json.dumps(pod, sort_keys=True)


def _watch(client: ApiClient, printer: _Printer, matches: Callable[[Json], bool], printed: set[str]) -> None:
    """Print changes; the watch begins with all pods again, of which those just printed are left out."""
    for change in client.watch("/pods"):
        pod = change["object"]
        if not matches(pod):
            continue
        if change["type"] == "ADDED" and _version(pod) in printed:
            continue
        printer.change(pod)
    raise CommandError("the kubelet has ended")


class _Printer:
    """Prints pods in the format that was asked for."""

    def __init__(self, args: argparse.Namespace, *, single: bool) -> None:
        self._format = args.output
        self._single = single
        self._options = {"wide": args.output == "wide", "namespace": args.all_namespaces}
        self._table = Table(pod_row.headers(**self._options))
        self._header = not args.no_headers

    def all(self, pods: list[Json]) -> None:
        """The pods there are."""
        if self._format in ("json", "yaml"):
            listed = {
                "apiVersion": "v1",
                "items": [_whole(pod) for pod in pods],
                "kind": "List",
                "metadata": {},
            }
            object_rows.dump(_whole(pods[0]) if self._single and pods else listed, self._format)
        elif self._format == "name":
            print("".join(f"pod/{pod['metadata']['name']}\n" for pod in pods), end="")
        else:
            self._rows(pods)
        sys.stdout.flush()

    def change(self, pod: Json) -> None:
        """A pod that has changed."""
        if self._format in ("json", "yaml"):
            if self._format == "yaml":
                print("---")
            object_rows.dump(_whole(pod), self._format)
        elif self._format == "name":
            print(f"pod/{pod['metadata']['name']}")
        else:
            self._rows([pod])
        sys.stdout.flush()

    def _rows(self, pods: list[Json]) -> None:
        now = time.time()
        rows = [pod_row.row(pod, now, **self._options) for pod in pods]
        print(self._table.render(rows, header=self._header), end="")
        self._header = False


def _whole(pod: Json) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", **pod}

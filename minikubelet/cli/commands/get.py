"""``get``."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from minikubelet.cli import object_rows, options, output, pod_row, selectors, targets
from minikubelet.cli.api_client import ApiClient, Json, full_name, not_found
from minikubelet.cli.options import CommandError
from minikubelet.cli.targets import Target
from minikubelet.cli.text import Table

_EXAMPLES = """
# List the pods of all namespaces, with addresses
minikubelet get pods -A -o wide

# One pod as YAML
minikubelet get pod web -o yaml

# What pods refer to (of Secrets only the names of the keys)
minikubelet get configmaps
minikubelet get secret credentials -o yaml

# The node itself
minikubelet get nodes -o wide

# Fields of one's choice
minikubelet get pods -o custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[*].image
minikubelet get pod web -o jsonpath='{.status.podIP}'
minikubelet get pods -o go-template='{{range .items}}{{.metadata.name}} {{.status.phase}}{{"\\n"}}{{end}}'

# Everything there is, with labels
minikubelet get all --show-labels

# Pods with a label, and what happens to them from now on
minikubelet get pods -l app=web -w
"""
_DESCRIPTION = (
    "List pods, the node, events, or what pods refer to: "
    + ", ".join(each.words[0] for each in object_rows.KINDS)
    + "."
)


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "get", _DESCRIPTION, "(KIND [NAME...] | KIND/NAME... | -f FILE) [options]", _EXAMPLES
    )
    made.add_argument(
        "kind", metavar="KIND", nargs="?", help="what to list: KIND, KIND,KIND, KIND/NAME or all"
    )
    made.add_argument("names", metavar="NAME", nargs="*", help="only these")
    output.add_format(made, "wide", "json", "yaml", "name")
    made.add_argument("-w", "--watch", action="store_true", help="go on with the changes as they happen")
    made.add_argument("--watch-only", action="store_true", help="the changes alone")
    made.add_argument("--ignore-not-found", action="store_true", help="what isn't there is no error")
    made.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    made.add_argument("-l", "--selector", default="", help="labels, such as app=web,tier!=db")
    made.add_argument(
        "--field-selector", metavar="FIELDS", default="", help="fields, such as status.phase=Running"
    )
    made.add_argument(
        "--sort-by", metavar="PATH", default="", help="order by a field, such as .metadata.name"
    )
    output.add_labels(made)
    made.add_argument("--show-kind", action="store_true", help="the kind before each name: pod/web")
    made.add_argument("--no-headers", action="store_true", help="leave out the header line")
    options.add_files(made)
    options.add_namespace(made)
    options.add_sockets(made)
    return made


_SEEN = "kubernetes.io/config.seen"
_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?=(\.\d+)?Z\Z)")


@dataclass(frozen=True)
class _Found:
    """What there is of it, and complaints about what there isn't."""

    target: Target
    items: list[Json]
    missing: list[str]


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    output.settle(args)
    if args.kind in ("events", "event", "ev"):
        return _events(args)
    wanted = targets.chosen(args, more=("events",))
    named = sum(len(target.names) for target in wanted)
    if named and args.all_namespaces:
        raise CommandError("a pod can't be named together with --all-namespaces", usage=True)
    only = wanted[0] if len(wanted) == 1 else None
    watch = args.watch or args.watch_only
    if watch and (only is None or only.kind is not None):
        raise CommandError("--watch is for pods alone, or for events", usage=True)
    printer = _Printer(args, single=named == 1)
    _check(args, wanted)
    client = ApiClient(options.kubelet_socket(args))
    every = client.pods() if any(target.kind is None for target in wanted) else []
    objects = object_rows.objects(client, [target.kind for target in wanted])
    found = [_find(args, target, every, objects) for target in wanted]
    missing = [each for one in found for each in one.missing]
    if not args.watch_only:
        printer.all(found)
    if missing and not args.ignore_not_found:
        for each in missing:
            print(f"error: {each}", file=sys.stderr)
        return 1
    if watch and only is not None:
        names = _full_names(args, every, only.names)
        _watch(client, printer, _filter(args, names), {_version(pod) for pod in found[0].items})
    return 0


def _check(args: argparse.Namespace, wanted: list[Target]) -> None:
    """Raises CommandError for selectors and paths that can't be read, before a daemon is asked."""
    output.sort([], args.sort_by)
    for target in wanted:
        if target.kind is None:
            _filter(args, [])
        else:
            object_rows.choose(target.kind, [], args)


def _full_names(args: argparse.Namespace, every: list[Json], names: list[str]) -> list[str]:
    here = [pod for pod in every if pod["metadata"].get("namespace") == args.namespace]
    return [full_name(here, name) for name in names]


def _find(args: argparse.Namespace, target: Target, every: list[Json], objects: list[Json]) -> _Found:
    kind, names = target.kind, target.names
    if kind is None:
        names = _full_names(args, every, names)
        matches = _filter(args, names)
        items = [_whole(pod) for pod in every if matches(pod)]
        if names:
            items.sort(key=lambda pod: names.index(_name(pod)))
        complaints = {name: str(not_found(name)) for name in names}
    else:
        chosen = object_rows.choose(kind, objects, args)
        by_name = {each["metadata"]["name"]: each for each in chosen}
        items = [by_name[name] for name in names if name in by_name] if names else chosen
        complaints = {name: f'{kind.words[0]} "{name}" not found' for name in names}
    there = {each["metadata"]["name"] for each in items}
    missing = [complaint for name, complaint in complaints.items() if name not in there]
    return _Found(target, output.sort(items, args.sort_by), missing)


def _events(args: argparse.Namespace) -> int:
    """What ``events`` does, with those of its options that ``get`` has."""
    from minikubelet.cli.commands import events  # it imports this module

    if args.names or args.selector or args.show_labels or args.label_columns:
        raise CommandError("see minikubelet events --help for ways to pick events", usage=True)
    words = [
        *(["-A"] if args.all_namespaces else ["-n", args.namespace]),
        *(["-w"] if args.watch else []),
        *(["--watch-only"] if args.watch_only else []),
        *(["-o", args.output] if args.output not in (None, "wide") else []),
        *(["--field-selector", args.field_selector] if args.field_selector else []),
        *(["--sort-by", args.sort_by] if args.sort_by else []),
        *(["--no-headers"] if args.no_headers else []),
        *([] if args.allow_missing_template_keys else ["--no-allow-missing-template-keys"]),
    ]
    given = events.parser().parse_args(words)
    given.run, given.listen = args.run, args.listen
    return events.run(given)


def _filter(args: argparse.Namespace, names: list[str]) -> Callable[[Json], bool]:
    selected = selectors.parse(args.selector)
    fits = selectors.parse_fields(args.field_selector, selectors.POD_FIELDS)

    def matches(pod: Json) -> bool:
        meta = pod["metadata"]
        if not args.all_namespaces and meta.get("namespace") != args.namespace:
            return False
        return (not names or meta["name"] in names) and selected(meta.get("labels", {})) and fits(pod)

    return matches


def _version(pod: Json) -> str:
    return json.dumps(pod, sort_keys=True)


def _watch(client: ApiClient, printer: _Printer, matches: Callable[[Json], bool], printed: set[str]) -> None:
    """Print changes; the watch begins with all pods again, of which those just printed are left out."""
    for change in client.watch("/pods"):
        pod = _whole(change["object"])
        if not matches(pod):
            continue
        if change["type"] == "ADDED" and _version(pod) in printed:
            continue
        printer.change(pod)
    raise CommandError("the kubelet has ended")


class _Printer:
    """Prints what was found in the format that was asked for."""

    def __init__(self, args: argparse.Namespace, *, single: bool) -> None:
        """Raises CommandError for a template that can't be read."""
        self._args = args
        self._single = single
        self._objects = output.whole(args)
        self._options = {"wide": args.output == "wide", "namespace": args.all_namespaces}
        self._table = Table([*pod_row.headers(**self._options), *output.label_headers(args)])
        self._header = not args.no_headers

    def all(self, found: list[_Found]) -> None:
        """What there is."""
        items = [item for each in found for item in each.items]
        named = any(each.target.names for each in found)
        if self._objects is not None:
            if items or not named:
                self._objects.all(items, single=self._single)
        elif self._args.output == "name":
            print(
                "".join(f"{one.target.word}/{_name(each)}\n" for one in found for each in one.items), end=""
            )
        elif items:
            self._tables(
                [each for each in found if each.items], prefixed=len(found) > 1 or self._args.show_kind
            )
        elif not named:
            clustered = all(each.target.kind and not each.target.kind.namespaced for each in found)
            where = "" if self._args.all_namespaces or clustered else f" in {self._args.namespace} namespace"
            print(f"No resources found{where}.", file=sys.stderr)
        sys.stdout.flush()

    def _tables(self, found: list[_Found], *, prefixed: bool) -> None:
        for index, each in enumerate(found):
            if index:
                print()
            prefix = f"{each.target.word}/" if prefixed else ""
            if each.target.kind is None:
                self._rows(each.items, prefix)
            else:
                print(object_rows.table(each.target.kind, each.items, self._args, prefix=prefix), end="")

    def change(self, pod: Json) -> None:
        """A pod that has changed."""
        if self._objects is not None:
            self._objects.change(pod)
        elif self._args.output == "name":
            print(f"pod/{_name(pod)}")
        else:
            self._rows([pod], "pod/" if self._args.show_kind else "")
        sys.stdout.flush()

    def _rows(self, pods: list[Json], prefix: str = "") -> None:
        now = time.time()
        rows = [
            [*pod_row.row(pod, now, **self._options), *output.label_cells(pod, self._args)] for pod in pods
        ]
        at = 1 if self._args.all_namespaces else 0
        for row in rows:
            row[at] = prefix + row[at]
        print(self._table.render(rows, header=self._header), end="")
        self._header = False


def _name(item: Json) -> str:
    return str(item["metadata"]["name"])


def _whole(pod: Json) -> Json:
    """As an API server would show it: also with the time at which the kubelet took it up."""
    meta = pod["metadata"]
    # What a manifest was seen at begins anew with the kubelet.
    since = pod.get("status", {}).get("startTime") or (meta.get("annotations") or {}).get(_SEEN, "")
    if not meta.get("creationTimestamp") and (match := _SECOND.match(since)):
        meta = {**meta, "creationTimestamp": f"{match[0]}Z"}
    return {"apiVersion": "v1", "kind": "Pod", **pod, "metadata": meta}

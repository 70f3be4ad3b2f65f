"""``describe``."""

from __future__ import annotations

import argparse
import sys
import time

from minikubelet.cli import (
    describe_object,
    describe_parts,
    describe_pod,
    object_rows,
    options,
    selectors,
    targets,
)
from minikubelet.cli.api_client import ApiClient, Json, full_name
from minikubelet.cli.options import CommandError
from minikubelet.cli.targets import Target

_EXAMPLES = """
# Everything about a pod, its events included
minikubelet describe pod web

# All pods whose names begin so, and all of a namespace
minikubelet describe pod web-
minikubelet describe pods -n kube-system

# What pods refer to (of Secrets only how large each value is)
minikubelet describe configmap/site secret/credentials
minikubelet describe pvc -l app=db

# The node: its condition, what it has, and what its pods have asked for
minikubelet describe node
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "describe",
        "Show the details of pods, of the node, or of what pods refer to, with their events.",
        "(KIND [NAME|NAME-PREFIX...] | KIND/NAME... | -f FILE) [options]",
        _EXAMPLES,
    )
    made.add_argument(
        "kind", metavar="KIND", nargs="?", help="what to describe: KIND, KIND,KIND or KIND/NAME"
    )
    made.add_argument("names", metavar="NAME", nargs="*", help="default: all of the namespace")
    made.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    made.add_argument("-l", "--selector", default="", help="labels, such as app=web,tier!=db")
    made.add_argument(
        "--show-events",
        action=argparse.BooleanOptionalAction,
        help="events too; default: if it is about one object",
    )
    options.add_files(made)
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    wanted = targets.chosen(args)
    if args.kind and any(target.names for target in wanted) and (args.all_namespaces or args.selector):
        raise CommandError("a name can't stand together with -A or -l", usage=True)
    selectors.parse(args.selector)
    node = _Node(args, ApiClient(options.kubelet_socket(args)), [target.kind for target in wanted])
    found: list[Json] = []
    missing: list[str] = []
    begun = False
    for target in wanted:
        items, lacking = node.find(target)
        if lacking and len(args.names) == len(target.names) == 1:
            # One name beside its kind may be the beginning of several, as with kubectl.
            items = [each for each in node.of_kind(target) if _name(each).startswith(args.names[0])]
            lacking, begun = ([], True) if items else (lacking, False)
        found += items
        missing += [f'{target.plural} "{name}" not found' for name in lacking]
    with_events = args.show_events
    if with_events is None:
        with_events = len(found) == 1 and not missing and not begun
    texts = [node.describe(each, with_events=with_events) for each in found]
    print("\n\n".join(texts), end="")
    for each in missing:
        print(f"error: {each}", file=sys.stderr)
    if not found and not missing:
        where = "" if args.all_namespaces else f" in {args.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
    return 1 if missing else 0


class _Node:
    """What the node has, asked for once."""

    def __init__(
        self, args: argparse.Namespace, client: ApiClient, kinds: list[object_rows.Kind | None]
    ) -> None:
        self._args = args
        self._client = client
        self._now = time.time()
        self._pods = [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in client.pods()]
        self._objects = object_rows.objects(client, kinds, sizes=True)

    def of_kind(self, target: Target) -> list[Json]:
        """All of a kind in the namespace with these labels."""
        kind, args = target.kind, self._args
        selected = selectors.parse(args.selector)
        every = self._pods if kind is None else [o for o in self._objects if o["kind"] == kind.name]
        anywhere = args.all_namespaces or not (kind is None or kind.namespaced)
        return sorted(
            (
                each
                for each in every
                if (anywhere or each["metadata"].get("namespace") == args.namespace)
                and selected(each["metadata"].get("labels", {}))
            ),
            key=lambda each: (each["metadata"].get("namespace", ""), _name(each)),
        )

    def find(self, target: Target) -> tuple[list[Json], list[str]]:
        """Those named, or all; and names that nothing has."""
        every = self.of_kind(target)
        if not target.names:
            return every, []
        by_name = {_name(each): each for each in every}
        names = target.names if target.kind is not None else [full_name(every, n) for n in target.names]
        return [by_name[name] for name in names if name in by_name], [n for n in names if n not in by_name]

    def describe(self, each: Json, *, with_events: bool) -> str:
        """Its description."""
        if each["kind"] == "Pod":
            lines = describe_pod.lines(each, self._now)
        elif each["kind"] == "Node":
            from minikubelet.cli import describe_node  # it counts with the kubelet's own rules

            lines = describe_node.lines(each, self._pods, self._now)
        else:
            lines = describe_object.lines(each, self._pods)
        # There are no events of Secrets, and kubectl doesn't look for them.
        events = self._events(each) if with_events and each["kind"] != "Secret" else None
        return describe_parts.whole(lines, events, self._now)

    def _events(self, each: Json) -> list[Json]:
        meta = each["metadata"]
        if each["kind"] == "Pod":
            return self._client.events(meta.get("uid", ""))
        about = (each["kind"], meta.get("namespace", ""), meta["name"])
        return [event for event in self._client.events() if _about(event) == about]


def _name(each: Json) -> str:
    return str(each["metadata"]["name"])


def _about(event: Json) -> tuple[str, str, str]:
    about = event.get("involvedObject", {})
    return about.get("kind", "Pod"), about.get("namespace", ""), about.get("name", "")

"""``events``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from minikubelet.cli import options, output, selectors, targets
from minikubelet.cli.api_client import ApiClient, Json, full_name
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import Table, age

_EXAMPLES = """
# What has happened in the namespace default, oldest first
minikubelet events

# What happens to one pod from now on, too
minikubelet events --for pod/web -w

# Only what went wrong, everywhere
minikubelet events -A --types Warning
"""
_HEADERS = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser("events", "List events of pods and of the node.", "[options]", _EXAMPLES)
    made.add_argument(
        "--for", dest="about", metavar="KIND/NAME", help="only events of this pod, or of the node"
    )
    made.add_argument("--types", metavar="TYPE,…", default="", help="only Normal or Warning")
    made.add_argument("-w", "--watch", action="store_true", help="go on with new ones as they happen")
    made.add_argument("--watch-only", action="store_true", help="new ones alone")
    made.add_argument("-A", "--all-namespaces", action="store_true", help="events of all namespaces")
    made.add_argument("--field-selector", metavar="FIELDS", default="", help="fields, such as reason=Killing")
    made.add_argument(
        "--sort-by", metavar="PATH", default="", help="order by a field; default: .lastTimestamp"
    )
    output.add_format(made, "json", "yaml")
    made.add_argument("--no-headers", action="store_true", help="leave out the header line")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    output.settle(args)
    whole = output.whole(args)
    client = ApiClient(options.kubelet_socket(args))
    matches = _filter(args, client)
    past = [] if args.watch_only else client.events()
    events = sorted((each for each in past if matches(each)), key=_seen)
    events = output.sort(events, args.sort_by)
    table = Table((["NAMESPACE"] if args.all_namespaces else []) + _HEADERS)
    watch = args.watch or args.watch_only
    if whole is not None and not args.watch_only:
        whole.all(events, single=False)
    elif events:
        rows = [_row(event, args) for event in events]
        print(table.render(rows, header=not args.no_headers), end="")
    elif not watch:
        where = "" if args.all_namespaces else f" in {args.namespace} namespace"
        print(f"No events found{where}.", file=sys.stderr)
    if watch:
        show = whole.change if whole is not None else _row_printer(args, table, header=not events)
        _watch(client, matches, show)
    return 0


def _seen(event: Json) -> str:
    return str(event.get("lastTimestamp", ""))


def _filter(args: argparse.Namespace, client: ApiClient) -> Callable[[Json], bool]:
    types = {word.strip().lower() for word in args.types.split(",") if word.strip()}
    if unknown := types - {"normal", "warning"}:
        raise CommandError(f"--types: {sorted(unknown)[0]!r} is not Normal or Warning", usage=True)
    fits = selectors.parse_fields(args.field_selector, selectors.EVENT_FIELDS)
    kind, name = _about(args, client)

    def matches(event: Json) -> bool:
        about = event.get("involvedObject", {})
        # What concerns the node is in no namespace; kubectl shows it under default.
        if not args.all_namespaces and (about.get("namespace") or "default") != args.namespace:
            return False
        if types and str(event.get("type", "")).lower() not in types:
            return False
        if not fits(event):
            return False
        return not name or (about.get("kind", "Pod") == kind and about.get("name") == name)

    return matches


def _about(args: argparse.Namespace, client: ApiClient) -> tuple[str, str]:
    """Kind and name of what ``--for`` names; empty without it. Raises CommandError."""
    if not args.about:
        return "", ""
    if "/" not in args.about:
        raise CommandError(f"--for takes KIND/NAME, such as pod/{args.about}", usage=True)
    (target,) = targets.parse(args.about, [])
    if target.kind is not None:
        return target.kind.name, target.names[0]
    here = [pod for pod in client.pods() if pod["metadata"].get("namespace") == args.namespace]
    return "Pod", full_name(here, target.names[0])


def _row(event: Json, args: argparse.Namespace) -> list[str]:
    now = time.time()
    about = event.get("involvedObject", {})
    seen = age(event.get("lastTimestamp"), now)
    if event.get("count", 1) > 1:
        seen += f" (x{event['count']} over {age(event.get('firstTimestamp'), now)})"
    target = f"{about.get('kind', 'Pod')}/{about.get('name', '')}"
    row = [
        seen,
        event.get("type", ""),
        event.get("reason", ""),
        target,
        str(event.get("message", "")).strip(),
    ]
    return [about.get("namespace") or "default", *row] if args.all_namespaces else row


def _row_printer(args: argparse.Namespace, table: Table, *, header: bool) -> Callable[[Json], None]:
    headers = iter([header and not args.no_headers])
    return lambda event: print(table.render([_row(event, args)], header=next(headers, False)), end="")


def _watch(client: ApiClient, matches: Callable[[Json], bool], show: Callable[[Json], None]) -> None:
    for change in client.watch("/events", history="0"):
        if matches(change["object"]):
            show(change["object"])
            sys.stdout.flush()
    raise CommandError("the kubelet has ended")

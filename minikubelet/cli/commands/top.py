"""``top``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from minikubelet.cli import options, selectors
from minikubelet.cli.api_client import ApiClient, Json, full_name, not_found
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import Table

_EXAMPLES = """
# What the pods of all namespaces use, the hungriest first
minikubelet top pods -A --sort-by memory

# Each container of one pod
minikubelet top pod web --containers

# The machine
minikubelet top node
"""
_PODS = ("pods", "pod", "po")
_NODES = ("node", "nodes", "no")


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser("top", "Show what pods and the node use.", "pods|node [NAME] [options]", _EXAMPLES)
    made.add_argument("kind", metavar="pods|node", choices=(*_PODS, *_NODES))
    made.add_argument("name", metavar="NAME", nargs="?", help="only this pod (or the node's name)")
    made.add_argument("-A", "--all-namespaces", action="store_true", help="pods of all namespaces")
    made.add_argument("-l", "--selector", default="", help="labels, such as app=web,tier!=db")
    made.add_argument(
        "--field-selector", metavar="FIELDS", default="", help="fields, such as status.phase=Running"
    )
    made.add_argument("--containers", action="store_true", help="a line a container")
    made.add_argument("--sort-by", choices=("cpu", "memory"), help="the greatest first")
    made.add_argument("--sum", action="store_true", help="a last line with the sums")
    made.add_argument("--no-headers", action="store_true", help="leave out the header line")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    client = ApiClient(options.kubelet_socket(args))
    summary = client.stats_summary()
    if args.kind in _NODES:
        if args.name not in (None, summary["node"].get("nodeName")):
            raise CommandError(f'nodes "{args.name}" not found')
        print(_node(summary["node"], header=not args.no_headers), end="")
        return 0
    return _pods(args, client, summary.get("pods", []))


def _node(node: Json, *, header: bool) -> str:
    cpu, memory = _cpu(node), _memory(node)
    share = 100 * cpu // (1_000_000_000 * (os.cpu_count() or 1))
    total = memory + int(node.get("memory", {}).get("availableBytes", 0))
    row = [
        node.get("nodeName", ""),
        _millicores(cpu),
        f"{share}%",
        _mebibytes(memory),
        f"{100 * memory // total if total else 0}%",
    ]
    table = Table(["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"])
    return table.render([row], header=header)


def _pods(args: argparse.Namespace, client: ApiClient, stats: list[Json]) -> int:
    if args.name and (args.all_namespaces or args.selector):
        raise CommandError("a pod can't be named together with -A or -l", usage=True)
    selected = selectors.parse(args.selector)
    fits = selectors.parse_fields(args.field_selector, selectors.POD_FIELDS)
    pods = client.pods()
    here = [pod for pod in pods if args.all_namespaces or pod["metadata"].get("namespace") == args.namespace]
    name = full_name(here, args.name) if args.name else ""
    wanted = {
        pod["metadata"]["uid"]
        for pod in here
        if selected(pod["metadata"].get("labels", {}))
        and fits(pod)
        and (not name or pod["metadata"]["name"] == name)
    }
    if name and not wanted:
        raise not_found(args.name)
    mine = [pod for pod in stats if pod["podRef"]["uid"] in wanted]
    mine.sort(key=lambda pod: (pod["podRef"]["namespace"], pod["podRef"]["name"]))
    if args.sort_by:
        mine.sort(key=_HUNGER[args.sort_by])
    rows = [row for pod in mine for row in _rows(pod, args)]
    if not rows:
        where = "" if args.all_namespaces else f" in {args.namespace} namespace"
        print(f"No resources found{where}.", file=sys.stderr)
        return 0
    print(_table(args, rows), end="")
    return 0


class _Row:
    """One line: a pod or a container."""

    def __init__(self, pod: Json, container: str, of: Json) -> None:
        self.namespace = pod["podRef"]["namespace"]
        self.pod = pod["podRef"]["name"]
        self.container = container
        self.cpu = _cpu(of)
        self.memory = _memory(of)


def _rows(pod: Json, args: argparse.Namespace) -> list[_Row]:
    if not args.containers:
        return [_Row(pod, "", pod)]
    containers = sorted(pod.get("containers", []), key=lambda each: str(each["name"]))
    if args.sort_by:
        containers.sort(key=_HUNGER[args.sort_by])
    return [_Row(pod, each["name"], each) for each in containers]


def _table(args: argparse.Namespace, rows: list[_Row]) -> str:
    headers = ["POD", "NAME"] if args.containers else ["NAME"]
    headers = (["NAMESPACE"] if args.all_namespaces else []) + headers + ["CPU(cores)", "MEMORY(bytes)"]
    lines = []
    for row in rows:
        names = [row.pod, row.container] if args.containers else [row.pod]
        names = [row.namespace, *names] if args.all_namespaces else names
        lines.append([*names, _millicores(row.cpu), _mebibytes(row.memory)])
    if args.sum:
        sums = (_millicores(sum(row.cpu for row in rows)), _mebibytes(sum(row.memory for row in rows)))
        lines.append([*[""] * (len(headers) - 2), *sums])
    return Table(headers).render(lines, header=not args.no_headers)


def _cpu(of: Json) -> int:
    """Billionths of a core."""
    return int(of.get("cpu", {}).get("usageNanoCores", 0))


def _memory(of: Json) -> int:
    """Bytes of the working set."""
    return int(of.get("memory", {}).get("workingSetBytes", 0))


_HUNGER: dict[str, Callable[[Json], int]] = {
    "cpu": lambda of: -_cpu(of),
    "memory": lambda of: -_memory(of),
}
"""The order of pods, and of the containers within one: the greatest first, as with kubectl."""


def _millicores(nanocores: int) -> str:
    return f"{-(-nanocores // 1_000_000)}m"


def _mebibytes(count: int) -> str:
    return f"{count >> 20}Mi"

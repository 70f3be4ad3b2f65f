"""``wait``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from minikubelet.cli import options, output, selectors, targets, wait_goals
from minikubelet.cli.api_client import ApiClient, Json, not_found
from minikubelet.cli.live_pods import LivePods
from minikubelet.cli.options import CommandError
from minikubelet.cli.wait_goals import Goal

_EXAMPLES = """
# Until a pod is Ready, a minute at most
minikubelet wait --for=condition=Ready pod/web --timeout=60s

# Until all pods of a manifest are, as soon as they are there
minikubelet apply -f web.yaml && minikubelet wait --for=create --for=condition=Ready -f web.yaml

# Until a pod has done its work
minikubelet wait --for=jsonpath='{.status.phase}'=Succeeded pod/job

# Until the pods with a label are gone
minikubelet wait --for=delete pods -l app=web
"""
_TIMED_OUT = "timed out waiting for the condition"
_WEEK = 7 * 24 * 3600.0


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Wait until pods are there, are gone, have a condition or a value in a field; exit code 1 if that "
        "takes too long.\nOf several things to wait for, each follows the one before."
    )
    usage = "(pods (NAME... | -l LABELS | --all) | pod/NAME... | -f FILE) --for=WHAT [options]"
    made = options.Parser("wait", description, usage, _EXAMPLES)
    made.add_argument("kind", metavar="pods", nargs="?", help="pods, or pod/NAME")
    made.add_argument("names", metavar="NAME", nargs="*", help="these pods")
    made.add_argument(
        "--for",
        dest="goals",
        metavar="WHAT",
        action="append",
        default=[],
        help="create, delete, condition=NAME[=VALUE] (default true), jsonpath='{PATH}'[=VALUE]",
    )
    made.add_argument(
        "--timeout",
        metavar="DURATION",
        type=options.signed_seconds,
        default=30.0,
        help="default: 30s; 0: look once; negative: a week",
    )
    made.add_argument("--all", action="store_true", help="all pods of the namespace")
    made.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    made.add_argument("-l", "--selector", default="", help="labels, such as app=web,tier!=db")
    made.add_argument(
        "--field-selector", metavar="FIELDS", default="", help="fields, such as status.phase=Running"
    )
    forms = output.Formats("json", "yaml", "name")
    made.add_argument("-o", "--output", choices=forms, help="format of the pods that are printed")
    options.add_files(made)
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    goals = wait_goals.parse(args.goals)
    names = _names(args)
    matches = _filter(args)
    show = _printer(args)
    client = ApiClient(options.kubelet_socket(args))
    end = time.monotonic() + (_WEEK if args.timeout < 0 else args.timeout)
    waiting = _Waiting(LivePods(client, end), once=args.timeout == 0)
    kinds = {goal.kind for goal in goals}
    if "create" in kinds and not waiting.until_there(names, matches):
        raise CommandError(_TIMED_OUT)
    wanted, problems = waiting.choose(names, matches)
    if "delete" in kinds:
        problems = []
    elif not wanted and not problems:
        raise CommandError("no matching resources found")
    for pod in wanted:
        try:
            for goal in goals:
                show(waiting.reach(goal, pod))
        except CommandError as exc:
            problems.append(str(exc))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


Name = tuple[str, str]
"""Namespace and name."""


def _names(args: argparse.Namespace) -> list[Name]:
    """The pods that are named, by words or by manifests. Raises CommandError."""
    if args.filename:
        if args.kind or args.selector or args.all or args.field_selector or args.all_namespaces:
            raise CommandError("-f FILE can't stand together with other ways to choose pods", usage=True)
        return _from_files(args)
    if not args.kind:
        raise CommandError("name pods (pod/NAME), choose some (pods -l LABELS), or -f FILE", usage=True)
    names = targets.pod_names(args.kind, args.names)
    if "" in names:
        raise CommandError("a name is missing after the slash", usage=True)
    chosen = bool(args.all or args.selector or args.field_selector)
    if names and (chosen or args.all_namespaces):
        raise CommandError("a name can't stand together with --all, -A, -l or --field-selector", usage=True)
    if not names and not chosen:
        raise CommandError("resource(s) were provided, but no name was specified", usage=True)
    return [(args.namespace, name) for name in names]


def _from_files(args: argparse.Namespace) -> list[Name]:
    """The pods of manifests; what is in them beside pods needn't be waited for."""
    found = [(key.namespace, key.name) for key in targets.keys(args) if key.kind == "Pod"]
    if not found:
        raise CommandError("no pods in these manifests")
    return found


def _filter(args: argparse.Namespace) -> Callable[[Json], bool]:
    selected = selectors.parse(args.selector)
    fits = selectors.parse_fields(args.field_selector, selectors.POD_FIELDS)

    def matches(pod: Json) -> bool:
        here = args.all_namespaces or pod["metadata"].get("namespace") == args.namespace
        return here and selected(pod["metadata"].get("labels", {})) and fits(pod)

    return matches


def _printer(args: argparse.Namespace) -> Callable[[Json], None]:
    whole = output.Whole(args.output) if output.is_whole(args.output) else None

    def show(pod: Json) -> None:
        if whole is not None:
            whole.change({"apiVersion": "v1", "kind": "Pod", **pod})
        else:
            words = "" if args.output == "name" else " condition met"
            print(f"pod/{pod['metadata']['name']}{words}")
        sys.stdout.flush()

    return show


class _Waiting:
    """Waits for one thing after another, by one clock."""

    def __init__(self, pods: LivePods, *, once: bool) -> None:
        self._pods = pods
        self._once = once

    def _until(self, happened: Callable[[], bool]) -> bool:
        return happened() if self._once else self._pods.until(happened)

    def until_there(self, names: list[Name], matches: Callable[[Json], bool]) -> bool:
        """Wait for all that are named, or for any that matches; whether they came in time."""
        if names:
            return self._until(lambda: all(self._pods.find(*name) is not None for name in names))
        return self._until(lambda: any(map(matches, self._pods.all())))

    def choose(self, names: list[Name], matches: Callable[[Json], bool]) -> tuple[list[Json], list[str]]:
        """The pods that are meant, and complaints about those that aren't there."""
        if not names:
            found = [pod for pod in self._pods.all() if matches(pod)]
            return sorted(found, key=_key), []
        named = [(name, self._pods.find(*name)) for name in names]
        return (
            [pod for _, pod in named if pod is not None],
            [str(not_found(name)) for (_, name), pod in named if pod is None],
        )

    def reach(self, goal: Goal, pod: Json) -> Json:
        """The pod once it is as wanted. Raises CommandError if the time is over before."""
        namespace, name = _key(pod)

        def now() -> Json | None:
            # One that is replaced meanwhile, because its manifest changes, goes on under its name.
            return self._pods.find(namespace, name)

        def happened() -> bool:
            if goal.kind == "delete":
                return not self._pods.has(pod)
            return goal.kind == "create" or ((found := now()) is not None and goal.test(found))

        if not self._until(happened):
            words = "condition not met for" if self._once else f"{_TIMED_OUT} on"
            raise CommandError(f"{words} pods/{name}")
        return now() or pod


def _key(pod: Json) -> Name:
    return pod["metadata"].get("namespace", ""), pod["metadata"]["name"]

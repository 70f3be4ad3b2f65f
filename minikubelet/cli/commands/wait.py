"""``wait``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from minikubelet.cli import object_rows, options, output, selectors, targets, wait_goals
from minikubelet.cli.api_client import ApiClient, Json
from minikubelet.cli.live_objects import LiveObjects
from minikubelet.cli.live_pods import LivePods
from minikubelet.cli.options import CommandError
from minikubelet.cli.targets import Target
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

# Until the node is ready, and a ConfigMap is there
minikubelet wait --for=condition=Ready nodes --all
minikubelet wait --for=create configmap/settings
"""
_TIMED_OUT = "timed out waiting for the condition"
_WEEK = 7 * 24 * 3600.0


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Wait until pods (or other objects) are there, are gone, have a condition or a value in a field; "
        "exit code 1 if that takes too long.\nOf several things to wait for, each follows the one before."
    )
    usage = "(KIND (NAME... | -l LABELS | --all) | KIND/NAME... | -f FILE) --for=WHAT [options]"
    made = options.Parser("wait", description, usage, _EXAMPLES)
    made.add_argument("kind", metavar="KIND", nargs="?", help="pods, nodes, …, or KIND/NAME")
    made.add_argument("names", metavar="NAME", nargs="*", help="only these")
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
    made.add_argument("--all", action="store_true", help="all of the namespace")
    made.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    made.add_argument("-l", "--selector", default="", help="labels, such as app=web,tier!=db")
    made.add_argument(
        "--field-selector", metavar="FIELDS", default="", help="fields, such as status.phase=Running"
    )
    output.add_format(made, "json", "yaml", "name")
    options.add_files(made)
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    goals = wait_goals.parse(args.goals)
    wanted = [(target, names, _filter(args, target)) for target, names in _targets(args)]
    output.settle(args)
    whole = output.whole(args)
    client = ApiClient(options.kubelet_socket(args))
    end = time.monotonic() + (_WEEK if args.timeout < 0 else args.timeout)
    problems: list[str] = []
    for target, names, matches in wanted:
        live = LivePods(client, end) if target.kind is None else LiveObjects(client, target.kind, end)
        waiting = _Waiting(live, target, _Show(args, target, whole), once=args.timeout == 0)
        problems += waiting.reach_all(goals, names, matches)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


Name = tuple[str, str]
"""Namespace and name."""


def _targets(args: argparse.Namespace) -> list[tuple[Target, list[Name]]]:
    """The kinds and objects that are named, by words or by manifests. Raises CommandError."""
    if args.filename:
        if args.kind or args.selector or args.all or args.field_selector or args.all_namespaces:
            raise CommandError("-f FILE can't stand together with other ways to choose pods", usage=True)
        return _from_files(args)
    if not args.kind:
        raise CommandError("name pods (pod/NAME), choose some (pods -l LABELS), or -f FILE", usage=True)
    found = targets.parse(args.kind, args.names)
    named = any(target.names for target in found)
    chosen = bool(args.all or args.selector or args.field_selector)
    if named and (chosen or args.all_namespaces):
        raise CommandError("a name can't stand together with --all, -A, -l or --field-selector", usage=True)
    if not named and not chosen:
        raise CommandError("resource(s) were provided, but no name was specified", usage=True)
    return [(target, [(args.namespace, name) for name in target.names]) for target in found]


def _from_files(args: argparse.Namespace) -> list[tuple[Target, list[Name]]]:
    """The pods of manifests; what is in them beside pods needn't be waited for."""
    found = [(key.namespace, key.name) for key in targets.keys(args) if key.kind == "Pod"]
    if not found:
        raise CommandError("no pods in these manifests")
    return [(Target(None, [name for _, name in found]), found)]


def _filter(args: argparse.Namespace, target: Target) -> Callable[[Json], bool]:
    selected = selectors.parse(args.selector)
    kind = target.kind
    fields = selectors.POD_FIELDS if kind is None else object_rows.fields(kind)
    fits = selectors.parse_fields(args.field_selector, fields)

    def matches(each: Json) -> bool:
        namespaced = kind is None or kind.namespaced
        here = args.all_namespaces or not namespaced or each["metadata"].get("namespace") == args.namespace
        return here and selected(each["metadata"].get("labels", {})) and fits(each)

    return matches


class _Show:
    """Prints what is as it was waited for."""

    def __init__(self, args: argparse.Namespace, target: Target, whole: output.Whole | None) -> None:
        self._whole = whole
        self._target = target
        self._words = "" if args.output == "name" else " condition met"

    def __call__(self, each: Json) -> None:
        if self._whole is not None:
            kind = self._target.kind.name if self._target.kind is not None else "Pod"
            self._whole.change({"apiVersion": "v1", "kind": kind, **each})
        else:
            print(f"{self._target.word}/{each['metadata']['name']}{self._words}")
        sys.stdout.flush()


class _Waiting:
    """Waits for one thing after another, by one clock."""

    def __init__(self, live: LivePods | LiveObjects, target: Target, show: _Show, *, once: bool) -> None:
        self._live = live
        self._plural = target.plural
        self._show = show
        self._once = once

    def reach_all(self, goals: list[Goal], names: list[Name], matches: Callable[[Json], bool]) -> list[str]:
        """Wait for all of it; what has gone wrong. Raises CommandError."""
        kinds = {goal.kind for goal in goals}
        if "create" in kinds and not self._until_there(names, matches):
            raise CommandError(_TIMED_OUT)
        wanted, problems = self._choose(names, matches)
        if "delete" in kinds:
            problems = []
        elif not wanted and not problems:
            raise CommandError("no matching resources found")
        for each in wanted:
            try:
                for goal in goals:
                    self._show(self._reach(goal, each))
            except CommandError as exc:
                problems.append(str(exc))
        return problems

    def _until(self, happened: Callable[[], bool]) -> bool:
        return happened() if self._once else self._live.until(happened)

    def _until_there(self, names: list[Name], matches: Callable[[Json], bool]) -> bool:
        """Wait for all that are named, or for any that matches; whether they came in time."""
        if names:
            return self._until(lambda: all(self._live.find(*name) is not None for name in names))
        return self._until(lambda: any(map(matches, self._live.all())))

    def _choose(self, names: list[Name], matches: Callable[[Json], bool]) -> tuple[list[Json], list[str]]:
        """The objects that are meant, and complaints about those that aren't there."""
        if not names:
            found = [each for each in self._live.all() if matches(each)]
            return sorted(found, key=_key), []
        named = [(name, self._live.find(*name)) for name in names]
        return (
            [each for _, each in named if each is not None],
            [f'{self._plural} "{name}" not found' for (_, name), each in named if each is None],
        )

    def _reach(self, goal: Goal, one: Json) -> Json:
        """The object once it is as wanted. Raises CommandError if the time is over before."""
        namespace, name = _key(one)

        def now() -> Json | None:
            # A pod that is replaced meanwhile, because its manifest changes, goes on under its name.
            return self._live.find(namespace, name)

        def happened() -> bool:
            if goal.kind == "delete":
                return not self._live.has(one)
            return goal.kind == "create" or ((found := now()) is not None and goal.test(found))

        if not self._until(happened):
            words = "condition not met for" if self._once else f"{_TIMED_OUT} on"
            raise CommandError(f"{words} {self._plural}/{name}")
        return now() or one


def _key(each: Json) -> Name:
    return each["metadata"].get("namespace", ""), each["metadata"]["name"]

"""``logs``."""

from __future__ import annotations

import argparse
import math
import sys

from minikubelet.cli import many_logs, options, selectors
from minikubelet.cli.api_client import ApiClient, Json
from minikubelet.cli.many_logs import Source
from minikubelet.cli.options import CommandError
from minikubelet.cli.targets import pod_names
from minikubelet.cli.text import timestamp

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

_SELECTED_TAIL = 10
"""How many lines of each log there are with ``-l``, as with kubectl."""

_EXAMPLES = """
# The log of a pod with one container
minikubelet logs web

# Follow one container of several, from ten lines back
minikubelet logs -f web -c server --tail 10

# What the container wrote before it was restarted
minikubelet logs web -c server --previous

# All containers of all pods with a label, each line with where it is from
minikubelet logs -l app=web --all-containers --prefix -f
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "logs", "Print the logs of containers.", "(POD | -l SELECTOR) [-c CONTAINER] [options]", _EXAMPLES
    )
    made.add_argument("pod", metavar="POD", nargs="?")
    made.add_argument("container_word", metavar="CONTAINER", nargs="?", help=argparse.SUPPRESS)
    made.add_argument("-c", "--container", metavar="NAME", help="default: the first container")
    made.add_argument("--all-containers", action="store_true", help="of all containers, one after the other")
    made.add_argument("-l", "--selector", default="", help="of all pods with these labels, such as app=web")
    made.add_argument("--prefix", action="store_true", help="begin each line with its pod and container")
    made.add_argument("-f", "--follow", action="store_true", help="go on as the log grows")
    made.add_argument("-p", "--previous", action="store_true", help="the container before the last restart")
    made.add_argument(
        "--tail", metavar="N", type=int, help="only the last N lines (default: all; 10 with -l)"
    )
    made.add_argument(
        "--since", metavar="DURATION", type=options.seconds, help="only newer lines (5s, 2m, 3h)"
    )
    made.add_argument("--since-time", metavar="TIME", help="only newer lines (RFC 3339)")
    made.add_argument("--timestamps", action="store_true", help="begin each line with its time")
    made.add_argument("--limit-bytes", metavar="N", type=int, default=0, help="stop after N bytes")
    made.add_argument(
        "--max-log-requests",
        metavar="N",
        type=int,
        default=5,
        help="of how many containers at most -f follows the logs at once (default %(default)s)",
    )
    made.add_argument(
        "--pod-running-timeout",
        metavar="DURATION",
        type=options.seconds,
        default=20.0,
        help="how long -f waits for a container that has not started (default: 20s)",
    )
    made.add_argument("--ignore-errors", action="store_true", help="go on with the other logs if one fails")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def choose_container(pod: Json, wanted: str | None, *, quiet: bool = False) -> str:
    """The container asked for, or the default one (said when there are several). Raises CommandError."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    kinds = ("containers", "initContainers", "ephemeralContainers")
    every = [container["name"] for kind in kinds for container in spec.get(kind, [])]
    if wanted:
        if wanted not in every:
            raise CommandError(f"container {wanted} is not valid for pod {name} (it has: {', '.join(every)})")
        return wanted
    noted = pod["metadata"].get("annotations", {}).get(_DEFAULT_CONTAINER, "")
    chosen: str = noted if noted in every else every[0]
    if len(every) > 1 and not noted and not quiet:
        print(f'Defaulted container "{chosen}" out of: {", ".join(every)}', file=sys.stderr)
    return chosen


def one_pod(client: ApiClient, namespace: str, word: str) -> Json:
    """The pod that ``NAME`` or ``pod/NAME`` means. Raises CommandError."""
    kind, slash, _ = word.partition("/")
    names = pod_names(word, []) if slash else [word]
    if slash and not kind:
        raise CommandError(f"{word!r} is not a pod's name", usage=True)
    return client.find_pod(namespace, names[0])


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    query = _query(args)
    client = ApiClient(options.kubelet_socket(args))
    sources = [
        Source(args.namespace, pod["metadata"]["name"], container)
        for pod in _pods(args, client)
        for container in _containers(args, pod)
    ]
    output = sys.stdout.buffer
    if args.follow and len(sources) > max(1, args.max_log_requests):
        raise CommandError(
            f"you are attempting to follow {len(sources)} log streams, but maximum allowed concurrency is "
            f"{args.max_log_requests}, use --max-log-requests to increase the limit"
        )
    printer = many_logs.Printer(
        client,
        query,
        output,
        prefix=args.prefix,
        ignore_errors=args.ignore_errors,
        patience=args.pod_running_timeout,
    )
    if args.follow and len(sources) > 1:
        printer.follow_all(sources)
    else:
        for source in sources:
            printer.print(source)
    return 0


def _query(args: argparse.Namespace) -> dict[str, str]:
    """What the kubelet is asked for. Raises CommandError for what doesn't fit together."""
    if args.limit_bytes < 0 or (args.tail is not None and args.tail < -1):
        raise CommandError("--tail and --limit-bytes must not be negative", usage=True)
    if bool(args.pod) == bool(args.selector):
        raise CommandError("name a pod, or pick several with -l SELECTOR", usage=True)
    if args.container and args.container_word:
        raise CommandError("only one of -c or an inline [CONTAINER] arg is allowed", usage=True)
    if args.all_containers and (args.container or args.container_word):
        raise CommandError("a container can't be named together with --all-containers", usage=True)
    if args.since is not None and args.since_time is not None:
        raise CommandError("only one of --since and --since-time may be used", usage=True)
    if args.since_time is not None and timestamp(args.since_time) is None:
        raise CommandError(f"--since-time: {args.since_time!r} is not a time (RFC 3339)", usage=True)
    tail = args.tail if args.tail is not None else _SELECTED_TAIL if args.selector else -1
    return {
        "follow": "1" if args.follow else "",
        "previous": "1" if args.previous else "",
        "timestamps": "1" if args.timestamps else "",
        "tailLines": str(tail) if tail >= 0 else "",
        "sinceSeconds": str(max(1, math.ceil(args.since))) if args.since is not None else "",
        "sinceTime": args.since_time or "",
        "limitBytes": str(args.limit_bytes) if args.limit_bytes else "",
    }


def _pods(args: argparse.Namespace, client: ApiClient) -> list[Json]:
    if args.pod:
        return [one_pod(client, args.namespace, args.pod)]
    selected = selectors.parse(args.selector)
    here = [pod for pod in client.pods() if pod["metadata"].get("namespace") == args.namespace]
    pods = [pod for pod in here if selected(pod["metadata"].get("labels", {}))]
    if not pods:
        print(f"No resources found in {args.namespace} namespace.", file=sys.stderr)
    return pods


def _containers(args: argparse.Namespace, pod: Json) -> list[str]:
    if not args.all_containers:
        return [choose_container(pod, args.container or args.container_word)]
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [each["name"] for kind in kinds for each in pod["spec"].get(kind, [])]

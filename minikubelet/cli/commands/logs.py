"""``logs``."""

from __future__ import annotations

import argparse
import math
import sys

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient, Json
from minikubelet.cli.commands.get import pod_names
from minikubelet.cli.options import CommandError

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

_EXAMPLES = """
# The log of a pod with one container
minikubelet logs web

# Follow one container of several, from ten lines back
minikubelet logs -f web -c server --tail 10

# What the container wrote before it was restarted
minikubelet logs web -c server --previous
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "logs", "Print the logs of a container in a pod.", "POD [-c CONTAINER] [options]", _EXAMPLES
    )
    made.add_argument("pod", metavar="POD")
    made.add_argument("container_word", metavar="CONTAINER", nargs="?", help=argparse.SUPPRESS)
    made.add_argument("-c", "--container", metavar="NAME", help="default: the first container")
    made.add_argument("-f", "--follow", action="store_true", help="go on as the log grows")
    made.add_argument("-p", "--previous", action="store_true", help="the container before the last restart")
    made.add_argument("--tail", metavar="N", type=int, default=-1, help="only the last N lines")
    made.add_argument(
        "--since", metavar="DURATION", type=options.seconds, help="only newer lines (5s, 2m, 3h)"
    )
    made.add_argument("--timestamps", action="store_true", help="begin each line with its time")
    made.add_argument("--limit-bytes", metavar="N", type=int, default=0, help="stop after N bytes")
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
    if args.limit_bytes < 0 or args.tail < -1:
        raise CommandError("--tail and --limit-bytes must not be negative", usage=True)
    client = ApiClient(options.kubelet_socket(args))
    pod = one_pod(client, args.namespace, args.pod)
    container = choose_container(pod, args.container or args.container_word)
    query = {
        "follow": "1" if args.follow else "",
        "previous": "1" if args.previous else "",
        "timestamps": "1" if args.timestamps else "",
        "tailLines": str(args.tail) if args.tail >= 0 else "",
        "sinceSeconds": str(max(1, math.ceil(args.since))) if args.since is not None else "",
        "limitBytes": str(args.limit_bytes) if args.limit_bytes else "",
    }
    output = sys.stdout.buffer
    for piece in client.logs(args.namespace, pod["metadata"]["name"], container, query):
        output.write(piece)
        output.flush()
    return 0

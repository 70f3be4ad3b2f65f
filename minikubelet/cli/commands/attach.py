"""``attach``."""

from __future__ import annotations

import argparse
import asyncio
import sys

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.commands.exec import need_live, wants_terminal
from minikubelet.cli.commands.logs import choose_container, one_pod
from minikubelet.cli.stream_path import Target

_EXAMPLES = """
# What a container writes from now on
minikubelet attach web

# Its own terminal, with input
minikubelet attach -it shell
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = "Attach to the streams of a running container."
    made = options.Parser("attach", description, "POD [-c CONTAINER] [-it]", _EXAMPLES)
    made.add_argument("pod", metavar="POD")
    made.add_argument("-c", "--container", metavar="NAME", help="default: the first container")
    made.add_argument("-i", "--stdin", action="store_true", help="pass this command's input on")
    made.add_argument("-t", "--tty", action="store_true", help="the container has a terminal (tty: true)")
    made.add_argument("-q", "--quiet", action="store_true", help="only the container's own output")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    socket = options.kubelet_socket(args)
    pod = one_pod(ApiClient(socket), args.namespace, args.pod)
    need_live(pod, "attach")
    container = choose_container(pod, args.container, quiet=args.quiet)
    tty = wants_terminal(args)
    if tty and not args.quiet:
        print("If you don't see a command prompt, try pressing enter.", file=sys.stderr)
    path = Target(args.namespace, pod["metadata"]["name"], container).attach_path(stdin=args.stdin, tty=tty)
    from minikubelet.cli.exec_session import Session

    return asyncio.run(Session(socket, path, stdin=args.stdin, tty=tty).run())

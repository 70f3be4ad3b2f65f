"""``exec``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.commands.logs import choose_container, one_pod
from minikubelet.cli.options import CommandError
from minikubelet.cli.stream_path import Target

_EXAMPLES = """
# One command; its exit code becomes this one's
minikubelet exec web -- ls /site

# A shell
minikubelet exec -it web -c server -- sh

# With input
minikubelet exec -i web -- sh -c 'cat > /tmp/file' < file
"""


class CommandParser(options.Parser):
    """Everything after ``--`` is the command, whatever it looks like."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        words = list(args or [])
        split = words.index("--") if "--" in words else len(words)
        parsed: argparse.Namespace = super().parse_args(words[:split], namespace)
        parsed.command += words[split + 1 :]
        return parsed


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    usage = "POD [-c CONTAINER] [-it] -- COMMAND [ARG...]"
    made = CommandParser("exec", "Execute a command in a container.", usage, _EXAMPLES)
    made.add_argument("pod", metavar="POD")
    made.add_argument("command", metavar="COMMAND", nargs="*", help="what to run, after --")
    made.add_argument("-c", "--container", metavar="NAME", help="default: the first container")
    made.add_argument("-i", "--stdin", action="store_true", help="pass this command's input on")
    made.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    made.add_argument("-q", "--quiet", action="store_true", help="only the command's own output")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if not args.command:
        raise CommandError("you must specify at least one command for the container, after --", usage=True)
    socket = options.kubelet_socket(args)
    pod = one_pod(ApiClient(socket), args.namespace, args.pod)
    need_live(pod, "exec into")
    container = choose_container(pod, args.container, quiet=args.quiet)
    tty = wants_terminal(args)
    target = Target(args.namespace, pod["metadata"]["name"], container)
    path = target.exec_path(args.command, stdin=args.stdin, tty=tty)
    from minikubelet.cli.exec_session import Session

    return asyncio.run(Session(socket, path, stdin=args.stdin, tty=tty).run())


def need_live(pod: dict[str, Any], what: str) -> None:
    """Raises CommandError for a pod that has ended."""
    phase = pod.get("status", {}).get("phase", "")
    if phase in ("Succeeded", "Failed"):
        raise CommandError(f"cannot {what} a container in a completed pod; current phase is {phase}")


def wants_terminal(args: argparse.Namespace) -> bool:
    """Whether ``-t`` can be had; if it can't, that is said."""
    if args.tty and not (args.stdin and sys.stdin.isatty()):
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        return False
    return bool(args.tty)

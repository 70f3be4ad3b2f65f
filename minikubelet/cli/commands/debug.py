"""``debug``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.commands.exec import CommandParser
from minikubelet.cli.commands.logs import one_pod
from minikubelet.cli.debug_container import PROFILES, make_container, make_name
from minikubelet.cli.options import CommandError
from minikubelet.cli.stream_path import Target

Json = dict[str, Any]

_LOOK = 0.1
"""Seconds between two looks at the new container."""
_EXIT_PATIENCE = 5.0
"""Seconds that the exit code may take after the streams have ended."""

_EXAMPLES = """
# A shell beside a pod's containers, in its network
minikubelet debug -it web --image=busybox

# ... that sees the processes of one of them
minikubelet debug -it web --image=busybox --target=server

# One command; its exit code becomes this one's
minikubelet debug -i web --image=tools -- curl -s localhost:8080

# Only start it; look at what it writes later
minikubelet debug web --image=tools -c trace -- tcpdump -l
minikubelet logs web -c trace
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Start a container more in a running pod, to look into it (an ephemeral container).\n"
        "It is never restarted, and stays in the pod's list until the pod goes."
    )
    made = CommandParser("debug", description, "POD --image=IMAGE [-it] [-- COMMAND [ARG...]]", _EXAMPLES)
    made.add_argument("pod", metavar="POD")
    made.add_argument("command", metavar="COMMAND", nargs="*", help="instead of the image's, after --")
    made.add_argument("--image", metavar="IMAGE", default="", help="what the container is made from")
    made.add_argument("-c", "--container", metavar="NAME", help="its name (default: debugger-XXXXX)")
    made.add_argument("--target", metavar="NAME", help="share the process namespace of this container")
    made.add_argument("-i", "--stdin", action="store_true", help="pass this command's input on")
    made.add_argument("-t", "--tty", action="store_true", help="give the container a terminal")
    made.add_argument(
        "--attach",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="wait until it runs and show what it writes (default: with -i)",
    )
    made.add_argument(
        "--env", metavar="NAME=VALUE", action="append", default=[], help="a variable, may be repeated"
    )
    made.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="general",
        help="security context, as kubectl's (default %(default)s)",
    )
    made.add_argument("--image-pull-policy", choices=("Always", "IfNotPresent", "Never"))
    made.add_argument("--arguments-only", action="store_true", help="keep the image's entrypoint")
    made.add_argument("-q", "--quiet", action="store_true", help="only the container's own output")
    for option in ("--copy-to", "--set-image"):
        made.add_argument(option, dest="copy", action="store", help=argparse.SUPPRESS)
    for option in ("--replace", "--same-node", "--share-processes"):
        made.add_argument(option, dest="copy", action="store_const", const=option, help=argparse.SUPPRESS)
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if args.copy is not None:
        raise CommandError(
            "copies of pods are not made: apply a changed manifest under another name "
            f"(minikubelet get pod {args.pod} -o yaml)",
            usage=True,
        )
    if args.pod.partition("/")[0] in ("node", "nodes", "no"):
        raise CommandError("the node is this machine: look around in it without a container", usage=True)
    if not args.image:
        raise CommandError("--image is needed", usage=True)
    attach = args.stdin if args.attach is None else args.attach
    if args.tty and not args.stdin:
        raise CommandError("-i is needed with -t", usage=True)
    if args.stdin and not attach:
        raise CommandError("--no-attach leaves nobody to give input: not with -i", usage=True)
    if args.arguments_only and not args.command:
        raise CommandError("--arguments-only needs arguments, after --", usage=True)
    if args.tty and not sys.stdin.isatty():
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        args.tty = False
    debugging = _Debugging(args)
    debugging.create()
    return debugging.attach() if attach else 0


class _Debugging:
    """One new container, from its making to its end."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._socket = options.kubelet_socket(args)
        self._client = ApiClient(self._socket)
        pod = one_pod(self._client, args.namespace, args.pod)
        self._pod, self._uid = str(pod["metadata"]["name"]), pod["metadata"].get("uid", "")
        self._name = args.container or make_name(pod)
        self._phase = ""

    def _say(self, text: str) -> None:
        if not self._args.quiet:
            print(text, file=sys.stderr)

    def create(self) -> None:
        """Ask the kubelet for it."""
        container = make_container(self._args, self._name)
        if not self._args.container:
            self._say(f"Defaulting debug container name to {self._name}.")
        if self._args.target:
            self._say(f'Targeting container "{self._args.target}".')
        self._client.add_ephemeral(self._args.namespace, self._pod, json.dumps(container).encode())

    def attach(self) -> int:
        """Stay with it until it ends; its exit code."""
        state = self._wait()
        if "running" in state:
            if self._args.tty:
                self._say("If you don't see a command prompt, try pressing enter.")
            args = self._args
            target = Target(args.namespace, self._pod, self._name)
            path = target.attach_path(stdin=args.stdin, tty=args.tty)
            from minikubelet.cli.exec_session import Session

            try:
                asyncio.run(Session(self._socket, path, stdin=args.stdin, tty=args.tty).run())
            except CommandError:
                if "terminated" not in self._state():  # else it ended before it could be attached to
                    raise
                self._show_log()
            return self._exit_code()
        self._show_log()
        return self._exit_code()

    def _wait(self) -> Json:
        """Until it runs or has ended; its state. Says why it waits."""
        said = ""
        while True:
            state = self._state()
            if "waiting" not in state and state:
                return state
            if (phase := self._phase) in ("Succeeded", "Failed"):
                raise CommandError(f'pod "{self._pod}" has ended ({phase}) before {self._name} ran')
            waiting = state.get("waiting", {})
            words = f"{waiting.get('reason', '')}: {waiting.get('message', '')}".rstrip(": ")
            if waiting.get("message") and words != said:
                self._say(f"container {self._name} waits: {words}")
                said = words
            time.sleep(_LOOK)

    def _state(self) -> Json:
        pod = self._client.find_pod(self._args.namespace, self._pod)
        if pod["metadata"].get("uid", "") != self._uid:
            raise CommandError(f'pod "{self._pod}" was replaced')
        self._phase = pod.get("status", {}).get("phase", "")
        for each in pod.get("status", {}).get("ephemeralContainerStatuses", []):
            if each["name"] == self._name:
                return dict(each.get("state", {}))
        return {}

    def _show_log(self) -> None:
        """What one that has ended already has written."""
        ended = self._state().get("terminated", {})
        if not ended.get("containerID") or ended.get("reason") == "StartError":
            raise CommandError(f"container {self._name}: {ended.get('message') or ended.get('reason')}")
        for piece in self._client.logs(self._args.namespace, self._pod, self._name, {}):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    def _exit_code(self) -> int:
        """Its exit code; 0 if it goes on without us."""
        until = time.monotonic() + _EXIT_PATIENCE
        while time.monotonic() < until:
            state = self._state()
            if "terminated" in state:
                return int(state["terminated"].get("exitCode", 1))
            time.sleep(_LOOK)
        return 0

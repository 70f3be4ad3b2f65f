"""``debug``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from minikubelet.base.errors import NodeError
from minikubelet.cli import debug_copy, node_folder, options
from minikubelet.cli.api_client import ApiClient, full_name
from minikubelet.cli.commands.apply import noticed
from minikubelet.cli.commands.exec import CommandParser
from minikubelet.cli.commands.logs import one_pod
from minikubelet.cli.debug_container import PROFILES, make_container, make_name, pairs, profile_warning
from minikubelet.cli.live_pods import LivePods
from minikubelet.cli.manifest_check import check_manifest
from minikubelet.cli.manifest_files import Folder
from minikubelet.cli.options import CommandError
from minikubelet.cli.stream_path import Target
from minikubelet.images.reference import parse_reference

Json = dict[str, Any]

_LOOK = 0.1
"""Seconds between two looks at the new container."""
_EXIT_PATIENCE = 5.0
"""Seconds that the exit code may take after the streams have ended."""
_NOTICE_PATIENCE = 30.0
"""Seconds that a kubelet may take to know a pod whose manifest is new; it takes some milliseconds."""

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

# A copy of the pod with a container more that sees the others' processes; or with another command
minikubelet debug -it web --image=busybox --copy-to=web-debug
minikubelet debug -it web --copy-to=web-debug --container=server -- sh

# A copy with other images
minikubelet debug web --copy-to=web-debug --set-image=*=busybox
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Start a container more in a running pod, to look into it (an ephemeral container).\n"
        "It is never restarted, and stays in the pod's list until the pod goes.\n"
        "With --copy-to, put a copy of the pod beside it that has one more, or that is changed."
    )
    usage = "POD (--image=IMAGE | --copy-to=NAME ...) [-it] [-- COMMAND [ARG...]]"
    made = CommandParser("debug", description, usage, _EXAMPLES)
    made.set_defaults(manifests="")  # the running node's
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
    made.add_argument("--custom", metavar="FILE", default="", help="more fields for the container")
    debug_copy.add_options(made)
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if args.pod.partition("/")[0] in ("node", "nodes", "no"):
        raise CommandError("the node is this machine: look around in it without a container", usage=True)
    _check(args)
    if args.tty and not sys.stdin.isatty():
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        args.tty = False
    attach = args.stdin if args.attach is None else args.attach
    debugging = _Debugging(args)
    if args.copy_to:
        if not debugging.copy() or not attach:
            return 0
        debugging.turn_to_copy()
    else:
        debugging.create()
    return debugging.attach() if attach else 0


def _check(args: argparse.Namespace) -> None:
    """Raises CommandError for options that don't go together."""
    if args.attach and not args.image and not args.container:
        why = "you must specify --container or create a new container using --image in order to attach."
        raise CommandError(why, usage=True)
    debug_copy.check_options(args)
    if args.tty and not args.stdin:
        raise CommandError("-i is needed with -t", usage=True)
    if args.stdin and args.attach is False:
        raise CommandError("--no-attach leaves nobody to give input: not with -i", usage=True)
    if args.arguments_only and not args.command:
        raise CommandError("--arguments-only needs arguments, after --", usage=True)
    pairs(args.env, "--env")
    images = [args.image, *(image for _, image in pairs(args.set_image, "--set-image"))]
    for image in filter(None, images):
        try:
            parse_reference(image)
        except NodeError as exc:
            raise CommandError(f'invalid image name "{image}": {exc}', usage=True) from None


class _Debugging:
    """One container, from its making to its end."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._socket = options.kubelet_socket(args)
        self._client = ApiClient(self._socket)
        pod = one_pod(self._client, args.namespace, args.pod)
        self._whole = pod
        self._pod, self._uid = str(pod["metadata"]["name"]), pod["metadata"].get("uid", "")
        self._name = args.container or ""
        self._phase = ""
        self._last_end: Json = {}

    def _say(self, text: str) -> None:
        if not self._args.quiet:
            print(text, file=sys.stderr)

    def _say_name(self) -> None:
        if not self._args.container:
            self._say(f"Defaulting debug container name to {self._name}.")

    def _warn(self, container: Json, pod: Json) -> None:
        if warning := profile_warning(container, pod):
            print(f"Warning: {warning}", file=sys.stderr)

    def create(self) -> None:
        """Ask the kubelet for an ephemeral container."""
        self._name = self._name or make_name(self._whole)
        container = make_container(self._args, self._name)
        self._say_name()
        if self._args.target:
            self._say(f'Targeting container "{self._args.target}".')
        self._warn(container, self._whole)
        self._client.add_ephemeral(self._args.namespace, self._pod, json.dumps(container).encode())

    def copy(self) -> bool:
        """Put a copy of the pod into the node's folder; whether there is a container in it to look at."""
        args = self._args
        piece, self._name = debug_copy.make_copy(args, self._whole)
        if wrong := [each for each in check_manifest(piece.text.encode(), "") if each.level == "error"]:
            said = "; ".join(f"{each.field}: {each.message}" for each in wrong)
            raise CommandError(f"the copy would be wrong: {said}")
        folder = node_folder.open_folder(args)
        others = [pod for pod in self._client.pods() if pod["metadata"].get("namespace") == args.namespace]
        names = {pod["metadata"]["name"] for pod in others}
        if folder.find(piece.key) is not None or full_name(others, args.copy_to) in names:
            raise CommandError(f'pods "{args.copy_to}" already exists')
        if self._name:
            self._say_name()
            self._warn(
                next(each for each in debug_copy.containers(piece.data) if each["name"] == self._name),
                piece.data,
            )
        if args.replace:
            self._remove(folder)
        elif ports := debug_copy.host_ports(piece.data):
            print(
                f"Warning: only one of the pods can have port {min(ports)[1]} of this machine: see --replace",
                file=sys.stderr,
            )
        with noticed(args) as changed:
            folder.put(piece)
            changed.append(piece.key)
        return bool(self._name)

    def turn_to_copy(self) -> None:
        """Go on with the copy, once the kubelet has it."""
        live = LivePods(self._client, time.monotonic() + _NOTICE_PATIENCE)
        live.until(lambda: live.find(self._args.namespace, self._args.copy_to) is not None)
        pod = self._client.find_pod(self._args.namespace, self._args.copy_to)
        self._pod, self._uid = str(pod["metadata"]["name"]), pod["metadata"].get("uid", "")

    def _remove(self, folder: Folder) -> None:
        """Take the pod's manifest out of the folder, and wait until it has stopped.

        The copy may need what the pod has, such as a port of the machine.
        """
        keys = [key for key in folder.every() if key.kind == "Pod" and key.namespace == self._args.namespace]
        own = [key for key in keys if full_name([self._whole], key.name) == self._pod]
        if not own:
            raise CommandError(f'pod "{self._pod}" is not from the manifest folder: it can\'t be replaced')
        self._say(f"Waiting for pod {self._pod} to stop.")
        folder.remove(own)
        live = LivePods(self._client, None)
        live.until(lambda: not live.has(self._whole))

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
        for kind in ("ephemeralContainerStatuses", "containerStatuses", "initContainerStatuses"):
            for each in pod.get("status", {}).get(kind, []):
                if each["name"] == self._name:
                    self._last_end = each.get("lastState", {}).get("terminated", {})
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
        """Its exit code, also if it has been started again since; 0 if it goes on without us."""
        before = self._last_end
        until = time.monotonic() + _EXIT_PATIENCE
        while time.monotonic() < until:
            state = self._state()
            if "terminated" in state:
                return int(state["terminated"].get("exitCode", 1))
            if self._last_end != before:
                return int(self._last_end.get("exitCode", 1))
            time.sleep(_LOOK)
        return 0

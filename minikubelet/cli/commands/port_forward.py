"""``port-forward``."""

from __future__ import annotations

import argparse
import asyncio

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient, Json
from minikubelet.cli.commands.logs import one_pod
from minikubelet.cli.options import CommandError
from minikubelet.cli.stream_path import Target

_EXAMPLES = """
# Port 8080 of this machine to port 80 of the pod
minikubelet port-forward web 8080:80

# Any free port to the container port named "http"
minikubelet port-forward web :http
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = "Forward local ports to ports of a pod, until Ctrl-C."
    made = options.Parser("port-forward", description, "POD [LOCAL:]REMOTE... [options]", _EXAMPLES)
    made.add_argument("pod", metavar="POD")
    made.add_argument(
        "ports", metavar="[LOCAL:]REMOTE", nargs="+", help="numbers; REMOTE may be a port's name"
    )
    made.add_argument(
        "--address", metavar="IP,…", default="localhost", help="where to listen (default: 127.0.0.1 and ::1)"
    )
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    socket = options.kubelet_socket(args)
    pod = one_pod(ApiClient(socket), args.namespace, args.pod)
    if pod.get("status", {}).get("phase") != "Running":
        phase = pod.get("status", {}).get("phase", "Unknown")
        raise CommandError(f"unable to forward port because pod is not running. Current status={phase}")
    pairs = [_pair(text, pod) for text in args.ports]
    addresses = [word.strip() for word in args.address.split(",") if word.strip()]
    from minikubelet.cli.port_forwarder import Forwarder

    path = Target(args.namespace, pod["metadata"]["name"]).path("portForward")
    asyncio.run(Forwarder(socket, path, addresses, pairs).run())
    return 0


def _pair(text: str, pod: Json) -> tuple[int, int]:
    """Local (0: any) and remote port. Raises CommandError."""
    local, colon, remote = text.rpartition(":")
    target = _remote(remote, pod)
    if not colon:
        return target, target
    return (_number(local, text) if local else 0), target


def _remote(word: str, pod: Json) -> int:
    if word.isascii() and word.isdigit():
        return _number(word, word)
    for container in pod["spec"].get("containers", []):
        for port in container.get("ports", []):
            if port.get("name") == word:
                return int(port["containerPort"])
    raise CommandError(f"pod {pod['metadata']['name']} has no port named {word!r}")


def _number(word: str, shown: str) -> int:
    if not (word.isascii() and word.isdigit()) or not 0 < int(word[:6]) < 65536:
        raise CommandError(f"{shown!r}: ports are numbers from 1 to 65535", usage=True)
    return int(word)

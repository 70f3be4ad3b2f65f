"""``explain``."""

from __future__ import annotations

import argparse
import time

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient, Json
from minikubelet.cli.commands.get import pod_names
from minikubelet.cli.explain import LogTail, explain, render
from minikubelet.cli.options import CommandError

_EXAMPLES = """
# Why a pod is not Ready, and what to do about it
minikubelet explain pod web
"""
_LINES = 5


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = "Say in plain words why a pod is not Ready and what can be done; exit code 1 if it is not."
    made = options.Parser("explain", description, "pod NAME [options]", _EXAMPLES)
    made.add_argument("kind", metavar="pod", help="pod, or pod/NAME")
    made.add_argument("names", metavar="NAME", nargs="*")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    names = pod_names(args.kind, args.names)
    if len(names) != 1:
        raise CommandError("name one pod: explain pod NAME", usage=True)
    client = ApiClient(options.kubelet_socket(args))
    pod = client.find_pod(args.namespace, names[0])
    events = client.events(pod["metadata"].get("uid", ""))
    headline, findings = explain(pod, events, _log_tail(client, pod), time.time())
    print(render(headline, findings), end="")
    return 0 if _is_well(pod) else 1


def _is_well(pod: Json) -> bool:
    status = pod.get("status", {})
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))
    return bool(ready or status.get("phase") == "Succeeded")


def _log_tail(client: ApiClient, pod: Json) -> LogTail:
    def tail(container: str, previous: bool) -> list[str]:
        query = {"tailLines": str(_LINES), "limitBytes": "4096", "previous": "1" if previous else ""}
        meta = pod["metadata"]
        try:
            whole = b"".join(client.logs(meta["namespace"], meta["name"], container, query))
        except CommandError:  # no log is no reason to say nothing
            return []
        return whole.decode("utf-8", "replace").splitlines()

    return tail

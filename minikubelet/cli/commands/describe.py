"""``describe pod``."""

from __future__ import annotations

import argparse
import sys
import time

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient, full_name, not_found
from minikubelet.cli.commands.get import pod_names
from minikubelet.cli.describe_pod import describe

_EXAMPLES = """
# Everything about a pod, its events included
minikubelet describe pod web

# All pods of a namespace
minikubelet describe pods -n kube-system
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser("describe", "Show the details of a pod.", "pod [NAME...] [options]", _EXAMPLES)
    made.add_argument("kind", metavar="pod", help="what to describe; pod/NAME works too")
    made.add_argument("names", metavar="NAME", nargs="*", help="default: all of the namespace")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    names = pod_names(args.kind, args.names)
    client = ApiClient(options.kubelet_socket(args))
    pods = [pod for pod in client.pods() if pod["metadata"].get("namespace") == args.namespace]
    if names:
        names = [full_name(pods, name) for name in names]
        chosen = [pod for name in names for pod in pods if pod["metadata"]["name"] == name]
    else:
        chosen = pods
        if not pods:
            print(f"No resources found in {args.namespace} namespace.", file=sys.stderr)
    texts = [describe(pod, client.events(pod["metadata"].get("uid", "")), time.time()) for pod in chosen]
    print("\n\n".join(texts), end="")
    missing = [name for name in names if name not in {pod["metadata"]["name"] for pod in chosen}]
    for name in missing:
        print(f"error: {not_found(name)}", file=sys.stderr)
    return 1 if missing else 0

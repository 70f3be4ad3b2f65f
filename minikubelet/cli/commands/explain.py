"""``explain``."""

from __future__ import annotations

import argparse
import os
import time

from minikubelet.cli import manifest_files, node_folder, options
from minikubelet.cli.api_client import ApiClient, Json
from minikubelet.cli.explain import Finding, LogTail, explain, render
from minikubelet.cli.manifest_check import check_manifest
from minikubelet.cli.options import CommandError
from minikubelet.cli.targets import pod_names
from minikubelet.kubelet.manifests.errors import ManifestError

_EXAMPLES = """
# Why a pod is not Ready, and what to do about it
minikubelet explain pod web

# Also of a pod that the node doesn't take: what is wrong with its manifest
minikubelet explain pod/wrong
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
    try:
        pod = client.find_pod(args.namespace, names[0])
    except CommandError:
        headline, findings = _unused(client, args.namespace, names[0])
        if not findings:
            raise
        print(render(headline, findings), end="")
        return 1
    events = client.events(pod["metadata"].get("uid", ""))
    headline, findings = explain(pod, events, _log_tail(client, pod), time.time())
    print(render(headline, findings), end="")
    return 0 if _is_well(pod) else 1


def _unused(client: ApiClient, namespace: str, name: str) -> tuple[str, list[Finding]]:
    """Why the node doesn't take a pod from the manifests of its folder that name it; nothing if none does."""
    findings = []
    for file in _manifests(client):
        text = node_folder.read(file)
        if name.encode() in text and _may_hold(text, file, namespace, name):
            wrong = [str(each) for each in check_manifest(text, file) if each.level == "error"]
            todo = "Correct it; the node takes the pod up by itself."
            if wrong:
                findings.append(Finding("its manifest can't be used", wrong, [], [todo]))
    return f"Pod {name} is not on this node.", findings


def _manifests(client: ApiClient) -> list[str]:
    """The files that the kubelet reads, if it tells and this process may look."""
    try:
        path = client.config().get("staticPodPath", "")
        if not path or os.path.isfile(path):
            return [path] if path else []
        found = [os.path.join(path, each) for each in sorted(os.listdir(path)) if not each.startswith(".")]
    except (CommandError, OSError):
        return []
    return [each for each in found if os.path.isfile(each)]


def _may_hold(text: bytes, file: str, namespace: str, name: str) -> bool:
    """Whether a file has an object of that name, or can't be read, so that nobody knows."""
    try:
        keys = [piece.key for piece in manifest_files.read_pieces(text, file)]
    except (ManifestError, UnicodeDecodeError):
        return True
    return any((key.namespace, key.name) == (namespace, name) for key in keys)


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

"""The ephemeral container that ``debug`` asks for: kubectl's options and profiles as core/v1."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from minikubelet.cli.options import CommandError

Json = dict[str, Any]

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Without vowels, as Kubernetes' random names: they spell no words."""
PROFILES: dict[str, Json] = {
    "general": {"capabilities": {"add": ["SYS_PTRACE"]}},
    "baseline": {},
    "restricted": {
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "netadmin": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    "sysadmin": {"privileged": True},
}
"""Security contexts by the name of kubectl's profile."""


def make_name(pod: Json) -> str:
    """``debugger-XXXXX``, which no container of the pod has."""
    kinds = ("containers", "initContainers", "ephemeralContainers")
    taken = {each["name"] for kind in kinds for each in pod["spec"].get(kind, [])}
    while True:
        name = "debugger-" + "".join(secrets.choice(_LETTERS) for _ in range(5))
        if name not in taken:
            return name


def make_container(args: argparse.Namespace, name: str) -> Json:
    """The container. Raises CommandError."""
    container: Json = {"name": name, "image": args.image, "terminationMessagePolicy": "File"}
    if args.image_pull_policy:
        container["imagePullPolicy"] = args.image_pull_policy
    if args.target:
        container["targetContainerName"] = args.target
    if args.command:
        container["args" if args.arguments_only else "command"] = list(args.command)
    if args.env:
        container["env"] = [_variable(each) for each in args.env]
    if args.stdin:
        container["stdin"] = True
        # The end of what is piped in is the end of its input; a terminal can be attached to again.
        container["stdinOnce"] = not args.tty
    if args.tty:
        container["tty"] = True
    if context := PROFILES[args.profile]:
        container["securityContext"] = context
    return container


def _variable(text: str) -> Json:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CommandError(f"--env {text!r}: expected NAME=VALUE", usage=True)
    return {"name": name, "value": value}

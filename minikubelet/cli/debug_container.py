"""The ephemeral container that ``debug`` asks for: kubectl's options and profiles as core/v1."""

from __future__ import annotations

import argparse
import copy
import csv
import secrets
from collections.abc import Sequence
from typing import Any

from minikubelet.cli.options import CommandError
from minikubelet.kubelet.manifests.yaml_reader import MAX_BYTES, read_yaml

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
_FIXED = {"name", "command", "image", "lifecycle", "volumeDevices"}
_MERGE_KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath"}
"""What tells the items of a container's lists apart (core/v1's patchMergeKey)."""


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
    if args.target:
        container["targetContainerName"] = args.target
    change_container(container, args)
    apply_profile(container, args)
    return container


def change_container(container: Json, args: argparse.Namespace) -> None:
    """What the options say of a container, new or there already. Raises CommandError."""
    if args.image:
        container["image"] = args.image
    if args.image_pull_policy:
        container["imagePullPolicy"] = args.image_pull_policy
    if args.command and args.arguments_only:
        container["args"] = list(args.command)
    elif args.command:
        container["command"] = list(args.command)
        container.pop("args", None)
    if args.env:
        container["env"] = [{"name": name, "value": value} for name, value in pairs(args.env, "--env")]
    for field in ("stdin", "stdinOnce", "tty"):
        container.pop(field, None)
    if args.stdin:
        container["stdin"] = True
        # The end of what is piped in is the end of its input; a terminal can be attached to again.
        container["stdinOnce"] = not args.tty
    if args.tty:
        container["tty"] = True


def apply_profile(container: Json, args: argparse.Namespace) -> None:
    """Give it the rights of ``--profile``, and what ``--custom`` says. Raises CommandError, OSError."""
    if args.profile in ("baseline", "restricted"):
        container.pop("securityContext", None)
    wanted = copy.deepcopy(PROFILES[args.profile])
    if wanted:
        context = container.setdefault("securityContext", {})
        for kind, names in wanted.pop("capabilities", {}).items():
            known = context.setdefault("capabilities", {}).setdefault(kind, [])
            known += [name for name in names if name not in known]
        context.update(wanted)
    if args.custom:
        _merge(container, _custom(args.custom))


def _custom(path: str) -> Json:
    """A file with some fields of a container. Raises CommandError, OSError."""
    with open(path, "rb") as file:
        documents = [each.data for each in read_yaml(file.read(MAX_BYTES + 1))]
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise CommandError(f"{path} does not contain a valid container spec: it must be one mapping")
    if documents[0].keys() & _FIXED:
        why = "name, command, image, lifecycle and volume devices are not modifiable via custom profile"
        raise CommandError(f"{path}: {why}")
    return documents[0]


def _merge(fields: Json, more: Json) -> None:
    """As kubectl merges: maps key by key, lists of what has a name item by item, other lists as a whole."""
    for name, value in more.items():
        known: Any = fields.get(name)
        if value is None:
            continue
        if isinstance(value, dict) and isinstance(known, dict):
            _merge(known, value)
        elif (key := _MERGE_KEYS.get(name)) and _have(known, key) and _have(value, key):
            fields[name] = _merge_items(known, value, key)
        else:
            fields[name] = value


def _merge_items(known: list[Any], more: list[Any], key: str) -> list[Any]:
    """New items before those they come before in ``more``; those that were there keep their order."""
    places = {each[key]: place for place, each in enumerate(known)}
    rest = [each for each in known if each[key] not in {item[key] for item in more}]
    merged = []
    for item in more:
        place = places.get(item[key])
        if place is not None:
            while rest and places[rest[0][key]] < place:
                merged.append(rest.pop(0))
            _merge(known[place], item)
        merged.append(item if place is None else known[place])
    return merged + rest


def _have(items: Any, key: str) -> bool:
    return isinstance(items, list) and all(isinstance(each, dict) and key in each for each in items)


def pairs(words: Sequence[str], option: str) -> list[tuple[str, str]]:
    """``NAME=VALUE`` or ``NAME=VALUE,NAME=VALUE`` of an option that may be repeated. Raises CommandError."""
    found: dict[str, str] = {}
    for word in words:
        for part in [word] if word.count("=") < 2 else next(csv.reader([word])):
            name, equals, value = part.partition("=")
            if not name or not equals:
                raise CommandError(f"{option} {word!r}: expected NAME=VALUE", usage=True)
            found[name] = value
    return list(found.items())


def profile_warning(container: Json, pod: Json) -> str:
    """Why rights that a profile gives may not work; "" if they do."""
    own, whole = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    given = own.get("privileged") or (own.get("capabilities") or {}).get("add")
    if not whole.get("runAsUser") or own.get("runAsUser") == 0 or not given:
        return ""
    return (
        "Non-root user is configured for the entire target Pod, and some capabilities granted by debug "
        'profile may not work. Please consider using "--custom" with a custom profile that specifies '
        '"securityContext.runAsUser: 0".'
    )

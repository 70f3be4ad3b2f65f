"""What pods refer to, as rows of ``get``: kubectl's columns, less those that only a cluster can fill."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minikubelet.cli import selectors
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import Table

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of objects, and how it is listed."""

    name: str
    words: tuple[str, ...]
    """What it is called on the command line, plural first."""
    columns: tuple[str, ...]
    cells: Callable[[Json], list[str]]
    namespaced: bool = True


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _count(each: Json) -> str:
    return str(len(each.get("data", {})) + len(each.get("binaryData", {})))


def _modes(spec: Json) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in spec.get("accessModes", []))


def _claim(each: Json) -> list[str]:
    spec = each.get("spec", {})
    asked = spec.get("resources", {}).get("requests", {}).get("storage", "")
    return [spec.get("volumeName", ""), str(asked), _modes(spec), spec.get("storageClassName") or ""]


def _volume(each: Json) -> list[str]:
    spec = each.get("spec", {})
    claim = spec.get("claimRef") or {}
    bound = f"{claim.get('namespace') or 'default'}/{claim['name']}" if claim.get("name") else ""
    return [str(spec.get("capacity", {}).get("storage", "")), _modes(spec), bound]


KINDS = (
    Kind("ConfigMap", ("configmaps", "configmap", "cm"), ("DATA",), lambda each: [_count(each)]),
    Kind(
        "Secret",
        ("secrets", "secret"),
        ("TYPE", "DATA"),
        lambda each: [each.get("type", "Opaque"), _count(each)],
    ),
    Kind(
        "PersistentVolumeClaim",
        ("persistentvolumeclaims", "persistentvolumeclaim", "pvc"),
        ("VOLUME", "REQUEST", "ACCESS MODES", "STORAGECLASS"),
        _claim,
    ),
    Kind(
        "PersistentVolume",
        ("persistentvolumes", "persistentvolume", "pv"),
        ("CAPACITY", "ACCESS MODES", "CLAIM"),
        _volume,
        namespaced=False,
    ),
    Kind(
        "RuntimeClass",
        ("runtimeclasses", "runtimeclass"),
        ("HANDLER",),
        lambda each: [each.get("handler", "")],
        namespaced=False,
    ),
)


def find_kind(word: str) -> Kind | None:
    """The kind that is called so, in any case."""
    return next((kind for kind in KINDS if word.lower() in kind.words), None)


@dataclass(frozen=True)
class Wish:
    """Which objects, and in which form."""

    kind: Kind
    names: list[str]
    namespace: str
    """Empty: all."""
    selector: str = ""
    output: str = ""
    headers: bool = True


def show(wish: Wish, objects: list[Json]) -> int:
    """Print them; the exit code."""
    kind, selected = wish.kind, selectors.parse(wish.selector)
    here = [
        each
        for each in sorted(objects, key=lambda each: (_namespace(each), each["metadata"]["name"]))
        if each["kind"] == kind.name
        and (not kind.namespaced or wish.namespace in ("", _namespace(each)))
        and selected(each["metadata"].get("labels", {}))
    ]
    by_name = {each["metadata"]["name"]: each for each in here}
    found = [by_name[name] for name in wish.names if name in by_name] if wish.names else here
    _print(wish, found)
    for name in (missing := [name for name in wish.names if name not in by_name]):
        print(f'error: {kind.words[0]} "{name}" not found', file=sys.stderr)
    return 1 if missing else 0


def _namespace(each: Json) -> str:
    return str(each["metadata"].get("namespace", ""))


def _print(wish: Wish, found: list[Json]) -> None:
    kind = wish.kind
    if wish.output in ("json", "yaml"):
        listed = {"apiVersion": "v1", "items": found, "kind": "List", "metadata": {}}
        dump(found[0] if len(wish.names) == 1 and found else listed, wish.output)
    elif wish.output == "name":
        print("".join(f"{kind.name.lower()}/{each['metadata']['name']}\n" for each in found), end="")
    elif found:
        prefix = ["NAMESPACE"] if kind.namespaced and not wish.namespace else []
        rows = [
            [*([_namespace(each)] if prefix else []), each["metadata"]["name"], *kind.cells(each)]
            for each in found
        ]
        print(Table([*prefix, "NAME", *kind.columns]).render(rows, header=wish.headers), end="")
    elif not wish.names:
        where = f" in {wish.namespace} namespace" if wish.namespace and kind.namespaced else ""
        print(f"No resources found{where}.", file=sys.stderr)


def dump(data: Any, form: str) -> None:
    """Print as ``json`` or ``yaml``."""
    if form == "json":
        print(json.dumps(data, indent=4))
        return
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    print(yaml.dump(data, Dumper=dumper, sort_keys=True, default_flow_style=False), end="")


def wish_from(kind: Kind, names: list[str], options: Any) -> Wish:
    """From what ``get`` was given. Raises CommandError."""
    if options.watch:
        raise CommandError(f"--watch is for pods and events, not for {kind.words[0]}", usage=True)
    namespace = "" if options.all_namespaces else options.namespace
    if names and kind.namespaced and not namespace:
        raise CommandError("an object can't be named together with --all-namespaces", usage=True)
    output = options.output if options.output != "wide" else ""
    return Wish(kind, names, namespace, options.selector, output or "", not options.no_headers)

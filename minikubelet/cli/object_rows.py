"""What pods refer to, as rows of ``get``: kubectl's columns, less those that only a cluster can fill."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minikubelet.cli import output, selectors
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


def choose(kind: Kind, objects: list[Json], args: argparse.Namespace) -> list[Json]:
    """Those of a kind that options pick, by namespace and name. Raises CommandError."""
    selected = selectors.parse(args.selector)
    fits = selectors.parse_fields(args.field_selector, ("type",) if kind.name == "Secret" else ())
    return [
        each
        for each in sorted(objects, key=lambda each: (_namespace(each), each["metadata"]["name"]))
        if each["kind"] == kind.name
        and (not kind.namespaced or args.all_namespaces or args.namespace == _namespace(each))
        and selected(each["metadata"].get("labels", {}))
        and fits(each)
    ]


def _namespace(each: Json) -> str:
    return str(each["metadata"].get("namespace", ""))


def table(kind: Kind, found: list[Json], args: argparse.Namespace, *, prefix: str = "") -> str:
    """Their rows; ``prefix`` stands before each name."""
    first = ["NAMESPACE"] if kind.namespaced and args.all_namespaces else []
    rows = [
        [
            *([_namespace(each)] if first else []),
            prefix + each["metadata"]["name"],
            *kind.cells(each),
            *output.label_cells(each, args),
        ]
        for each in found
    ]
    headers = [*first, "NAME", *kind.columns, *output.label_headers(args)]
    return Table(headers).render(rows, header=not args.no_headers)

"""The node and what pods refer to, as rows of ``get``: kubectl's columns, less those that need a cluster."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minikubelet.cli import output, selectors
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.text import Table, age

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
    wide: tuple[str, ...] = ()
    """The columns of ``-o wide`` alone, whose cells come last."""


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _count(each: Json) -> str:
    return str(len(each.get("data", {})) + len(each.get("binaryData", {})))


def access_modes(spec: Json) -> str:
    """Those of a claim or a volume, in short."""
    return ",".join(_MODES.get(mode, mode) for mode in spec.get("accessModes", []))


def _claim(each: Json) -> list[str]:
    spec = each.get("spec", {})
    asked = spec.get("resources", {}).get("requests", {}).get("storage", "")
    return [spec.get("volumeName", ""), str(asked), access_modes(spec), spec.get("storageClassName") or ""]


def _volume(each: Json) -> list[str]:
    spec = each.get("spec", {})
    claim = spec.get("claimRef") or {}
    bound = f"{claim.get('namespace') or 'default'}/{claim['name']}" if claim.get("name") else ""
    return [str(spec.get("capacity", {}).get("storage", "")), access_modes(spec), bound]


_ROLE = "node-role.kubernetes.io/"


def _node(each: Json) -> list[str]:
    meta, status = each["metadata"], each.get("status", {})
    ready = next((c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"), "Unknown")
    info = status.get("nodeInfo", {})
    addresses = status.get("addresses", [])
    return [
        {"True": "Ready", "False": "NotReady"}.get(ready, "Unknown"),
        roles(each),
        age(meta.get("creationTimestamp"), time.time()),
        info.get("kubeletVersion", ""),
        *(
            next((a["address"] for a in addresses if a["type"] == kind), "<none>")
            for kind in ("InternalIP", "ExternalIP")
        ),
        *(info.get(name) or "<unknown>" for name in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    ]


def roles(node: Json) -> str:
    """What labels say a node is there for."""
    labels = node["metadata"].get("labels", {})
    found = sorted(label.removeprefix(_ROLE) for label in labels if label.startswith(_ROLE))
    return ",".join(found) or "<none>"


NODE = Kind(
    "Node",
    ("nodes", "node", "no"),
    ("STATUS", "ROLES", "AGE", "VERSION"),
    _node,
    namespaced=False,
    wide=("INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"),
)
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


"""What pods refer to."""


def find_kind(word: str) -> Kind | None:
    """The kind that is called so, in any case; pods have no part in this."""
    return next((kind for kind in (NODE, *KINDS) if word.lower() in kind.words), None)


def objects(client: ApiClient, kinds: Sequence[Kind | None], *, sizes: bool = False) -> list[Json]:
    """What the node has of these kinds at least, but for pods. Raises CommandError."""
    found = [client.node()] if NODE in kinds else []
    return found + (client.objects(sizes=sizes) if any(kind in KINDS for kind in kinds) else [])


def fields(kind: Kind) -> Sequence[str]:
    """The fields beside names that objects of the kind are selected by, as an API server does."""
    return ("type",) if kind.name == "Secret" else ()


def choose(kind: Kind, objects: list[Json], args: argparse.Namespace) -> list[Json]:
    """Those of a kind that options pick, by namespace and name. Raises CommandError."""
    selected = selectors.parse(args.selector)
    fits = selectors.parse_fields(args.field_selector, fields(kind))
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
    columns = [*kind.columns, *(kind.wide if args.output == "wide" else ())]
    rows = [
        [
            *([_namespace(each)] if first else []),
            prefix + each["metadata"]["name"],
            *kind.cells(each)[: len(columns)],
            *output.label_cells(each, args),
        ]
        for each in found
    ]
    headers = [*first, "NAME", *columns, *output.label_headers(args)]
    return Table(headers).render(rows, header=not args.no_headers)

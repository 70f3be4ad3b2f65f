"""What pods refer to, described as kubectl does it, less what only a cluster knows."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from minikubelet.cli.describe_parts import head, multiline
from minikubelet.cli.object_rows import access_modes

Json = dict[str, Any]


def lines(each: Json, pods: list[Json]) -> list[str]:
    """Lines with tabs; ``pods`` are all of the node."""
    kind = each["kind"]
    if kind == "ConfigMap":
        return [*head(each), *_config_map(each)]
    if kind == "Secret":
        return [*head(each), *_secret(each)]
    if kind == "PersistentVolumeClaim":
        return _claim(each, pods)
    if kind == "PersistentVolume":
        return [*head(each, namespaced=False), *_volume(each)]
    return [*head(each), *_anything({name: value for name, value in each.items() if name != "metadata"}, "")]


def _config_map(each: Json) -> Iterator[str]:
    yield from ("", "Data", "====")
    for key, value in sorted(each.get("data", {}).items()):
        yield from (f"{key}:", "----", *value.split("\n"), "")
    yield from ("", "BinaryData", "====")
    for key, value in sorted(each.get("binaryData", {}).items()):
        yield f"{key}: {len(base64.b64decode(value))} bytes"
    yield ""


def _secret(each: Json) -> Iterator[str]:
    yield from ("", f"Type:\t{each.get('type') or 'Opaque'}", "", "Data", "====")
    for key, size in sorted(each.get("sizes", {}).items()):
        yield f"{key}:\t{size} bytes"


def _claim(each: Json, pods: list[Json]) -> list[str]:
    spec = each.get("spec", {})
    name, namespace, *notes = head(each)
    found = [
        *(name, namespace, f"StorageClass:\t{spec.get('storageClassName') or ''}"),
        *(f"Volume:\t{spec.get('volumeName', '')}", *notes),
        f"Request:\t{spec.get('resources', {}).get('requests', {}).get('storage', '')}",
        f"Access Modes:\t{access_modes(spec)}",
        f"VolumeMode:\t{spec.get('volumeMode') or 'Filesystem'}",
    ]
    users = [pod["metadata"]["name"] for pod in pods if _uses(pod, each["metadata"])]
    return [*found, *multiline("Used By", sorted(users))]


def _uses(pod: Json, claim: Json) -> bool:
    if pod["metadata"].get("namespace") != claim.get("namespace"):
        return False
    volumes = pod.get("spec", {}).get("volumes", [])
    return any((v.get("persistentVolumeClaim") or {}).get("claimName") == claim["name"] for v in volumes)


_SOURCES = {
    "hostPath": ("HostPath (bare host directory volume)", ("path", "type")),
    "local": ("LocalVolume (a persistent volume backed by local storage on a node)", ("path",)),
    "nfs": ("NFS (an NFS mount that lasts the lifetime of a pod)", ("server", "path", "readOnly")),
    "csi": (
        "CSI (a Container Storage Interface (CSI) volume source)",
        ("driver", "fsType", "volumeHandle", "readOnly"),
    ),
}
_TITLES = {"type": "HostPathType", "fsType": "FSType"}


def _volume(each: Json) -> Iterator[str]:
    spec = each.get("spec", {})
    claim = spec.get("claimRef") or {}
    yield f"StorageClass:\t{spec.get('storageClassName', '')}"
    yield (
        f"Claim:\t{claim.get('namespace') or 'default'}/{claim['name']}" if claim.get("name") else "Claim:\t"
    )
    yield f"Reclaim Policy:\t{spec.get('persistentVolumeReclaimPolicy') or 'Retain'}"
    yield f"Access Modes:\t{access_modes(spec)}"
    yield f"VolumeMode:\t{spec.get('volumeMode') or 'Filesystem'}"
    yield f"Capacity:\t{spec.get('capacity', {}).get('storage', '')}"
    yield from _node_affinity(spec.get("nodeAffinity") or {})
    yield "Source:"
    for name, (words, fields) in _SOURCES.items():
        if source := spec.get(name):
            yield f"    Type:\t{words}"
            for field in fields:
                title = _TITLES.get(field) or field[:1].upper() + field[1:]
                otherwise = "<none>" if field == "type" else False if field == "readOnly" else ""
                value = source.get(field) or otherwise
                yield f"    {title}:\t{str(value).lower() if isinstance(value, bool) else value}"


def _node_affinity(affinity: Json) -> Iterator[str]:
    required = affinity.get("required")
    if not required:
        yield "Node Affinity:\t<none>"
        return
    yield from ("Node Affinity:\t", "  Required Terms:\t")
    for index, term in enumerate(required.get("nodeSelectorTerms", [])):
        words = [_expression(each) for each in term.get("matchExpressions", [])]
        yield from (f"    {line}" for line in multiline(f"Term {index}", words))


def _expression(each: Json) -> str:
    values = f" [{', '.join(each['values'])}]" if each.get("values") else ""
    return f"{each['key']} {each['operator'].lower()}{values}"


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ACRONYMS = ("API", "URL", "UID", "GUID")


def _title(field: str) -> str:
    """``apiVersion`` as ``API Version``; what isn't letters only stays as it is."""
    if not field.replace("-", "").isalpha():
        return field
    words = (word.upper() if word.upper() in _ACRONYMS else word for word in _WORD.findall(field))
    return " ".join(word[:1].upper() + word[1:] for word in words)


def _anything(value: Json, indent: str) -> Iterator[str]:
    """An object of whatever kind, its fields in order, as kubectl describes what it doesn't know."""
    for field, content in sorted(value.items()):
        if isinstance(content, dict):
            yield f"{indent}{_title(field)}:"
            yield from _anything(content, f"{indent}  ")
        elif isinstance(content, list):
            yield f"{indent}{_title(field)}:"
            for each in content:
                inner = f"{indent}  "
                yield from _anything(each, inner) if isinstance(each, dict) else [f"{inner}{each}"]
        else:
            shown = str(content).lower() if isinstance(content, bool) else content
            yield f"{indent}{_title(field)}:\t{shown}"

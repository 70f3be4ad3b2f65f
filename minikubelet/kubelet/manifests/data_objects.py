"""ConfigMaps, Secrets, claims and volumes of a manifest: completed, checked, decoded.

Checks as in pkg/apis/core/validation. No message ever holds a value of a Secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

import msgspec

from minikubelet.kubelet.lookups import ConfigMapContent, SecretContent
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import Document, Path, dotted
from minikubelet.kubelet.objects.data import (
    ConfigMap,
    DataObject,
    PersistentVolume,
    PersistentVolumeClaim,
    RuntimeClass,
    Secret,
)
from minikubelet.kubelet.objects.quantity import parse

VALUES_LEFT_OUT = "minikubelet.io/values-left-out"
"""The annotation of Secrets as the API shows them."""
MAX_SIZE = 1 << 20
"""Bytes of all values of one ConfigMap or Secret, as upstream."""
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_KEY_RULE = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
_NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "kubernetes.io/dockerconfigjson": ((".dockerconfigjson",),),
    "kubernetes.io/dockercfg": ((".dockercfg",),),
    "kubernetes.io/basic-auth": (("username", "password"),),
    "kubernetes.io/ssh-auth": (("ssh-privatekey",),),
    "kubernetes.io/tls": (("tls.crt",), ("tls.key",)),
}
"""Keys that a Secret of a type has: one of each group."""


def complete(each: DataObject) -> None:
    """Fill what the manifest left out, in place."""
    if isinstance(each, PersistentVolume | RuntimeClass):
        each.metadata.namespace = ""
    else:
        each.metadata.namespace = each.metadata.namespace or "default"
    if isinstance(each, Secret):
        each.type = each.type or "Opaque"


def check(each: DataObject, document: Document) -> None:
    """Raises ManifestError with line and field for the first thing that is wrong."""
    for path, message in _problems(each):
        raise ManifestError(message, field=dotted(path), line=document.line(path))


def warnings(each: DataObject, document: Document) -> Iterator[ManifestError]:
    """Fields that have no effect on a node by itself."""
    if not isinstance(each, PersistentVolumeClaim):
        return
    for name, value in (
        ("storageClassName", each.spec.storage_class_name),
        ("selector", each.spec.selector),
        ("dataSource", each.spec.data_source),
        ("dataSourceRef", each.spec.data_source_ref),
        ("volumeAttributesClassName", each.spec.volume_attributes_class_name),
    ):
        if value:
            path: Path = ("spec", name)
            message = "has no effect on this node: claims are folders on its disk"
            yield ManifestError(message, field=dotted(path), line=document.line(path))


def config_map_content(each: ConfigMap) -> ConfigMapContent:
    """A checked ConfigMap's content."""
    return ConfigMapContent(each.data, {key: _decode(value) for key, value in each.binary_data.items()})


def secret_content(each: Secret) -> SecretContent:
    """A checked Secret's content; ``stringData`` goes over ``data``."""
    data = {key: _decode(value) for key, value in each.data.items()}
    data |= {key: value.encode() for key, value in each.string_data.items()}
    return SecretContent(each.type, data)


def _decode(text: str) -> bytes:
    """Base64 as Go's decoder takes it: line breaks are left out. Raises ValueError."""
    try:
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None


def _problems(each: DataObject) -> Iterator[tuple[Path, str]]:
    name = each.metadata.name
    if not name:
        yield ("metadata", "name"), "Required value"
    elif len(name) > 253 or not _NAME.match(name):
        yield ("metadata", "name"), f'Invalid value: "{name}": must be a lowercase RFC 1123 subdomain'
    if isinstance(each, ConfigMap):
        yield from _values({"data": each.data}, {"binaryData": each.binary_data})
        for key in each.data.keys() & each.binary_data.keys():
            yield ("data", key), f'Invalid value: "{key}": duplicate of key present in binaryData'
    elif isinstance(each, Secret):
        if VALUES_LEFT_OUT in each.metadata.annotations:
            yield (
                ("metadata", "annotations", VALUES_LEFT_OUT),
                "Forbidden: this is a Secret as it is shown, without its values: its manifest has them",
            )
        yield from _values({"stringData": each.string_data}, {"data": each.data})
        for group in _NEEDED.get(each.type, ()):
            if not any(key in each.data or key in each.string_data for key in group):
                yield ("data", group[0]), f"Required value: a Secret of type {each.type} has it"
        yield from _typed(each)
    elif isinstance(each, PersistentVolumeClaim):
        yield from _claim(each)
    elif isinstance(each, PersistentVolume):
        yield from _volume(each)


def _typed(each: Secret) -> Iterator[tuple[Path, str]]:
    """What the value of a type's key has to be; one that can't be decoded is told of elsewhere."""
    (key, *_), *_ = _NEEDED.get(each.type, (("",),))
    plain, encoded = each.string_data.get(key), each.data.get(key)
    if plain is None and encoded is None:
        return
    try:
        value = plain.encode() if plain is not None else _decode(encoded or "")
    except ValueError:
        return
    if key == "ssh-privatekey" and not value:
        yield ("data", key), f"Required value: a Secret of type {each.type} has it"
    if key.startswith(".docker") and not _is_json_object(value):
        yield ("data", key), "Invalid value: <secret contents redacted>: is no JSON object"


def _is_json_object(value: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(value), dict)
    except ValueError:
        return False


def _values(
    plain: Mapping[str, Mapping[str, str]], encoded: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[Path, str]]:
    total = 0
    for name, values in {**plain, **encoded}.items():
        for key, value in values.items():
            if not _KEY.match(key) or key == "." or key.startswith(".."):
                yield (name, key), f"Invalid value: {_KEY_RULE}"
            try:
                total += len(_decode(value) if name in encoded else value.encode())
            except ValueError as exc:
                yield (name, key), f"Invalid value: {exc}"
    if total > MAX_SIZE:
        yield (), f"Too long: must have at most {MAX_SIZE} bytes"


def _claim(each: PersistentVolumeClaim) -> Iterator[tuple[Path, str]]:
    if not each.spec.access_modes:
        yield ("spec", "accessModes"), "Required value: at least 1 access mode is required"
    requests = each.spec.resources.requests
    if "storage" not in requests:
        yield ("spec", "resources", "storage"), "Required value"
    else:
        try:
            good = parse(requests["storage"]) > 0
        except ValueError:
            good = False
        if not good:
            path: Path = ("spec", "resources", "requests", "storage")
            yield path, f'Invalid value: "{requests["storage"]}": must be a quantity greater than zero'
    if each.spec.volume_mode not in (None, "", "Filesystem"):
        yield ("spec", "volumeMode"), f'"{each.spec.volume_mode}" is not supported by this node'


def _volume(each: PersistentVolume) -> Iterator[tuple[Path, str]]:
    spec = each.spec
    given = [n for n in ("host_path", "local", "nfs", "csi") if getattr(spec, n) is not None]
    if len(given) != 1:
        yield ("spec",), "Required value: must specify exactly one volume type"
    elif given[0] in ("nfs", "csi"):
        yield ("spec", given[0]), "is not supported by this node (supported: hostPath, local)"
    else:
        source = spec.host_path or spec.local
        path = source.path if source is not None else ""
        field = "hostPath" if spec.host_path is not None else "local"
        if not path.startswith("/") or ".." in path.split("/"):
            yield ("spec", field, "path"), f"Invalid value: \"{path}\": must be an absolute path without '..'"
    if spec.volume_mode not in (None, "", "Filesystem"):
        yield ("spec", "volumeMode"), f'"{spec.volume_mode}" is not supported by this node'

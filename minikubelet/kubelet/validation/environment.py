"""Environment variables: names, and where their values come from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minikubelet.kubelet.environment import is_pod_field
from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Container
from minikubelet.kubelet.objects.containers import EnvVar, EnvVarSource, FileKeySelector
from minikubelet.kubelet.objects.quantity import canonical
from minikubelet.kubelet.objects.volumes import ObjectFieldSelector, ResourceFieldSelector
from minikubelet.kubelet.validation.checker import SUBDOMAIN, SUBDOMAIN_RULE, Checker
from minikubelet.kubelet.validation.scheduling import qualified

_RELAXED_NAME = re.compile(r"[\x20-<>-~]+\Z")
_NAME_RULE = (
    "a valid environment variable name must consist only of printable ASCII characters other than '='"
)
_NAMES = ("cpu", "ephemeral-storage", "memory")
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")
_RESOURCE = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)\Z")
_BYTES = tuple(f"1{suffix}" for suffix in ("", *"kMGTPE", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
"""Divisors as they are written: ``1024`` isn't among them, though ``1Ki`` is."""


def validate_environment(check: Checker, at: Path, container: Container, files: set[str]) -> None:
    """Check ``env`` and ``envFrom``; ``files`` are the volumes that may hold files of variables."""
    for index, variable in enumerate(container.env):
        _variable(check, (*at, "env", index), variable, files)
    for index, source in enumerate(container.env_from):
        path: Path = (*at, "envFrom", index)
        if source.prefix and not _RELAXED_NAME.match(source.prefix):
            check.invalid((*path, "prefix"), source.prefix, _NAME_RULE)
        given = [each for each in (source.config_map_ref, source.secret_ref) if each is not None]
        if len(given) != 1:
            check.add(path, "Invalid value: must specify exactly one of: `configMapRef` or `secretRef`")
        for each in given:
            name = "configMapRef" if each is source.config_map_ref else "secretRef"
            _object_name(check, (*path, name, "name"), each.name)


def _variable(check: Checker, path: Path, variable: EnvVar, files: set[str]) -> None:
    if check.required((*path, "name"), variable.name) and not _RELAXED_NAME.match(variable.name):
        check.invalid((*path, "name"), variable.name, _NAME_RULE)
    source = variable.value_from
    if source is None:
        return
    where: Path = (*path, "valueFrom")
    given = [name for name in source.__struct_fields__ if getattr(source, name) is not None]
    if len(given) != 1:
        check.add(where, "Invalid value: must specify exactly one source")
    if variable.value:
        check.add(where, "Invalid value: may not be specified when `value` is not empty")
    _source(check, where, source, files)


def _source(check: Checker, at: Path, source: EnvVarSource, files: set[str]) -> None:
    if source.field_ref is not None:
        validate_field_ref(check, (*at, "fieldRef"), source.field_ref, _FIELDS)
    if source.resource_field_ref is not None:
        validate_resource_field(check, (*at, "resourceFieldRef"), source.resource_field_ref)
    for name, key in (
        ("configMapKeyRef", source.config_map_key_ref),
        ("secretKeyRef", source.secret_key_ref),
    ):
        if key is not None:
            _object_name(check, (*at, name, "name"), key.name)
            if check.required((*at, name, "key"), key.key):
                validate_key(check, (*at, name, "key"), key.key)
    if source.file_key_ref is not None:
        _file_key(check, (*at, "fileKeyRef"), source.file_key_ref, files)


def validate_field_ref(check: Checker, at: Path, field: ObjectFieldSelector, fields: Sequence[str]) -> None:
    """Check a reference to one of the pod's ``fields``, or to a label or annotation."""
    if field.api_version not in ("", "v1"):
        check.invalid((*at, "apiVersion"), field.api_version, "unsupported pod version")
    path = field.field_path
    if not check.required((*at, "fieldPath"), path):
        return
    if "['" not in path or not is_pod_field(path):
        check.one_of((*at, "fieldPath"), path, fields)
        return
    kind, _, key = path.removesuffix("']").partition("['")
    qualified(check, (*at, "fieldPath"), key.lower() if kind == "metadata.annotations" else key)


def validate_resource_field(check: Checker, at: Path, field: ResourceFieldSelector) -> None:
    """Check a reference to a container's request or limit."""
    if not check.required((*at, "resource"), field.resource):
        return
    match = _RESOURCE.match(field.resource)
    if match is None:
        words = [f"{group}.{name}" for group in ("limits", "requests") for name in _NAMES]
        check.one_of((*at, "resource"), field.resource, words)
        return
    try:
        divisor = canonical(field.divisor or 0)
    except ValueError as exc:
        check.invalid((*at, "divisor"), field.divisor, str(exc))
        return
    allowed = ("1m", "1") if match[2] == "cpu" else _BYTES
    if divisor not in ("0", *allowed):
        values = "1m and 1" if match[2] == "cpu" else ", ".join(_BYTES)
        check.invalid((*at, "divisor"), field.divisor, f"only divisor's values {values} are supported")


def validate_key(check: Checker, at: Path, key: str) -> None:
    """Check for a key of a ConfigMap or Secret."""
    if not _KEY.match(key) or key.startswith("..") or key == ".":
        check.invalid(at, key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.'")


def _object_name(check: Checker, at: Path, name: str) -> None:
    if check.required(at, name) and (len(name) > 253 or not SUBDOMAIN.match(name)):
        check.invalid(at, name, SUBDOMAIN_RULE)


def _file_key(check: Checker, at: Path, source: FileKeySelector, files: set[str]) -> None:
    if check.required((*at, "key"), source.key) and not _RELAXED_NAME.match(source.key):
        check.invalid((*at, "key"), source.key, _NAME_RULE)
    if check.required((*at, "path"), source.path) and ".." in source.path.split("/"):
        check.invalid((*at, "path"), source.path, "must not contain '..'")
    if check.required((*at, "volumeName"), source.volume_name) and source.volume_name not in files:
        why = "there must be a volume of that name, of type emptyDir"
        check.invalid((*at, "volumeName"), source.volume_name, why)

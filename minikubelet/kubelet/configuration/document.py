"""KubeletConfiguration files: read, checked against the table, drop-ins merged over them (RFC 7396)."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.errors import NodeError, invalid
from minikubelet.kubelet.configuration.table import BY_PATH, PARENTS
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import Document, read_yaml

API_VERSION = "kubelet.config.k8s.io/v1beta1"
KIND = "KubeletConfiguration"
MAX_BYTES = 1 << 20
DROP_IN = ".conf"
_PATHS = (
    "staticPodPath",
    "authentication.x509.clientCAFile",
    "tlsCertFile",
    "tlsPrivateKeyFile",
    "resolvConf",
    "volumePluginDir",
    "podLogsDir",
)
"""Fields that name files. As upstream, relative ones are seen from the folder of the file that has them."""


@dataclass
class Settings:
    """What files and flags say: values by path of the table, and where each comes from."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    def set(self, path: str, value: Any, origin: str) -> None:
        """A later word replaces an earlier one."""
        self.values[path] = value
        self.origin[path] = origin

    def merge(self, other: Settings) -> None:
        """A JSON merge patch: mappings are merged key by key, null takes back, all else is replaced."""
        for path, value in other.values.items():
            if value is None:
                self.values.pop(path, None)
                self.origin.pop(path, None)
            else:
                self.set(path, merged(self.values.get(path), value), other.origin[path])


def merged(old: Any, new: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(new, dict):
        return new
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def read_file(path: str) -> Settings:
    """One file's settings. Raises OSError, and NodeError INVALID_ARGUMENT naming file, line and field."""
    return _checked(only_document(path, KIND), path)


def only_document(path: str, kind: str) -> Document:
    """The one document that a configuration file holds, a mapping. Raises as :func:`read_file`."""
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise invalid(path, f"larger than {MAX_BYTES} bytes")
    try:
        documents = list(read_yaml(data))
    except ManifestError as exc:
        raise invalid(f"{path}:{exc.line}" if exc.line else path, exc.message) from None
    if len(documents) != 1:
        raise invalid(path, f"must hold one {kind}, holds {len(documents)} documents")
    if not isinstance(documents[0].data, dict):
        raise invalid(path, f"expected a mapping, the fields of a {kind}")
    return documents[0]


def read_folder(folder: str) -> list[Settings]:
    """The drop-ins: files ``*.conf`` of the folder and the folders in it, in lexical order of their paths.

    Raises as :func:`read_file`.
    """
    found = []

    def walk(path: str) -> None:
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.is_dir(follow_symlinks=False):
                    walk(entry.path)
                elif entry.name.endswith(DROP_IN):
                    found.append(read_file(entry.path))

    walk(folder)
    return found


def is_kubelet_configuration(path: str) -> bool:
    """Whether a file says of itself that it is one. False where it can't be read: others tell why."""
    try:
        with open(path, "rb") as file:
            documents = list(read_yaml(file.read(MAX_BYTES)))
    except (OSError, ManifestError):
        return False
    return any(isinstance(each.data, dict) and each.data.get("kind") == KIND for each in documents)


def _checked(document: Document, file: str) -> Settings:
    data = document.data
    kind, version = data.get("kind"), data.get("apiVersion")
    if (kind, version) != (KIND, API_VERSION):
        raise invalid(file, f"expected kind {KIND} of {API_VERSION}, got {kind} of {version}")
    settings = Settings()
    problems: list[str] = []
    for key, value in data.items():
        if key not in ("kind", "apiVersion"):
            _collect(settings, problems, document, file, (key,), value)
    if problems:
        raise NodeError(invalid("", "").code, "; ".join(problems))
    return settings


def _collect(
    settings: Settings, problems: list[str], document: Document, file: str, path: tuple[str, ...], value: Any
) -> None:
    name = ".".join(map(str, path))
    line = document.line(path)
    where = f"{file}:{line}: {name}" if line else f"{file}: {name}"
    if name in PARENTS:
        if value is None:
            return
        if not isinstance(value, dict):
            problems.append(f"{where}: expected a mapping, got {json.dumps(value, default=str)}")
            return
        for key, each in value.items():
            _collect(settings, problems, document, file, (*path, key), each)
        return
    row = BY_PATH.get(name)
    if row is None:
        problems.append(f"{where}: unknown field{_hint(name)}")
    elif value is not None and (problem := row.kind.check(_without_nulls(value))):
        problems.append(f"{where}: {problem}")
    else:
        if name in _PATHS and value:
            value = os.path.join(os.path.dirname(os.path.abspath(file)), value)
        settings.set(name, value, file)


def _without_nulls(value: Any) -> Any:
    """In a mapping null means: take that key away; the other values must be right."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, [*BY_PATH, *PARENTS], n=1, cutoff=0.75)
    return f' (did you mean "{near[0]}"?)' if near else ""

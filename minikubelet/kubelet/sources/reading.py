"""A manifest's text as pods and objects of this node: decoded, made static, completed, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.decode import decode_manifest
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.static import make_static
from minikubelet.kubelet.manifests.yaml_reader import read_yaml
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.data import DataObject
from minikubelet.kubelet.validation import validate_pod, warnings_for

Report = Callable[[ManifestError, str], None]
"""Takes a problem and how bad it is: ``error`` or ``warning``."""


@dataclass
class Reading:
    """What a text holds."""

    pods: list[Pod] = field(default_factory=list)
    objects: list[DataObject] = field(default_factory=list)
    warnings: list[ManifestError] = field(default_factory=list)


def read_manifest(text: bytes, name: str, node_name: str, kind: str = "file") -> Reading:
    """The pods and objects of ``text``, which came from the file or URL ``name``; ``kind``: file or http.

    Raises ManifestError: one problem anywhere, and none of it counts.
    """
    manifest = decode_manifest(text, name)
    if not manifest and not manifest.warnings and not _is_list(text):
        raise ManifestError("holds no pod", file=name)
    reading = Reading(objects=manifest.objects, warnings=list(manifest.warnings))
    for pod, document in manifest.pods:
        make_static(pod, node_name, name, kind)
        apply_defaults(pod)
        problems = validate_pod(pod)
        for problem in problems:
            problem.file, problem.line = name, document.line(problem.path)
        if problems:
            raise _joined(problems)
        for warning in warnings_for(pod):
            warning.file, warning.line = name, document.line(warning.path)
            reading.warnings.append(warning)
        reading.pods.append(pod)
    return reading


def _is_list(text: bytes) -> bool:
    """Whether a text without pods says so on purpose: it is a list, of nothing."""
    return any(
        isinstance(each.data, dict) and each.data.get("kind") in ("List", "PodList")
        for each in read_yaml(text)
    )


def _joined(problems: Sequence[ManifestError]) -> ManifestError:
    """One error that tells of all: the first in full, the others after it."""
    first, *rest = problems
    more = "".join(f"; {each.field}: {each.message}" for each in rest)
    return ManifestError(first.message + more, field=first.field, line=first.line, file=first.file)

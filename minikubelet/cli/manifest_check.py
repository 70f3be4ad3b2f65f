"""Everything that is wrong with a manifest, or of no effect on this node, with line and column."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from minikubelet.cli.manifest_files import document_starts
from minikubelet.cli.manifest_needs import elsewhere, missing, unsupported
from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.decode import decode_manifest, decode_mistakes
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.static import make_static
from minikubelet.kubelet.manifests.yaml_reader import dotted
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.data import DataObject
from minikubelet.kubelet.validation import validate_pod, warnings_for
from minikubelet.kubelet.validation.checker import Problem

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NODE = "node"
"""A node name like any other: what is checked doesn't depend on it."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Finding:
    """One thing about a manifest; line and column count from 1, 0 where there is none."""

    level: str
    """``error``: the pod won't run. ``warning``: something has no effect here, or refers to nothing."""
    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.field, self.message) if part)

    def as_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


@dataclass(frozen=True)
class _Part:
    """A document's text and how many lines of the file come before it."""

    text: str
    before: int

    @property
    def bytes(self) -> bytes:
        """The text as it was in the file."""
        return self.text.encode("utf-8", "surrogateescape")


def check_manifest(text: bytes, file: str, objects: Sequence[DataObject] | None = None) -> list[Finding]:
    """All findings in the order of the file; a mistake in one document doesn't hide those of others.

    Pods are warned of if they refer to something that isn't in ``objects``; None: it may be anywhere.
    """
    findings: list[Finding] = []
    count = 0
    for part in _whole_parts(text):
        found, pods = _check(part, file, objects)
        findings += found
        count += pods
    if not findings and not count:
        findings.append(Finding("error", file, 0, 0, "", "holds no object"))
    return findings


def objects_in(text: bytes) -> list[DataObject]:
    """What pods may refer to, of those documents that can be read."""
    found: list[DataObject] = []
    for part in _whole_parts(text):
        with contextlib.suppress(ManifestError):
            found += decode_manifest(part.bytes).objects
    return found


def _whole_parts(text: bytes) -> list[_Part]:
    try:
        parts = list(_parts(text))
    except (yaml.YAMLError, UnicodeDecodeError):
        parts = []
    return parts if len(parts) > 1 else [_Part(text.decode("utf-8", "surrogateescape"), 0)]


def _parts(text: bytes) -> Iterator[_Part]:
    whole = text.decode("utf-8-sig")
    starts = document_starts(whole)
    ends = [*(index for index, _ in starts), len(whole)][1:]
    for (index, line), end in zip(starts, ends, strict=False):
        yield _Part(whole[index:end], line)


def _check(part: _Part, file: str, objects: Sequence[DataObject] | None) -> tuple[list[Finding], int]:
    """What is found in one document, and how many objects it has."""
    if mistakes := decode_mistakes(part.bytes, file):
        return _sorted(_finding("error", exc, part, file, path) for exc, path in mistakes), 0
    manifest = decode_manifest(part.bytes, file)
    findings = [_finding("warning", each, part, file, None) for each in manifest.warnings]
    for pod, document in manifest.pods:
        make_static(pod, _NODE, file)
        apply_defaults(pod)
        for level, problems in _problems(pod, objects):
            for problem in problems:
                problem.line = document.line(problem.path)
                findings.append(_finding(level, problem, part, file, (*document.inside, *problem.path)))
    return _sorted(findings), len(manifest) + len(manifest.warnings)


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda each: (each.line, each.column))


def _problems(pod: Pod, objects: Sequence[DataObject] | None) -> Iterator[tuple[str, list[Problem]]]:
    yield "error", [_at_gates(each, pod) for each in validate_pod(pod)]
    yield "error", [Problem(what, field=dotted(path), path=path) for path, what in unsupported(pod)]
    yield "warning", warnings_for(pod)
    other = elsewhere(pod, os.uname().nodename.lower())
    yield "warning", [Problem(what, field=dotted(path), path=path) for path, what in other]
    if objects is not None:
        lacking = missing(pod, objects)
        yield "warning", [Problem(what, field=dotted(path), path=path) for path, what in lacking]


def _at_gates(problem: Problem, pod: Pod) -> Problem:
    """Scheduling gates forbid the node's name, which a manifest's pod gets by itself: said where they are."""
    if problem.path != ("spec", "nodeName") or not pod.spec.scheduling_gates:
        return problem
    path: Path = ("spec", "schedulingGates")
    message = "controllers of a cluster lift them: this node takes no pod that has some"
    return Problem(message, field=dotted(path), path=path)


def _finding(level: str, problem: ManifestError, part: _Part, file: str, path: Path | None) -> Finding:
    line, column = problem.line, 1 if problem.line else 0
    if path and (place := locate(part.text, path)):
        line, column = place
    line += part.before if line else 0
    return Finding(level, file, line, column, problem.field, problem.message)


def locate(text: str, path: Path) -> tuple[int, int] | None:
    """Line and column of the key (or list item) at ``path``, or of its nearest parent that is there."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError:
        return None
    if node is None:
        return None
    mark = node.start_mark
    for step in path:
        found = _step(node, step)
        if found is None:
            break
        mark, node = found
    return mark.line + 1, mark.column + 1


def _step(node: Any, step: str | int) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if getattr(key, "value", None) == str(step):
                return key.start_mark, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark, node.value[step]
    return None

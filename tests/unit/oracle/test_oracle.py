"""Ours beside what upstream's own code answered (``tests/oracle``)."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from minikubelet.base.errors import NodeError
from minikubelet.cli import describe_parts, describe_pod, pod_row, selectors
from minikubelet.cli.options import CommandError
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.configuration.flags import configure
from minikubelet.kubelet.cpumanager.topology import Place, Topology
from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.decode import decode_manifest
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.static import make_static
from minikubelet.kubelet.objects import Pod, quantity
from minikubelet.kubelet.validation import validate_pod
from tests.oracle.__main__ import key_of, recorded
from tests.oracle.inputs import ALL, NOW

Json = dict[str, Any]


def asked(kind: str) -> Iterator[tuple[Any, Any]]:
    """Inputs with upstream's answers. Some may be missing, of cases that are newer: not many."""
    answers, missing, number = recorded(kind), 0, 0
    for each in ALL[kind]():
        key = key_of(each)
        number += 1
        missing += key not in answers
        if key in answers:
            yield each, answers[key]
    assert missing <= number / 20, (
        f"{missing} of {number} {kind} aren't recorded: python -m tests.oracle {kind}"
    )


def decoded(plain: Json) -> Pod:
    """Raises ManifestError."""
    return decode_manifest(json.dumps(plain).encode(), "file.json").pods[0][0]


def refused(plain: Json) -> list[str] | None:
    """The fields that are wrong; None if the pod can't be read at all."""
    try:
        pod = decoded(plain)
    except ManifestError:
        return None
    make_static(pod, "node", "file")
    apply_defaults(pod)
    return [problem.field for problem in validate_pod(pod)]


STRICTER = {
    r"spec\.volumes\[\d+\]\.projected\.sources\[\d+\]": "a source of nothing",
    r"spec\.containers\[\d+\]\.ports\[\d+\]\.hostIP": "what isn't an address",
    r"spec\.dnsConfig\.options\[\d+\]\.name": "what would break out of its word in resolv.conf",
}
"""Fields that only ours finds wrong, and what with."""
EMPTY_DIVISOR = '"divisor": ""'
"""Upstream can't read it; here it is as good as none."""


def test_pods_are_refused_as_by_upstream() -> None:
    wrong = []
    for pod, theirs in asked("pods"):
        ours = refused(pod)
        if ours == [] and theirs != [] and not (theirs is None and EMPTY_DIVISOR in json.dumps(pod)):
            wrong.append(f"upstream refuses {theirs}: {json.dumps(pod)}")
        if theirs == [] and ours != [] and not all(_listed(field, STRICTER) for field in ours or [""]):
            wrong.append(f"ours refuses {ours}: {json.dumps(pod)}")
    assert not wrong, "\n".join(wrong[:10])


def test_the_fields_that_are_wrong_are_those_of_upstream() -> None:
    """At least one of ours is one of theirs, or beside it, in it, or around it."""
    wrong = []
    for pod, theirs in asked("pods"):
        ours = refused(pod)
        if theirs and ours and not any(_near(a, b) for a in map(_steps, ours) for b in map(_steps, theirs)):
            wrong.append(f"{ours}, upstream {theirs}")
    assert not wrong, "\n".join(sorted(set(wrong))[:10])


def _listed(field: str, patterns: dict[str, str]) -> bool:
    return any(re.fullmatch(pattern, field) for pattern in patterns)


VAGUE = ("items", "limits", "securitycontext")
"""Steps of paths that upstream leaves out, or has where they aren't."""


def _steps(field: str) -> list[str]:
    steps = [step for step in re.split(r"[.\[\]]+", field.lower()) if step and not step.isdigit()]
    return [step for step in steps if step not in VAGUE]


def _near(one: list[str], other: list[str]) -> bool:
    shorter = min(len(one), len(other))
    beside = shorter > 2 and one[:-1] == other[:-1]
    return beside or one[:shorter] == other[:shorter]


def test_rows() -> None:
    for pod, theirs in asked("rows"):
        ours = pod_row.row(pod, NOW, wide=True)
        # Upstream's ages are as of when they were recorded.
        assert [_timeless(cell) for cell in ours[:4] + ours[5:]] == [
            _timeless(cell) for cell in theirs[:4] + theirs[5:]
        ]


def _timeless(cell: str) -> str:
    return re.sub(r"\(\S+ ago\)", "(ago)", cell)


def test_descriptions() -> None:
    compared = 0
    for plain, theirs in asked("descriptions"):
        status = plain.pop("status")
        if theirs is None or refused(plain) != [] or _looks_elsewhere(plain):
            continue
        complete = decoded(plain)
        apply_defaults(complete)
        pod = {**json.loads(msgspec.json.encode(complete)), "status": status}
        ours = describe_parts.whole(describe_pod.lines(pod, NOW), None, NOW)
        assert _lines(ours) == _lines(theirs)
        compared += 1
    assert compared > 100


def _looks_elsewhere(pod: Json) -> bool:
    """Whether a variable tells of another container: kubectl shows the amount of the one that has it."""
    found = [each for container in pod["spec"]["containers"] for each in container.get("env", [])]
    return any("containerName" in (each.get("valueFrom") or {}).get("resourceFieldRef", {}) for each in found)


def _lines(text: str) -> list[str]:
    """Without what only ours says: where more variables come from, and what is in them."""
    lines = [re.sub(r":\s+\S* \(v1:(spec|status)", r": (v1:\1", line) for line in text.rstrip().split("\n")]
    return [line.rstrip() for line in lines if "<fileKeyRef>" not in line]


def test_selectors() -> None:
    for (text, labels), theirs in asked("selectors"):
        try:
            ours = selectors.parse(text)(labels)
        except CommandError:
            assert theirs is None, text
        else:
            assert ours is theirs, text


def test_quantities() -> None:
    for text, theirs in asked("quantities"):
        try:
            ours = quantity.canonical(text)
        except ValueError:
            assert theirs is None, text
        else:
            assert ours == theirs, text


def test_cpus() -> None:
    for (places, free, count), theirs in asked("cpus"):
        topology = Topology({cpu: Place(*place) for cpu, place in enumerate(places)})
        assert sorted(topology.take(free, count)) == theirs, (places, free, count)


def test_configurations_that_upstream_refuses(tmp_path: Path) -> None:
    """Ours does so as well, or says that it takes no notice of the field."""
    path, wrong = tmp_path / "config.json", []
    for configuration, theirs in asked("configurations"):
        path.write_text(json.dumps(configuration))
        try:
            warnings = configure(argparse.Namespace(), KubeletConfig(), str(path))
        except NodeError as exc:
            assert str(exc)
            continue
        if theirs and not any("has no effect" in warning for warning in warnings):
            wrong.append(f"{theirs}: {configuration}")
    assert not wrong, "\n".join(wrong[:10])

"""nodeSelector and required node affinity against this node's labels."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minikubelet.kubelet.affinity import allows, node_labels
from minikubelet.kubelet.objects import Pod

LABELS = {**node_labels("here"), "cores": "8"}


def pod(**spec: Any) -> Pod:
    containers = [{"name": "app", "image": "i"}]
    return msgspec.convert({"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}, Pod)


def affine(*terms: dict[str, Any]) -> Pod:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return pod(affinity={"nodeAffinity": required})


def test_selector() -> None:
    assert allows(pod(), "here", LABELS)
    assert allows(pod(nodeSelector={"kubernetes.io/os": "linux"}), "here", LABELS)
    assert not allows(pod(nodeSelector={"kubernetes.io/os": "windows"}), "here", LABELS)
    assert not allows(pod(nodeSelector={"disk": "ssd"}), "here", LABELS)


@pytest.mark.parametrize(
    ("key", "operator", "values", "expected"),
    [
        ("kubernetes.io/hostname", "In", ["here", "there"], True),
        ("kubernetes.io/hostname", "NotIn", ["here"], False),
        ("disk", "NotIn", ["ssd"], True),
        ("disk", "Exists", [], False),
        ("disk", "DoesNotExist", [], True),
        ("cores", "Gt", ["7"], True),
        ("cores", "Lt", ["8"], False),
        ("disk", "Gt", ["1"], False),
    ],
)
def test_expressions(key: str, operator: str, values: list[str], expected: bool) -> None:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}
    assert allows(affine(term), "here", LABELS) is expected


def test_any_term_is_enough_and_an_empty_one_matches_nothing() -> None:
    field = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["here"]}]}
    wrong = {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
    assert allows(affine(wrong, field), "here", LABELS)
    assert not allows(affine({}), "here", LABELS)

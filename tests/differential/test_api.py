"""Our kubelet answers requests as the upstream kubelet has answered them, over our runtime."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential import drivers
from tests.differential.api import battery, stage
from tests.differential.api.__main__ import recorded
from tests.differential.api.accepted import Accepted, unexplained
from tests.differential.api.shapes import Result
from tests.host.kubelet import runtimes

GROUPS = battery.load()


@pytest.fixture(scope="module")
def endpoint(home: Path) -> Iterator[str]:
    """Our runtime's alone: it is what upstream's answers were recorded over."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with runtimes.minikubelet(home / "m") as socket:
        yield socket


@pytest.fixture(scope="module")
def answers(
    nothing_left: None, request: pytest.FixtureRequest, endpoint: str, home: Path
) -> dict[str, dict[str, Result]]:
    """Our kubelet's, in the groups that were chosen."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    names = {each["group"].name for each in params if "group" in each}
    chosen = [group for group in GROUPS if group.name in names]
    return stage.run(drivers.ours, chosen, endpoint, Path(tempfile.mkdtemp(prefix="a-", dir=home)))


@pytest.fixture(scope="module")
def known() -> Accepted:
    """Shared by all groups, so that what is never needed comes out."""
    return Accepted("minikubelet")


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_same_answers(group: battery.Group, answers: dict[str, dict[str, Result]], known: Accepted) -> None:
    theirs = recorded().get(group.name, {})
    lines = []
    for request in group.requests:
        assert request.name in theirs, f"not recorded: python -m tests.differential.api record {group.name}"
        ours = answers[group.name][request.name]
        found = unexplained(group.name, request.name, theirs[request.name], ours, known)
        lines += [request.name, *found] if found else []
    assert not lines, "\n".join([f"{group.name}: answers differ from upstream's", *lines])


def test_every_accepted_difference_is_still_one(
    answers: dict[str, dict[str, Result]], known: Accepted
) -> None:
    if len(answers) < len(GROUPS):
        pytest.skip("only when all groups are asked")
    theirs = recorded()
    for group, found in answers.items():
        for name, answer in found.items():
            unexplained(group, name, theirs.get(group, {}).get(name, {}), answer, known)
    assert known.unused() == [], "these no longer differ: take them off the list"

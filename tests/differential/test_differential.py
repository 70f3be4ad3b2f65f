"""Our kubelet ends up with what the upstream kubelet ended up with, over our runtime and over containerd."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import pytest

from tests.differential import case as cases
from tests.differential import drivers
from tests.differential.__main__ import recorded, run, run_twice
from tests.differential.compare import Known, unexplained
from tests.differential.conftest import runtime_name
from tests.differential.runner import Result

CASES = cases.load()


@pytest.fixture(scope="module")
def results(
    nothing_left: None, request: pytest.FixtureRequest, endpoint: str, home: Path
) -> dict[str, Result]:
    """What our kubelet ends up with over one runtime, in the cases that were chosen."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    names = {each["case"].name for each in params if "case" in each}
    chosen = [case for case in CASES if case.name in names]

    def attempt(some: list[cases.Case]) -> dict[str, Result]:
        return run(drivers.ours, some, endpoint, Path(tempfile.mkdtemp(prefix="o-", dir=home)))

    found, differed = run_twice(attempt, chosen, accepted(endpoint))
    for name, lines in differed.items():
        warnings.warn("\n".join([f"{name} differed in its first run", *lines]), stacklevel=1)
    return found


def accepted(endpoint: str) -> Known:
    """The differences that are accepted over that runtime."""
    return Known(runtime_name(endpoint))


@pytest.fixture(scope="module")
def known(endpoint: str) -> Known:
    """Shared by all cases, so that those never used come out."""
    return accepted(endpoint)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_upstream(case: cases.Case, results: dict[str, Result], known: Known) -> None:
    theirs = recorded()
    assert case.name in theirs, "upstream's result is not recorded: python -m tests.differential record"
    lines = unexplained(case, theirs[case.name], results[case.name], known)
    assert not lines, "\n".join([f"{case.name} differs from upstream's kubelet", *lines])


def test_every_known_difference_is_still_one(results: dict[str, Result], known: Known) -> None:
    theirs = recorded()
    if len(results) < len(CASES):
        pytest.skip("only when all cases run")
    for case in CASES:
        unexplained(case, theirs.get(case.name, {}), results[case.name], known)
    unused = sorted(known.reasons.keys() - known.used)
    assert unused == [], "these no longer differ: take them off the list"

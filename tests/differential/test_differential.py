"""Our kubelet ends up with what the upstream kubelet ended up with, over our runtime and over containerd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential import case as cases
from tests.differential.compare import Known
from tests.differential.conftest import runtime_name
from tests.differential.suite import Comparison

CASES = cases.load()


@pytest.fixture(scope="module")
def comparison(nothing_left: None, request: pytest.FixtureRequest, endpoint: str, home: Path) -> Comparison:
    """What our kubelet ends up with over one runtime, in the cases that were chosen."""
    return Comparison.over(endpoint, home, request, CASES, Known.over(runtime_name(endpoint)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_upstream(case: cases.Case, comparison: Comparison) -> None:
    comparison.check(case)


def test_every_known_difference_is_still_one(comparison: Comparison) -> None:
    comparison.check_known()

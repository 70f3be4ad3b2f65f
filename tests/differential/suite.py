"""What the tests of both lanes share: run the chosen cases, hold each against upstream's result."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.differential import drivers
from tests.differential.__main__ import recorded, run, run_twice
from tests.differential.case import Case
from tests.differential.compare import Known, unexplained
from tests.differential.runner import Result


class Comparison:
    """What our kubelet ended up with over one runtime, beside what is recorded of upstream's."""

    def __init__(self, cases: Sequence[Case], results: dict[str, Result], known: Known) -> None:
        """``cases`` are all that there are; those chosen have ``results``."""
        self._cases = cases
        self._results = results
        self._known = known
        self._theirs = recorded()

    @classmethod
    def over(
        cls, endpoint: str, home: Path, request: pytest.FixtureRequest, cases: Sequence[Case], known: Known
    ) -> Comparison:
        """Run the cases of the chosen tests that use the asking fixture, in folders below ``home``."""
        names = _chosen(request)

        def attempt(some: list[Case]) -> dict[str, Result]:
            return run(drivers.ours, some, endpoint, Path(tempfile.mkdtemp(prefix="o-", dir=home)))

        found, differed = run_twice(attempt, [case for case in cases if case.name in names], known)
        for name, lines in differed.items():
            warnings.warn("\n".join([f"{name} differed in its first run", *lines]), stacklevel=1)
        return cls(cases, found, known)

    def check(self, case: Case) -> None:
        """AssertionError with each difference that isn't on the list."""
        assert case.name in self._theirs, (
            "upstream's result is not recorded: python -m tests.differential record"
        )
        lines = unexplained(case, self._theirs[case.name], self._results[case.name], self._known)
        assert not lines, "\n".join([f"{case.name} differs from upstream's kubelet", *lines])

    def check_known(self, *tables: str) -> None:
        """AssertionError with what these tables of differences (or all) have that is none any more."""
        if len(self._results) < len(self._cases):
            pytest.skip("only when all cases run")
        for case in self._cases:
            unexplained(case, self._theirs.get(case.name, {}), self._results[case.name], self._known)
        listed = {where for table in tables or self._known.tables for where in self._known.tables[table]}
        unused = sorted(listed - self._known.used)
        assert not unused, f"these no longer differ, take them off the list: {unused}"


def _chosen(request: pytest.FixtureRequest) -> set[str]:
    """Names of the cases of all tests that use the asking fixture."""
    found: set[str] = set()
    for item in request.session.items:
        if isinstance(item, pytest.Function) and request.fixturename in item.fixturenames:
            case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
            if isinstance(case, Case):
                found.add(case.name)
    return found

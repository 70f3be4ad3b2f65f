"""What our kubelet writes into the kernel's cgroups is what upstream's kubelet wrote there, case by case.

The cases are those of the differential suite that need the cgroup v2 controllers of this lane's machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.linux.cgroup.mount import find_mount
from tests.differential import case as cases
from tests.differential import cgroups, drivers
from tests.differential.__main__ import recorded, run
from tests.differential.compare import Known, unexplained
from tests.differential.runner import Result
from tests.host.kubelet import runtimes

CASES = cases.load(lane="vm")


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[dict[str, Result]]:
    """What our kubelet ends up with, in the cases that were chosen."""
    if not find_mount().controllers >= cgroups.CONTROLLERS:
        pytest.skip("this host's cgroup2 lacks controllers: run scripts/test vm")
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    names = {each["case"].name for each in params if "case" in each}
    chosen = [case for case in CASES if case.name in names]
    with tempfile.TemporaryDirectory(prefix="mkv-", dir="/tmp") as folder:
        home = Path(folder)
        home.chmod(0o711)
        with runtimes.minikubelet(home / "m") as endpoint:
            yield run(drivers.ours, chosen, endpoint, home / "o")


@pytest.fixture(scope="module")
def known() -> Known:
    """The differences that are accepted."""
    return Known("vm")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_upstream(case: cases.Case, results: dict[str, Result], known: Known) -> None:
    theirs = recorded()
    assert case.name in theirs, "upstream's result is not recorded: python -m tests.differential record --vm"
    lines = unexplained(case, theirs[case.name], results[case.name], known)
    assert not lines, "\n".join([f"{case.name} differs from upstream's kubelet", *lines])


def test_every_known_difference_is_still_one(results: dict[str, Result], known: Known) -> None:
    theirs = recorded()
    if len(results) < len(CASES):
        pytest.skip("only when all cases run")
    for case in CASES:
        unexplained(case, theirs.get(case.name, {}), results[case.name], known)
    unused = sorted(known.tables["vm"].keys() - known.used)
    assert unused == [], "these no longer differ: take them off the list"

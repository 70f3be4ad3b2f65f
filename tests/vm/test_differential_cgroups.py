"""What our kubelet has written into the kernel's cgroups is what upstream's kubelet had, case by case.

The cases are those of the differential suite that need the cgroup v2 controllers of this lane's machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.linux.cgroup.mount import find_mount
from tests.differential import case as cases
from tests.differential import cgroups
from tests.differential.compare import Known
from tests.differential.suite import Comparison
from tests.host.kubelet import runtimes
from tests.upstream_kubelet import PEERS

LANE = "vm"
CASES = cases.load(lane=LANE)
OVER_CONTAINERD = [
    each
    for each in CASES
    if each.name
    in (
        "cgroups/best-effort",
        "cgroups/critical",
        "cgroups/guaranteed",
        "cgroups/hugepages-pod-level",
        "cgroups/limits-above",
        "cgroups/node",
        "cgroups/pod-level-limits",
        "cgroups/resized",
        "tuned/burstable",
        "tuned/exclusive",
    )
]
"""Each thing that CRI carries, once. Emulated, containerd and runc take eleven seconds a pod, and far longer
below a small limit of CPU: the others are left to ``diff --vm --runtime containerd``."""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder with a short name: sockets live in it."""
    if not find_mount().controllers >= cgroups.CONTROLLERS:
        pytest.skip("this host's cgroup2 lacks controllers: run scripts/test vm")
    with tempfile.TemporaryDirectory(prefix="mkv-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def comparison(request: pytest.FixtureRequest, home: Path) -> Comparison:
    """Over our own runtime."""
    with runtimes.minikubelet(home / "m") as endpoint:
        return Comparison.over(endpoint, home, request, CASES, Known.over("minikubelet", LANE))


@pytest.fixture(scope="module")
def over_containerd(request: pytest.FixtureRequest, home: Path) -> Comparison:
    if not (PEERS / "containerd").exists():
        pytest.skip("containerd is not built: run scripts/peers containerd runc")
    with runtimes.containerd(home / "c", PEERS) as endpoint:
        return Comparison.over(endpoint, home, request, OVER_CONTAINERD, Known.over("containerd", LANE))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_upstream(case: cases.Case, comparison: Comparison) -> None:
    comparison.check(case)


def test_every_known_difference_is_still_one(comparison: Comparison) -> None:
    comparison.check_known("vm")


@pytest.mark.parametrize("case", OVER_CONTAINERD, ids=lambda case: case.name)
def test_same_as_upstream_over_containerd(case: cases.Case, over_containerd: Comparison) -> None:
    over_containerd.check(case)


def test_every_known_difference_is_still_one_over_containerd(over_containerd: Comparison) -> None:
    over_containerd.check_known("vm-containerd")

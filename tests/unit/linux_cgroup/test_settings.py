"""Settings become files; what a host can't enforce is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.linux.cgroup import files
from minikubelet.linux.cgroup.core import check_path
from minikubelet.linux.cgroup.cpu import shares_to_weight
from minikubelet.linux.cgroup.resources import Resources, plan, to_files

ALL = {"memory", "cpu", "pids", "cpuset", "io", "hugetlb"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(), {}),
        (Resources(memory_limit=1 << 20), {"memory.max": "1048576", "memory.swap.max": "0"}),
        (Resources(memory_limit=100, memory_swap_limit=250), {"memory.max": "100", "memory.swap.max": "150"}),
        (Resources(memory_limit=100, memory_swap_limit=100), {"memory.max": "100", "memory.swap.max": "0"}),
        (Resources(memory_limit=100, memory_swap_limit=-1), {"memory.max": "100", "memory.swap.max": "max"}),
        (Resources(memory_limit=-1), {"memory.max": "max", "memory.swap.max": "max"}),
        (Resources(memory_limit=-1, memory_swap_limit=7), {"memory.max": "max", "memory.swap.max": "7"}),
        (Resources(cpu_quota=50_000), {"cpu.max": "50000 100000"}),
        (Resources(cpu_quota=50_000, cpu_period=20_000), {"cpu.max": "50000 20000"}),
        (Resources(cpu_quota=-1), {"cpu.max": "max 100000"}),
        (Resources(cpu_period=20_000), {"cpu.max": "max 20000"}),
        (Resources(cpu_quota=2000, cpu_burst=1000), {"cpu.max": "2000 100000", "cpu.max.burst": "1000"}),
        (Resources(cpu_shares=1024), {"cpu.weight": "100"}),
        (Resources(pids_limit=10), {"pids.max": "10"}),
        (Resources(pids_limit=-1), {"pids.max": "max"}),
        (Resources(cpuset_cpus="0-3,7", cpuset_mems="0"), {"cpuset.cpus": "0-3,7", "cpuset.mems": "0"}),
        (
            Resources(hugepage_limits=(("2MB", 4 << 20),)),
            {"hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304"},
        ),
        (
            Resources(memory_limit=100, unified={"memory.max": "200", "io.weight": "default 50"}),
            {"memory.max": "200", "memory.swap.max": "0", "io.weight": "default 50"},
        ),
    ],
)
def test_files(resources: Resources, expected: dict[str, str]) -> None:
    assert to_files(resources) == expected


@pytest.mark.parametrize(
    ("shares", "weight"),
    [
        (0, 0),
        (1, 1),
        (2, 1),
        (102, 17),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262144, 10000),
        (1 << 40, 10000),
    ],
)
def test_shares_to_weight(shares: int, weight: int) -> None:
    assert shares_to_weight(shares) == weight


def test_weights_never_fall_as_shares_rise() -> None:
    weights = [shares_to_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (Resources(memory_limit=-2), "memory_limit_in_bytes"),
        (Resources(memory_swap_limit=5), "memory_swap_limit_in_bytes"),
        (Resources(memory_limit=10, memory_swap_limit=5), "memory_swap_limit_in_bytes"),
        (Resources(cpu_quota=999), "cpu_quota"),
        (Resources(cpu_period=5), "cpu_period"),
        (Resources(cpu_shares=-1), "cpu_shares"),
        (Resources(cpuset_cpus="0-"), "cpuset_cpus"),
        (Resources(cpuset_cpus="3-1"), "cpuset_cpus"),
        (Resources(cpuset_mems="0 1"), "cpuset_mems"),
        (Resources(pids_limit=-2), "pids_limit"),
        (Resources(hugepage_limits=(("2M/..", 1),)), "hugepage_limits"),
        (Resources(unified={"../memory.max": "1"}), "unified"),
        (Resources(unified={"a/memory.max": "1"}), "unified"),
        (Resources(unified={"memory..max": "1"}), "unified"),
        (Resources(unified={"..": "1"}), "unified"),
        (Resources(unified={"memory": "1"}), "unified"),
        (Resources(unified={"cgroup.procs": "1"}), "unified"),
        (Resources(unified={"cgroup.kill": "1"}), "unified"),
        (Resources(unified={"cgroup.subtree_control": "+memory"}), "unified"),
        (Resources(unified={"memory.max\n": "1"}), "unified"),
        (Resources(unified={"memory.max": ""}), "unified"),
        (Resources(unified={"memory.max": "1\n2"}), "unified"),
        (Resources(unified={"memory.max": "1\0"}), "unified"),
    ],
)
def test_impossible_settings_name_the_field(resources: Resources, field: str) -> None:
    with pytest.raises(NodeError) as error:
        to_files(resources)
    assert error.value.code is Code.INVALID_ARGUMENT
    assert error.value.field == f"resources.{field}"


WISHES = Resources(cpu_shares=1024, hugepage_limits=(("2MB", 0),), unified={"memory.low": "5"}, pids_limit=-1)
LIMITS = Resources(memory_limit=100, cpu_quota=5000, pids_limit=9, unified={"io.max": "8:0 rbps=1"})


def test_a_host_with_all_controllers_takes_everything() -> None:
    for resources in (WISHES, LIMITS):
        result = plan(resources, ALL)
        assert (result.limits, result.wishes) == ((), ())
        assert result.files == to_files(resources)
        result.require()


def test_a_host_without_controllers_skips_wishes_and_refuses_limits() -> None:
    result = plan(WISHES, ())
    assert result.files == {} and result.limits == ()
    assert {lack.file for lack in result.wishes} == {
        "cpu.weight",
        "hugetlb.2MB.max",
        "hugetlb.2MB.rsvd.max",
        "memory.low",
        "pids.max",
    }
    result = plan(LIMITS, {"pids"})
    assert result.files == {"pids.max": "9"}
    assert [lack.file for lack in result.limits] == ["memory.max", "cpu.max", "io.max"]
    with pytest.raises(
        NodeError, match=r"can't enforce memory\.max=100, cpu\.max=5000 100000, io\.max"
    ) as error:
        result.require()
    assert error.value.code is Code.FAILED_PRECONDITION
    assert "no memory controller" in error.value.message


def test_a_period_without_a_quota_is_no_limit() -> None:
    result = plan(Resources(cpu_period=100_000), ())
    assert (result.files, result.limits) == ({}, ())
    assert [(lack.file, lack.value) for lack in result.wishes] == [("cpu.max", "max 100000")]


def test_core_files_need_no_controller() -> None:
    assert plan(Resources(unified={"cgroup.max.depth": "3"}), ()).files == {"cgroup.max.depth": "3"}


@pytest.mark.parametrize(
    "path", ["/", "/kubepods", "/kubepods/besteffort/pod1-2_3", "/system.slice/a@b.service/"]
)
def test_paths(path: str) -> None:
    assert check_path(path) == (path.rstrip("/") or "/")


@pytest.mark.parametrize(
    "path",
    ["", "relative", "/../x", "/a/../b", "/a//b", "/./a", "/memory.max", "/a/cgroup.procs", "/a b", "/a\n"],
)
def test_bad_paths(path: str) -> None:
    with pytest.raises(NodeError) as error:
        check_path(path)
    assert error.value.field == "cgroup_parent"


def test_settings_are_written_all_or_none(tmp_path: Path) -> None:
    for name, value in (("cpu.max", "max 100000\n"), ("cpuset.cpus", "")):
        (tmp_path / name).write_text(value)
    with pytest.raises(FileNotFoundError) as caught:
        files.write_all(str(tmp_path), {"cpu.max": "50000 100000", "cpuset.cpus": "1", "memory.max": "1"})
    assert caught.value.filename == str(tmp_path / "memory.max")
    assert (tmp_path / "cpu.max").read_text().startswith("max 100000\n")
    assert (tmp_path / "cpuset.cpus").read_text() == "\n"

"""Statistics and mount discovery on a temporary directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.linux.cgroup import core, cpu, cpuset, hugetlb, io, memory, pids, pressure
from minikubelet.linux.cgroup.mount import find_mount

UNIFIED = "31 23 0:28 / {root} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
LEGACY = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" + (
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
)


def host(tmp_path: Path, mountinfo: str, controllers: str = "") -> str:
    root = tmp_path / "cgroup root"
    root.mkdir()
    (root / "cgroup.controllers").write_text(controllers)
    file = tmp_path / "mountinfo"
    escaped = str(root).replace(" ", "\\040")
    file.write_text("1 1 0:1 / / rw shared:1 - ext4 /dev/vda rw\n" + mountinfo.format(root=escaped))
    return str(file)


def test_a_unified_host(tmp_path: Path) -> None:
    mount = find_mount(host(tmp_path, UNIFIED, "cpu memory pids\n"))
    assert mount.path == str(tmp_path / "cgroup root")
    assert mount.mode == "unified"
    assert mount.controllers == {"cpu", "memory", "pids"}
    assert "nsdelegate" in mount.options


def test_a_hybrid_host(tmp_path: Path) -> None:
    mount = find_mount(host(tmp_path, LEGACY + UNIFIED, "\n"))
    assert (mount.mode, mount.controllers) == ("hybrid", frozenset())
    assert mount.legacy_controllers == {"memory"}


def test_a_legacy_host(tmp_path: Path) -> None:
    mount = find_mount(host(tmp_path, LEGACY))
    assert (mount.mode, mount.path) == ("legacy", "")


def test_without_controllers_there_are_no_statistics(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert memory.stats(folder) is None
    assert cpu.stats(folder) is None
    assert cpu.limits(folder) is None
    assert pids.stats(folder) is None
    assert io.stats(folder) is None
    assert cpuset.effective(folder) is None
    assert pressure.stats(folder, "cpu") is None
    assert hugetlb.usage(folder, "2MB") is None
    assert memory.events(folder) == memory.MemoryEvents()


def test_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.swap.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 400\nfile 500\ninactive_file 300\npgfault 7\npgmajfault 2\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 4\noom 3\noom_kill 2\n")
    stats = memory.stats(str(tmp_path))
    assert stats is not None
    assert (stats.usage, stats.working_set, stats.rss, stats.available) == (1000, 700, 400, 4300)
    assert (stats.limit, stats.swap_limit, stats.swap_usage) == (5000, -1, 0)
    assert (stats.page_faults, stats.major_page_faults) == (7, 2)
    assert memory.events(str(tmp_path)) == memory.MemoryEvents(oom=3, oom_kill=2, max=4)
    (tmp_path / "memory.max").write_text("max\n")
    unlimited = memory.stats(str(tmp_path))
    assert unlimited is not None and (unlimited.limit, unlimited.available) == (-1, 0)


def test_cpu_and_pids(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text(
        "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 1\nthrottled_usec 9\n"
    )
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "cpu.weight").write_text("100\n")
    assert cpu.stats(str(tmp_path)) == cpu.CpuStats(30, 20, 10, 4, 1, 9)
    assert cpu.limits(str(tmp_path)) == cpu.CpuLimits(-1, 100000, 100)
    (tmp_path / "cgroup.threads").write_text("1\n2\n3\n")
    assert pids.stats(str(tmp_path)) == pids.PidsStats(3, -1)
    (tmp_path / "pids.current").write_text("5\n")
    (tmp_path / "pids.max").write_text("10\n")
    assert pids.stats(str(tmp_path)) == pids.PidsStats(5, 10)


def test_io_and_pressure(tmp_path: Path) -> None:
    (tmp_path / "io.stat").write_text("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n254:1 \n")
    assert io.stats(str(tmp_path)) == [io.DeviceIo("8:0", 1, 2, 3, 4), io.DeviceIo("254:1", 0, 0, 0, 0)]
    (tmp_path / "memory.pressure").write_text(
        "some avg10=1.50 avg60=0.20 avg300=0.03 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n"
    )
    result = pressure.stats(str(tmp_path), "memory")
    assert result is not None
    assert result.some == pressure.Stall(1.5, 0.2, 0.03, 12)
    assert result.full.total == 4


def test_core(tmp_path: Path) -> None:
    folder = str(tmp_path)
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (tmp_path / "cgroup.procs").write_text("12\n0\n")
    (tmp_path / "cgroup.kill").write_text("")
    assert core.populated(folder) and not core.frozen(folder)
    assert core.processes(folder) == [12, 0]
    assert core.kill(folder)
    assert (tmp_path / "cgroup.kill").read_text() == "1"
    assert core.kill(str(tmp_path / "gone"))
    assert not core.populated(str(tmp_path / "gone"))


def test_controllers_are_passed_on_only_when_missing(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    assert core.enable(str(tmp_path), {"cpu", "memory", "pids"}) == {"cpu", "memory"}
    assert (tmp_path / "cgroup.subtree_control").read_text().startswith("+memory")


def test_ensure_and_remove(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("")
    core.ensure(str(tmp_path), "/a/b/c", {"memory"})
    core.ensure(str(tmp_path), "/a/b/d", {"memory"})
    assert (tmp_path / "a/b/c").is_dir() and (tmp_path / "a/b/d").is_dir()
    assert core.remove(str(tmp_path / "a")) and core.remove(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("names", "sizes"), [(["hugepages-2048kB", "hugepages-1048576kB"], ["2MB", "1GB"]), ([], [])]
)
def test_page_sizes(tmp_path: Path, names: list[str], sizes: list[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    assert hugetlb.page_sizes(str(tmp_path)) == sizes
    assert hugetlb.page_sizes(str(tmp_path / "none")) == []


def test_files_of_any_length_are_read_whole(tmp_path: Path) -> None:
    for length in (0, 1, 2047, 2048, 65535, 65536, 65537, 200_000):
        (tmp_path / "cgroup.procs").write_text("1\n" * length)
        assert len(core.processes(str(tmp_path))) == length

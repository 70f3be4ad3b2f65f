"""Cgroups on a folder that looks like the kernel's."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from minikubelet.base.errors import StepError
from minikubelet.spawner.cgroups import Cgroup, mount_point
from minikubelet.wire.messages import CgroupSettings


def prepare(folder: Path, controllers: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text("")


def test_controllers_are_switched_on_along_the_path(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a/b"):
        prepare(folder, "cpuset memory")
    (tmp_path / "a/b/memory.max").write_text("")
    settings = CgroupSettings(path="/a/b", files={"memory.max": "1000", "cgroup.max.depth": "2"})
    (tmp_path / "a/b/cgroup.max.depth").write_text("")
    Cgroup(str(tmp_path), "/a/b").make(settings)
    assert (tmp_path / "a/b/memory.max").read_text() == "1000"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "a/cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "a/b/cgroup.subtree_control").read_text() == ""


def test_what_a_kubelet_sets_of_each_container_is_on_before_there_is_one(tmp_path: Path) -> None:
    prepare(tmp_path, "cpuset hugetlb")
    Cgroup(str(tmp_path), "/pod").make(CgroupSettings(path="/pod", files={}))
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+hugetlb"


def test_a_setting_without_its_file_is_an_error_with_the_path(tmp_path: Path) -> None:
    prepare(tmp_path, "")
    with pytest.raises(StepError) as failed:
        Cgroup(str(tmp_path), "/a").make(CgroupSettings(path="/a", files={"memory.max": "1"}))
    assert (failed.value.number, failed.value.path) == (errno.ENOENT, f"{tmp_path}/a/memory.max")
    assert (tmp_path / "a").is_dir()


@pytest.mark.parametrize("path", ["", "a", "/a/../b", "/..", "/a/./b"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(StepError):
        Cgroup("/sys/fs/cgroup", path)


def test_a_file_name_with_a_slash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StepError):
        Cgroup(str(tmp_path), "/a").write("../x", "1")


def test_oom_kills(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    cgroup = Cgroup(str(tmp_path), "/a")
    assert cgroup.oom_kills() == 0
    (tmp_path / "a/memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n")
    assert cgroup.oom_kills() == 2


def test_removing_what_is_gone_is_fine(tmp_path: Path) -> None:
    cgroup = Cgroup(str(tmp_path), "/a")
    assert cgroup.remove()
    (tmp_path / "a/b/c").mkdir(parents=True)
    assert cgroup.remove()
    assert not (tmp_path / "a").exists()
    cgroup.kill()
    assert not cgroup.populated()


def test_the_mount_is_found(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    line = "38 31 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    table.write_text(
        "22 27 0:21 / /proc rw - proc proc rw\n41 31 0:3 /sub /elsewhere rw - cgroup2 cgroup2 rw\n" + line
    )
    assert mount_point(str(table)) == "/sys/fs/cgroup/unified"
    table.write_text("22 27 0:21 / /proc rw - proc proc rw\n")
    with pytest.raises(StepError):
        mount_point(str(table))

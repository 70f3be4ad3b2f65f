"""subPaths pinned by bind mounts: what is found stays what was checked, and nothing is left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.kubelet.cri_config import open_sub_path
from minikubelet.kubelet.environment import ContainerConfigError
from minikubelet.kubelet.volumes.manager import VolumeManager
from minikubelet.kubelet.volumes.subpath import SubPath
from minikubelet.linux import mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


def mounted(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [path for line in lines if (path := line.split()[4]).startswith(f"{folder}/")]


@pytest.fixture(autouse=True)
def no_mount_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    left = mounted(tmp_path)
    for path in reversed(left):
        mounts.unmount(path)
    assert not left


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    made.chmod(0o2775)
    (made / "dir").mkdir()
    (made / "dir" / "file").write_text("mine")
    (made / "link").symlink_to("dir")
    (made / "..data").symlink_to("dir")
    (made / "out").symlink_to("/etc")
    (made / "up").symlink_to("../precious")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "canary").write_text("alive")
    return made


def place(tmp_path: Path, index: int = 0) -> SubPath:
    return SubPath(str(tmp_path / "pods" / "uid"), "data", "app", index)


async def test_what_is_found(tmp_path: Path, volume: Path) -> None:
    for index, path in enumerate(("dir/file", "link/file", "..data/file", "./dir//file")):
        found = Path(open_sub_path(place(tmp_path, index), str(volume), path))
        assert found == tmp_path / f"pods/uid/volume-subpaths/data/app/{index}"
        assert found.read_text() == "mine"
    assert (Path(open_sub_path(place(tmp_path, 9), str(volume), "link")) / "file").read_text() == "mine"
    assert len(mounted(tmp_path)) == 5
    await VolumeManager(str(tmp_path / "pods")).teardown("uid")
    assert not (tmp_path / "pods/uid/volume-subpaths").exists()
    assert (volume / "dir/file").read_text() == "mine"


async def test_what_is_missing_is_made_with_the_volumes_mode(tmp_path: Path, volume: Path) -> None:
    old = os.umask(0o077)
    try:
        open_sub_path(place(tmp_path), str(volume), "link/new/deep")
    finally:
        os.umask(old)
    assert stat.S_IMODE((volume / "dir/new/deep").stat().st_mode) == 0o2775
    assert stat.S_IMODE((volume / "dir/new").stat().st_mode) == 0o2775
    await VolumeManager(str(tmp_path / "pods")).teardown("uid")


def test_what_cannot_be_made_is_told(tmp_path: Path, volume: Path) -> None:
    (volume / "dangling").symlink_to("nothing")
    words = 'failed to create subPath directory for volumeMount "data" of container "app"'
    with pytest.raises(ContainerConfigError, match=words):
        open_sub_path(place(tmp_path), str(volume), "dangling")


@pytest.mark.parametrize("path", ["out", "out/passwd", "up", "up/canary", "dir/file/x", "out/new", "up/new"])
def test_what_leads_out_is_refused(tmp_path: Path, volume: Path, path: str) -> None:
    words = 'failed to prepare subPath for volumeMount "data" of container "app"'
    with pytest.raises(ContainerConfigError, match=words):
        open_sub_path(place(tmp_path), str(volume), path)
    assert os.listdir(tmp_path / "precious") == ["canary"] and not Path("/etc/new").exists()


@pytest.mark.parametrize("path", ["/etc", "..", "dir/../dir"])
def test_forms_that_are_refused(tmp_path: Path, volume: Path, path: str) -> None:
    with pytest.raises(ContainerConfigError, match=r"SubPath `.*`:? must not"):
        open_sub_path(place(tmp_path), str(volume), path)


async def test_a_swap_after_the_check_changes_nothing(tmp_path: Path, volume: Path) -> None:
    found = Path(open_sub_path(place(tmp_path), str(volume), "dir"))
    (volume / "dir").rename(volume / "moved")
    (volume / "dir").symlink_to(tmp_path / "precious")
    assert os.listdir(found) == ["file"], "the folder that was checked, whatever its name means now"
    with pytest.raises(ContainerConfigError):
        open_sub_path(place(tmp_path), str(volume), "dir")
    await VolumeManager(str(tmp_path / "pods")).teardown("uid")
    assert (tmp_path / "precious/canary").read_text() == "alive"


async def test_again_takes_the_place_of_what_was_there(tmp_path: Path, volume: Path) -> None:
    for path in ("dir", "dir/file", "link"):
        found = open_sub_path(place(tmp_path), str(volume), path)
        assert os.path.isdir(found) == (path != "dir/file")
        assert len(mounted(tmp_path)) == 1
    await VolumeManager(str(tmp_path / "pods")).teardown("uid")

"""Volumes on a temporary folder, hostile trees included. Mounts are in tests/host."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.objects import ObjectMeta, Pod, PodSpec, Volume
from minikubelet.kubelet.objects.volumes import (
    ConfigMapVolumeSource,
    EmptyDirVolumeSource,
    GitRepoVolumeSource,
    HostPathVolumeSource,
    NFSVolumeSource,
)
from minikubelet.kubelet.volumes.host_path import HostPath
from minikubelet.kubelet.volumes.manager import VolumeManager
from minikubelet.kubelet.volumes.plugin import Request


def pod_with(*volumes: Volume, uid: str = "uid-1") -> Pod:
    return Pod(metadata=ObjectMeta(name="p", namespace="n", uid=uid), spec=PodSpec(volumes=list(volumes)))


def empty(name: str = "data", **more: object) -> Volume:
    return Volume(name=name, empty_dir=EmptyDirVolumeSource(**more))  # type: ignore[arg-type]


async def test_empty_dir_is_open_to_all_users_and_survives_a_second_setup(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path))
    old = os.umask(0o077)
    try:
        paths = await manager.setup(pod_with(empty()))
    finally:
        os.umask(old)
    folder = tmp_path / "uid-1/volumes/kubernetes.io~empty-dir/data"
    assert paths == {"data": str(folder)}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    (folder / "kept").write_text("x")
    await manager.setup(pod_with(empty()))
    assert (folder / "kept").read_text() == "x"


async def test_teardown_removes_the_pods_volumes_only(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path))
    await manager.setup(pod_with(empty(), uid="one"))
    await manager.setup(pod_with(empty(), uid="two"))
    (tmp_path / "one/other").write_text("kept")
    await manager.teardown("one")
    await manager.teardown("one")
    await manager.teardown("never-seen")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["other"]
    assert (tmp_path / "two/volumes/kubernetes.io~empty-dir/data").is_dir()


async def test_teardown_follows_no_planted_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("alive")
    manager = VolumeManager(str(tmp_path / "pods"))
    data = Path((await manager.setup(pod_with(empty())))["data"])
    (data / "link").symlink_to(outside)
    (data / "file-link").symlink_to(outside / "canary")
    (data / "sub").mkdir(mode=0)
    os.mkfifo(data / "fifo")
    (data.parent / "swapped").symlink_to(outside)
    await manager.teardown("uid-1")
    assert (outside / "canary").read_text() == "alive"
    assert not (tmp_path / "pods/uid-1/volumes").exists()


async def test_teardown_refuses_a_pod_folder_that_is_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside/volumes"
    outside.mkdir(parents=True)
    (tmp_path / "pods").mkdir()
    (tmp_path / "pods/uid-1").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError):
        await VolumeManager(str(tmp_path / "pods")).teardown("uid-1")
    assert outside.is_dir()


async def test_teardown_of_a_very_deep_tree(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path))
    folder = os.open((await manager.setup(pod_with(empty())))["data"], os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    await manager.teardown("uid-1")
    assert not (tmp_path / "uid-1/volumes").exists()


@pytest.mark.parametrize("uid", ["", ".", "..", "a/b", "../x", "a\0b", "a\n"])
async def test_strange_uids_are_refused(tmp_path: Path, uid: str) -> None:
    manager = VolumeManager(str(tmp_path))
    with pytest.raises(NodeError, match=r"metadata\.uid"):
        await manager.setup(pod_with(empty(), uid=uid))
    with pytest.raises(NodeError, match=r"metadata\.uid"):
        await manager.teardown(uid)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../../etc"])
async def test_strange_volume_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NodeError, match=r"spec\.volumes\[0\]\.name"):
        await VolumeManager(str(tmp_path)).setup(pod_with(empty(name)))


async def test_unsupported_kinds_name_their_field(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path))
    volumes = (
        empty("a"),
        Volume(name="b", nfs=NFSVolumeSource(server="c")),
        Volume(name="c", git_repo=GitRepoVolumeSource(repository="https://x")),
    )
    with pytest.raises(NodeError, match=r"spec\.volumes\[1\]\.nfs: .*not supported") as caught:
        await manager.setup(pod_with(*volumes))
    assert caught.value.code is Code.UNIMPLEMENTED
    fields = [error.field for error in manager.unsupported(pod_with(*volumes))]
    assert fields == ["spec.volumes[1].nfs", "spec.volumes[2].gitRepo"]
    with pytest.raises(NodeError, match=r"emptyDir\.medium: medium 'HugePages'"):
        await manager.setup(pod_with(empty(medium="HugePages")))
    with pytest.raises(NodeError, match=r"emptyDir\.sizeLimit"):
        await manager.setup(pod_with(empty(size_limit="lots")))


async def test_other_kinds_plug_in(tmp_path: Path) -> None:
    class Plugin:
        def setup(self, request: Request) -> str:
            return f"/made/{request.volume.name}/{request.field}"

    manager = VolumeManager(str(tmp_path), {"config_map": Plugin()})
    volume = Volume(name="b", config_map=ConfigMapVolumeSource(name="c"))
    assert await manager.setup(pod_with(volume)) == {"b": "/made/b/spec.volumes[0].configMap"}


class Host:
    """A host's file system in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "dir").mkdir()
        (root / "file").write_text("x")
        os.mkfifo(root / "fifo")
        (root / "to-dir").symlink_to("dir")
        (root / "escape").symlink_to("../../../../..")
        (root / "dangling").symlink_to("nowhere/x")
        (root / "loop").symlink_to("loop")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(root / "socket"))

    async def setup(self, path: str, kind: str | None) -> str:
        manager = VolumeManager(str(self.root / "pods"), {"host_path": HostPath(str(self.root))})
        volume = Volume(name="h", host_path=HostPathVolumeSource(path=path, type=kind))
        found = (await manager.setup(pod_with(volume)))["h"]
        return "/" + os.path.relpath(found, self.root).removeprefix(".")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("path", "kind", "found"),
    [
        ("/dir", None, "/dir"),
        ("/dir/", "Directory", "/dir"),
        ("/to-dir", "Directory", "/dir"),
        ("//dir/./", "", "/dir"),
        ("/file", "File", "/file"),
        ("/socket", "Socket", "/socket"),
        ("/missing", "", "/missing"),
        ("/new/deep/dir", "DirectoryOrCreate", "/new/deep/dir"),
        ("/dir", "DirectoryOrCreate", "/dir"),
        ("/dir/new", "FileOrCreate", "/dir/new"),
        ("/file", "FileOrCreate", "/file"),
        ("/escape", "Directory", "/"),
        ("/escape/dir", "Directory", "/dir"),
    ],
)
async def test_host_paths(host: Host, path: str, kind: str | None, found: str) -> None:
    assert await host.setup(path, kind) == found


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/file", "Directory", "/file is not a directory"),
        ("/file", "DirectoryOrCreate", "/file is not a directory"),
        ("/dir", "File", "/dir is not a file"),
        ("/dir", "FileOrCreate", "/dir is not a file"),
        ("/fifo", "File", "/fifo is not a file"),
        ("/fifo", "FileOrCreate", "/fifo is not a file"),
        ("/file", "Socket", "/file is not a socket file"),
        ("/file", "CharDevice", "/file is not a character device"),
        ("/fifo", "BlockDevice", "/fifo is not a block device"),
        ("/missing", "Directory", "/missing is not a directory"),
        ("/missing", "File", "/missing is not a file"),
        ("/missing/new", "FileOrCreate", "/missing/new is not a file"),
        ("/dangling", "FileOrCreate", "hostPath /dangling: "),
        ("/dangling", "DirectoryOrCreate", "hostPath /dangling: "),
        ("/dangling/below", "DirectoryOrCreate", "hostPath /dangling/below: "),
        ("/loop", "Directory", "hostPath /loop: "),
        ("/file/below", "", "hostPath /file/below: "),
    ],
)
async def test_host_path_checks_fail(host: Host, path: str, kind: str, words: str) -> None:
    before = sorted(os.listdir(host.root))
    with pytest.raises(NodeError) as caught:
        await host.setup(path, kind)
    assert words in str(caught.value) and caught.value.field == "spec.volumes[0].hostPath"
    assert [name for name in sorted(os.listdir(host.root)) if name != "pods"] == before


@pytest.mark.parametrize("path", ["", "dir", "../dir", "/dir/../..", "/a\0b"])
async def test_host_path_forms_are_refused(host: Host, path: str) -> None:
    with pytest.raises(NodeError, match=r"spec\.volumes\[0\]\.hostPath\.path"):
        await host.setup(path, None)


async def test_unknown_host_path_type(host: Host) -> None:
    with pytest.raises(NodeError, match=r"hostPath\.type: unknown type 'directory'"):
        await host.setup("/dir", "directory")


async def test_devices(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path))
    volume = Volume(name="n", host_path=HostPathVolumeSource(path="/dev/null", type="CharDevice"))
    assert await manager.setup(pod_with(volume)) == {"n": "/dev/null"}

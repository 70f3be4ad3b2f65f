"""Volumes that are mounts: tmpfs emptyDirs, and trees with mounts in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.kubelet.objects import Container, ObjectMeta, Pod, PodSpec, Volume
from minikubelet.kubelet.objects.containers import ResourceRequirements
from minikubelet.kubelet.objects.volumes import EmptyDirVolumeSource
from minikubelet.kubelet.volumes.manager import VolumeManager
from minikubelet.linux import mounts

MS_BIND = 0x1000
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


@pytest.fixture(autouse=True)
def no_mount_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    left = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [path for path in left if path.startswith(str(tmp_path))]
    for path in reversed(left):
        mounts.unmount(path)
    assert not left


def memory_pod(limit: str | None = "1Mi", memory: str = "") -> Pod:
    source = EmptyDirVolumeSource(medium="Memory", size_limit=limit)
    resources = ResourceRequirements(limits={"memory": memory} if memory else {})
    spec = PodSpec(
        volumes=[Volume(name="m", empty_dir=source)], containers=[Container(name="c", resources=resources)]
    )
    return Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=spec)


async def test_memory_volume_has_its_size_and_is_mounted_once(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path))
    path = Path((await manager.setup(memory_pod()))["m"])
    assert path.is_mount() and path.stat().st_mode & 0o777 == 0o777
    with pytest.raises(OSError, match="No space left"):
        (path / "big").write_bytes(b"x" * (2 << 20))
    (path / "big").unlink()
    (path / "kept").write_text("x")
    assert (await manager.setup(memory_pod()))["m"] == str(path)
    assert (path / "kept").read_text() == "x"
    await manager.teardown("u")
    assert not (tmp_path / "u/volumes").exists()


async def test_memory_volume_is_not_larger_than_the_pods_limit(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path))
    path = (await manager.setup(memory_pod(None, "2Mi")))["m"]
    size = os.statvfs(path)
    assert size.f_blocks * size.f_frsize == 2 << 20
    await manager.teardown("u")


async def test_teardown_leaves_what_is_mounted_in_a_volume_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "canary").write_text("alive")
    manager = VolumeManager(str(tmp_path / "pods"))
    pod = memory_pod()
    pod.spec.volumes = [Volume(name="d", empty_dir=EmptyDirVolumeSource())]
    inside = Path((await manager.setup(pod))["d"]) / "deep/mounted"
    inside.mkdir(parents=True)
    mounts.mount(str(precious), str(inside), "none", MS_BIND, "")
    try:
        with pytest.raises((OSError, NodeError)):
            await manager.teardown("u")
        assert (precious / "canary").read_text() == "alive"
    finally:
        mounts.unmount(str(inside))
    await manager.teardown("u")
    assert not (tmp_path / "pods/u/volumes").exists()
    assert (precious / "canary").read_text() == "alive"

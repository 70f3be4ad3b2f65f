"""One spawner a module, pods that must leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minikubelet.spawner import cgroups
from tests.host.spawner.harness import Pod, Spawner, make_image, wait_until

MakePod = Callable[..., Pod]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        reason = pytest.mark.skip(reason="needs root: makes namespaces and cgroups")
        for item in items:
            if "tests/host/spawner" in str(item.path):
                item.add_marker(reason)


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    running = Spawner()
    yield running
    running.close()


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    folder = tmp_path / "layers"
    make_image(folder)
    return folder


@pytest.fixture
def make_pod(spawner: Spawner, tmp_path: Path, layers: Path) -> Iterator[MakePod]:
    """Makes pods; at the end each is shut down, and no mount, cgroup or process is left."""
    pods: list[Pod] = []

    def make(name: str = "pod", **settings: object) -> Pod:
        pod = Pod(spawner, tmp_path / name, name, layers)
        pods.append(pod)
        if settings.pop("start", True):
            pod.start(**settings)
            for fd in pod.control.fds:
                os.close(fd)
        return pod

    yield make
    for pod in pods:
        if not pod.ended:
            pod.shutdown()
    for pod in pods:
        assert not (pod.run_dir / "monitor.sock").exists()
        assert not pod.cgroup_folder().exists()
        errors = (pod.run_dir / "monitor.log").read_text()
        assert "Traceback" not in errors, errors
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    parent = Path(cgroups.mount_point()) / f"minikubelet-test-{os.getpid()}"
    if parent.exists():
        parent.rmdir()
    wait_until(lambda: not _children_of(spawner.process.pid), "the spawner's children to be reaped")


def _children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture
def pod(make_pod: MakePod) -> Pod:
    """A started pod with defaults."""
    return make_pod()

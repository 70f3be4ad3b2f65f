"""Fixtures of the host lane: a registry, a daemon, and that no test leaves anything behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host import leaks
from tests.host.node import Node, find_crictl
from tests.images import catalog
from tests.registry import Registry


def pytest_configure() -> None:
    leaks.become_subreaper()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the machine is as before it; what its own fixtures made is gone by then."""
    before = leaks.Snapshot.take()
    yield
    left = leaks.wait_until_clean(before)
    assert not left, f"{request.node.nodeid} left behind:\n" + "\n".join(left)


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """Serves `busybox:1` and whatever tests add."""
    with Registry() as served:
        served.add("busybox:1", catalog.busybox())
        served.add("configured:1", catalog.configured())
        yield served


@pytest.fixture(scope="session")
def certs_dir(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `certs.d` that says how to reach the registry: over plain HTTP."""
    directory = tmp_path_factory.mktemp("certs.d")
    host = directory / registry.address
    host.mkdir()
    (host / "hosts.toml").write_text(f'server = "{registry.url}"\n')
    return directory


@pytest.fixture(scope="session")
def busybox(registry: Registry) -> str:
    """The reference of an image with a shell."""
    return f"{registry.address}/busybox:1"


def need_root_and_crictl() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if find_crictl() is None:
        pytest.skip("no crictl: build it with scripts/peers crictl, which needs Go")


@pytest.fixture
def new_node(certs_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Makes daemons of the test's own, not yet started; each is finished and checked at the end."""
    need_root_and_crictl()
    made: list[Node] = []

    def make(*options: str, kubelet: bool = False) -> Node:
        node = Node(tmp_path / f"node{len(made)}", certs_dir, *options, kubelet=kubelet)
        made.append(node)
        return node

    yield make
    problems = []
    for node in made:
        try:
            node.finish()
        except AssertionError as exc:
            problems.append(str(exc))
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def module_node(certs_dir: Path, busybox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    need_root_and_crictl()
    node = Node(tmp_path_factory.mktemp("node"), certs_dir)
    try:
        node.start()
        node.crictl("pull", busybox)
        yield node
    finally:
        node.finish()


@pytest.fixture
def node(module_node: Node) -> Iterator[Node]:
    """A running daemon that has `busybox` and no pods; the test may leave pods, they are removed."""
    yield module_node
    if module_node.process is None:
        module_node.start()
    module_node.crictl("rmp", "--all", "--force")
    for folder in module_node.logs.iterdir():
        shutil.rmtree(folder)
    left = leaks.left_by_pods(module_node.config)
    assert not left, "\n".join(["left behind:", *left, module_node.log()])

"""Fixtures of the upstream lane: the host lane's, and an unmodified upstream kubelet on our CRI socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.host.conftest import (
    certs_dir,
    need_root_and_crictl,
    new_node,
    nothing_left,
    pytest_configure,
    registry,
)
from tests.host.node import Node
from tests.images import catalog
from tests.registry import Registry
from tests.upstream.site import Site
from tests.upstream_kubelet import PEERS, find_kubelet

__all__ = ["certs_dir", "new_node", "nothing_left", "pytest_configure", "registry"]


def need(*peers: str) -> None:
    """Skip unless scripts/peers has built these programs."""
    need_root_and_crictl()
    for name in peers:
        if not (PEERS / name).exists():
            pytest.skip(f"no {name}: build it with scripts/peers {name}, which needs Go")


@pytest.fixture(scope="session")
def images(registry: Registry) -> Mapping[str, str]:
    """The references that manifests name by these words."""
    need("agnhost")
    registry.add("agnhost:1", catalog.agnhost(PEERS / "agnhost"))
    return {
        "BUSYBOX": f"{registry.address}/busybox:1",
        "CONFIGURED": f"{registry.address}/configured:1",
        "AGNHOST": f"{registry.address}/agnhost:1",
    }


@pytest.fixture(scope="module")
def settings(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """What a module's kubelet has configured otherwise: its SETTINGS."""
    found: Mapping[str, Any] = getattr(request.module, "SETTINGS", {})
    return found


@pytest.fixture(scope="module")
def module_site(
    certs_dir: Path,
    images: Mapping[str, str],
    settings: Mapping[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    if find_kubelet() is None:
        pytest.skip("no kubelet: build it with scripts/peers kubelet, which needs Go")
    node = Node(tmp_path_factory.mktemp("node"), certs_dir, "--unenforced-limits=allow")
    site = Site(node, tmp_path_factory.mktemp("k"), images, settings)
    try:
        node.start()
        for image in images.values():
            node.crictl("pull", image)
        site.kubelet.start()
        yield site
    finally:
        site.kubelet.stop()
        node.finish()


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    """Daemon and kubelet, running, without pods; those that the test makes are removed after it."""
    yield module_site
    module_site.clean()

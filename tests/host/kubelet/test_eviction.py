"""Eviction over real runtimes, on a small file system of the kubelet's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient
from tests.host.kubelet.runtimes import PATIENCE
from tests.host.kubelet.test_pods import Node
from tests.host.node import wait_for


@pytest.fixture
def node(endpoint: str, tmp_path: Path) -> Iterator[Node]:
    """A kubelet whose root is a tmpfs of 32 MiB."""
    made = Node(endpoint, tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "mkkubtest", root], check=True)
    try:
        made.config.resources.eviction.monitoring_period = 0.2
        made.config.resources.eviction.hard = {"nodefs.available": "50%"}
        yield made
    finally:
        unmount = ["umount", str(root)]
        wait_for("nobody is there any more", lambda: subprocess.run(unmount, check=False).returncode == 0)


def writer(mebibytes: int, grace: int = 0, **volume: str) -> str:
    return f"""
    terminationGracePeriodSeconds: {grace}
    containers:
    - name: app
      image: IMAGE
      command: [sh, -c, "dd if=/dev/zero of=/data/file bs=1M count={mebibytes}; trap '' TERM; sleep 1000"]
      volumeMounts: [{{name: data, mountPath: /data}}]
    volumes:
    - name: data
      emptyDir: {volume or "{}"}
    """


async def test_the_pod_that_fills_the_node_goes_and_the_other_stays(node: Node) -> None:
    node.write("small", writer(1))
    async with node.running():
        await node.until(lambda: node.container("small").ready)
        node.write("large", writer(20, grace=600))
        await node.until(lambda: node.pod("large").status.reason == "Evicted")
        status = node.pod("large").status
        assert status.phase == "Failed"
        assert status.message.startswith(
            "The node was low on resource: ephemeral-storage. Threshold quantity: 16Mi, available: "
        )
        await node.until(
            lambda: not list((node.folder / "root/pods" / node.pod("large").uid).glob("volumes"))
        )
        assert node.pod("small").status.phase == "Running"
        client = CriClient(node.config.container_runtime_endpoint)
        try:
            sandboxes = await client.list_pod_sandboxes()
            assert [each.metadata.name for each in sandboxes] == ["small-host"]
            assert sandboxes[0].state == api.SANDBOX_READY
        finally:
            await client.close()


async def test_an_empty_dir_over_its_size_limit_ends_its_pod(node: Node) -> None:
    node.config.resources.eviction.hard = {}
    node.write("greedy", writer(3, sizeLimit="2Mi"))
    node.write("modest", writer(1, sizeLimit="2Mi"))
    async with node.running():
        await node.until(lambda: node.pod("greedy").status.reason == "Evicted")
        status = node.pod("greedy").status
        assert status.message == 'Usage of EmptyDir volume "data" exceeds the limit "2Mi". '
        await node.until(lambda: node.container("modest").ready)


async def test_a_writable_layer_over_its_limit_ends_its_pod(node: Node) -> None:
    node.config.resources.eviction.hard = {}
    node.write(
        "layer",
        """
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c, "dd if=/dev/zero of=/file bs=1M count=12; sleep 1000"]
          resources: {limits: {ephemeral-storage: 8Mi}}
        """,
    )
    async with node.running():
        await node.until(lambda: node.pod("layer").status.reason == "Evicted", 2 * PATIENCE)
        words = "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. "
        assert node.pod("layer").status.message == words

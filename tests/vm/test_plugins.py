"""What NRI plugins and CRIU do on a kernel that has all controllers, and that Debian's CRIU knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.linux.cgroup.mount import find_mount
from tests.host.node import Node, wait_for
from tests.host.runtime.client import Client
from tests.host.runtime.test_checkpoint import criu, test_a_counting_container
from tests.unit.nri.fake import FakePlugin

__all__ = ["criu", "test_a_counting_container"]


@pytest.fixture
async def client(node: Node, busybox: str) -> AsyncIterator[Client]:
    made = Client(node.config.listen, busybox)
    yield made
    await made.close()


async def test_a_plugin_sets_and_updates_limits(node: Node, client: Client) -> None:
    if "memory" not in find_mount().controllers:
        pytest.skip("this host's cgroup2 lacks controllers: run scripts/test vm")

    def create(asked: nri.CreateContainerRequest) -> nri.CreateContainerResponse:
        answer = nri.CreateContainerResponse()
        resources = answer.adjust.linux.resources
        resources.memory.limit.value = 64 << 20
        resources.pids.limit = 99
        return answer

    def update(asked: nri.UpdateContainerRequest) -> nri.UpdateContainerResponse:
        answer = nri.UpdateContainerResponse()
        resources = answer.update.add(container_id=asked.container.id).linux.resources
        resources.memory.limit.value = 2 * asked.linux_resources.memory.limit.value
        return answer

    plugin = FakePlugin("limits", "10", CreateContainer=create, UpdateContainer=update)
    await plugin.connect(node.config.nri_path)
    connected = "NRI plugin 10-limits is connected"
    await asyncio.to_thread(wait_for, connected, lambda: connected in node.log())
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000"))
    (folder,) = Path(find_mount().path).rglob(app)
    assert (folder / "memory.max").read_text() == f"{64 << 20}\n"
    assert (folder / "pids.max").read_text() == "99\n"

    wanted = api.LinuxContainerResources(memory_limit_in_bytes=80 << 20)
    request = api.UpdateContainerResourcesRequest(container_id=app, linux=wanted)
    await client.runtime.UpdateContainerResources(request)
    assert (folder / "memory.max").read_text() == f"{160 << 20}\n"

    unasked = nri.UpdateContainersRequest()
    unasked.update.add(container_id=app).linux.resources.cpu.quota.value = 25_000
    assert (await plugin.request("UpdateContainers", unasked)).status.code == 0
    assert (folder / "cpu.max").read_text() == "25000 100000\n"
    assert (folder / "pids.max").read_text() == "99\n"
    status = (await client.status(app)).resources.linux
    assert (status.memory_limit_in_bytes, status.cpu_quota) == (160 << 20, 25_000)
    await plugin.close()

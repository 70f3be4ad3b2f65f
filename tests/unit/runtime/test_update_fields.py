"""Errors of updates name the fields of the update's own request."""

from __future__ import annotations

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.models import LinuxResources
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.update_resources import update_resources
from minikubelet.runtime.update_sandbox_resources import update_sandbox_resources
from tests.unit.runtime.fakes import FakeNode, container_config, sandbox_config

WRONG = [
    (LinuxResources(oom_score_adj=1001), "oom_score_adj"),
    (LinuxResources(cpu_shares=-1), "cpu_shares"),
    (LinuxResources(memory_limit=-2), "memory_limit_in_bytes"),
    (LinuxResources(unified={"cgroup.procs": "1"}), "unified"),
]


@pytest.mark.parametrize(("resources", "name"), WRONG)
async def test_of_a_container(node: FakeNode, resources: LinuxResources, name: str) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    container_id = await create_container(node.context, sandbox_id, container_config())
    with pytest.raises(NodeError) as caught:
        await update_resources(node.context, container_id, resources)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.field == f"linux.{name}"


@pytest.mark.parametrize(("resources", "name"), WRONG)
async def test_of_a_pod(node: FakeNode, resources: LinuxResources, name: str) -> None:
    sandbox_id = await run_sandbox(node.context, sandbox_config(), "")
    with pytest.raises(NodeError) as caught:
        await update_sandbox_resources(node.context, sandbox_id, None, resources)
    assert caught.value.field == f"resources.{name}"

"""Checkpoint and restore with the distribution's own kernel and CRIU, and every cgroup controller."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.host.node import Node
from tests.host.runtime.client import Client
from tests.host.runtime.test_restore import (
    criu,
    test_a_container_with_few_rights,
    test_counting_goes_on_in_another_pod,
)

__all__ = ["criu", "test_a_container_with_few_rights", "test_counting_goes_on_in_another_pod"]


@pytest.fixture
async def client(node: Node, busybox: str) -> AsyncIterator[Client]:
    made = Client(node.config.listen, busybox)
    yield made
    await made.close()

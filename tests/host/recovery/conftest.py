"""A CRI client of a node that comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.host.node import Node
from tests.host.runtime.client import Client


@pytest.fixture
async def client(node: Node, busybox: str) -> AsyncIterator[Client]:
    made = Client(node.config.listen, busybox)
    yield made
    await made.close()

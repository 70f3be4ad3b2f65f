"""A runtime on fakes of images, network, monitors and spawner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.runtime.fakes import FakeNode


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[FakeNode]:
    made = FakeNode(tmp_path / "node")
    yield made
    made.close()

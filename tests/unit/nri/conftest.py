"""A manager behind its socket, and plugins that are closed when the test ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from minikubelet.nri.manager import Manager
from minikubelet.nri.plugin import Timeouts
from minikubelet.nri.server import NriServer
from tests.unit.nri.fake import Answer, FakeNode, FakePlugin


@dataclass
class Scene:
    node: FakeNode
    manager: Manager
    path: str
    plugins: list[FakePlugin]

    async def plugin(self, name: str, index: str, events: int = 0, **answers: Answer) -> FakePlugin:
        """One that is connected and synchronized."""
        made = FakePlugin(name, index, events, **answers)
        self.plugins.append(made)
        await made.connect(self.path)
        await until(lambda: "Synchronize" in made.methods() and self.manager.active)
        return made


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is on its way."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not happened")


MakeScene = Callable[[Timeouts], Awaitable[Scene]]


@pytest.fixture
async def make_scene(tmp_path: Path) -> AsyncIterator[MakeScene]:
    made: list[tuple[Scene, NriServer]] = []

    async def make(timeouts: Timeouts) -> Scene:
        node = FakeNode()
        manager = Manager(node, timeouts)
        path = str(tmp_path / f"nri{len(made)}.sock")
        server = NriServer(path, manager)
        await server.start()
        made.append((Scene(node, manager, path, []), server))
        return made[-1][0]

    yield make
    for scene, server in made:
        for plugin in scene.plugins:
            plugin.writer.close()
        await server.close()


@pytest.fixture
async def scene(make_scene: MakeScene) -> Scene:
    return await make_scene(Timeouts(registration=5, request=10))

"""Whatever is cut off at whatever moment: in the end everything is as it should be, and nothing ran twice."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.fake_cri import Behaviour
from tests.unit.kubelet.harness import Harness, make_pod


@pytest.mark.parametrize("seed", range(6))
async def test_a_kubelet_cut_off_at_random_moments(harness: Harness, seed: int) -> None:
    chance = random.Random(seed)
    harness.cri.behaviours["init"] = Behaviour(exit_at_once=0)
    inits = [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}]
    pods = [make_pod(name, {"name": "app"}, {"name": "other"}, initContainers=inits) for name in ("a", "b")]
    for _ in range(12):
        async with harness.running():
            harness.source.set(*pods)
            await asyncio.sleep(chance.random() * 0.04)
    async with harness.running():
        harness.source.set(*pods)
        for name in ("a", "b"):
            await harness.ready(name)
            assert harness.container("app", name).restart_count == 0
            assert harness.container("side", name).restart_count == 0
        assert harness.cri.started_twice == []
        assert harness.cri.running() == sorted(["app", "other", "side"] * 2)
        assert len(harness.cri.sandboxes) == 2


@pytest.mark.parametrize("seed", range(4))
async def test_manifests_that_come_and_go_at_random_moments(harness: Harness, seed: int) -> None:
    chance = random.Random(seed)
    side = {"name": "side", "restartPolicy": "Always"}
    versions = [make_pod("web", {"name": "app", "args": [str(n)]}, initContainers=[side]) for n in range(3)]
    async with harness.running():
        for _ in range(25):
            harness.source.set(*chance.sample(versions, chance.randint(0, 1)))
            await asyncio.sleep(chance.random() * 0.05)
        harness.source.set(versions[1])
        await harness.until(lambda: harness.pod().uid == versions[1].uid and harness.newest_args() == ["1"])
        await harness.ready()
        assert harness.cri.started_twice == []
        assert len(harness.cri.sandboxes) == 1
        harness.source.set()
        await harness.until(lambda: not harness.cri.sandboxes and not harness.kubelet.pods())


async def test_a_runtime_that_comes_and_goes(harness: Harness) -> None:
    chance = random.Random(1)
    pods = [make_pod(f"p{number}") for number in range(5)]
    async with harness.running():
        harness.source.set(*pods)
        for _ in range(5):
            await asyncio.sleep(chance.random() * 0.05)
            await harness.cri.stop()
            await asyncio.sleep(chance.random() * 0.05)
            await harness.cri.start()
        for _ in range(40):
            harness.clock.advance(10)
            await asyncio.sleep(0.1)
            if len(harness.cri.running()) == 5:
                break
        for number in range(5):
            await harness.ready(f"p{number}")
        assert harness.cri.started_twice == [] and len(harness.cri.sandboxes) == 5

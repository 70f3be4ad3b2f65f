"""How long faults are borne, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from minikubelet.images import patience
from minikubelet.images.patience import Patience, Trouble, Turns, Unreachable


class Clock:
    """Time that passes when it is told to, or slept through."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    yield clock


async def fail(clock: Clock, turn: Patience, seconds: float) -> None:
    """Attempts that take ``seconds`` each (or as long as they are let), until there is no more patience."""
    while True:
        began = clock.now
        clock.now += turn.silence(seconds)
        if not await turn.pause(Unreachable("silence"), began):
            return


@pytest.mark.parametrize("hosts", [1, 2, 3, 5, 8])
async def test_all_hosts_together_take_less_than_half_a_minute(clock: Clock, hosts: int) -> None:
    trouble = Trouble()
    with trouble.asking():
        turns = Turns(hosts, trouble)
        asked = 0
        while asked < hosts and not turns.exhausted():
            turn = turns.next()
            await fail(clock, turn, 15.0)
            turns.gave_up(turn)
            asked += 1
    assert asked == hosts
    assert clock.now - 1000 <= 30


async def test_objects_of_one_pull_share_the_time(clock: Clock) -> None:
    trouble = Trouble()
    for _ in range(3):
        with trouble.asking():
            await fail(clock, Turns(1, trouble).next(), 15.0)
    assert clock.now - 1000 <= 34  # the least that each attempt gets comes on top


async def test_progress_gives_all_the_time_back(clock: Clock) -> None:
    trouble = Trouble()
    with trouble.asking():
        turn = Turns(1, trouble).next()
        for _ in range(100):
            began = clock.now
            clock.now += 10
            assert await turn.pause(Unreachable("cut"), began)
            turn.progress(patience.PROGRESS)
        assert turn.left() == pytest.approx(patience.OBJECT_SECONDS)


async def test_a_trickle_is_no_progress(clock: Clock) -> None:
    turn = Turns(1, Trouble()).next()
    for _ in range(25):
        clock.now += 1
        turn.progress(100)
    assert turn.left() <= 0


async def test_a_host_that_gave_content_leaves_the_next_one_its_time(clock: Clock) -> None:
    trouble = Trouble()
    turns = Turns(2, trouble)
    mirror = turns.next()
    clock.now += 100
    mirror.progress(patience.PROGRESS)
    turns.gave_up(mirror)
    assert turns.next().left() == pytest.approx(patience.OBJECT_SECONDS)


async def test_time_in_which_nothing_is_asked_does_not_count(clock: Clock) -> None:
    trouble = Trouble()
    with trouble.asking():
        trouble.began(clock.now)
        clock.now += 5
    clock.now += 1000
    with trouble.asking():
        assert trouble.left() == pytest.approx(patience.PULL_SECONDS - 5)


async def test_who_refuses_is_asked_less_often(clock: Clock) -> None:
    turn = Turns(1, Trouble()).next()
    attempts = 0
    while await turn.pause(Unreachable("refused", refused=True), clock.now):
        attempts += 1
    assert attempts == 2
    assert not await Turns(1, Trouble()).next().pause(Unreachable("busy", after=3600), clock.now)

"""Readers of an output stream: back pressure, and its end."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from minikubelet.spawner import readers
from minikubelet.spawner.loop import Loop
from minikubelet.spawner.readers import Reader

BIG = bytes(range(256)) * 8192  # 2 MiB: more than any pipe takes


class Scene:
    """A reader whose loop runs until it has room again."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.rooms = 0
        self.reader = Reader(self.loop, self.on_room)

    def on_room(self) -> None:
        self.rooms += 1
        self.loop.stop()

    def read(self) -> bytes:
        return os.read(self.reader.read_end, 1 << 20)

    def drain_in_the_loop(self, done: Callable[[], bool]) -> bytes:
        received = b""

        def take(_events: int) -> None:
            nonlocal received
            received += self.read()
            if done():
                self.loop.stop()

        self.loop.watch(self.reader.read_end, take)
        self.loop.run()
        return received


def test_what_fits_is_passed_on_at_once() -> None:
    scene = Scene()
    scene.reader.write(b"abc")
    assert not scene.reader.behind
    assert scene.read() == b"abc"
    scene.reader.finish()
    assert scene.read() == b""
    os.close(scene.reader.read_end)


def test_what_does_not_fit_is_kept_and_then_told() -> None:
    scene = Scene()
    scene.reader.write(BIG)
    assert scene.reader.behind
    scene.reader.write(b"more")
    received = scene.drain_in_the_loop(lambda: not scene.reader.behind)
    assert scene.rooms == 1
    scene.reader.finish()
    while chunk := scene.read():
        received += chunk
    assert received == BIG + b"more"
    os.close(scene.reader.read_end)


def test_the_end_comes_after_what_is_kept() -> None:
    scene = Scene()
    scene.reader.write(BIG)
    scene.reader.finish()
    assert not scene.reader.gone
    received = scene.drain_in_the_loop(lambda: scene.reader.gone)
    while chunk := scene.read():
        received += chunk
    assert received == BIG
    os.close(scene.reader.read_end)


def test_a_reader_that_goes_is_told() -> None:
    scene = Scene()
    scene.reader.write(BIG)
    os.close(scene.reader.read_end)
    scene.loop.run()
    assert scene.reader.gone
    assert not scene.reader.behind
    assert scene.rooms == 1


def test_a_reader_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PATIENCE", 0.05)
    scene = Scene()
    scene.reader.write(BIG)
    scene.loop.run()
    assert scene.reader.gone
    assert scene.rooms == 1
    os.close(scene.reader.read_end)

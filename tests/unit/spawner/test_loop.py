"""The loop: timers, failing handlers, and descriptors forgotten in between."""

from __future__ import annotations

import os

import pytest

from minikubelet.spawner.loop import Loop


def test_timers_fire_in_order_and_can_be_cancelled() -> None:
    loop = Loop()
    fired: list[str] = []
    loop.call_later(0.02, loop.stop)
    loop.call_later(0.01, lambda: fired.append("second"))
    loop.call_later(0.0, lambda: fired.append("first"))
    loop.call_later(0.005, lambda: fired.append("never")).cancel()
    loop.run()
    assert fired == ["first", "second"]


def test_a_failing_handler_does_not_stop_the_loop(capfd: pytest.CaptureFixture[str]) -> None:
    loop = Loop()
    reader, writer = os.pipe()

    def fail(_events: int) -> None:
        os.read(reader, 1)
        raise ValueError("handler gone wrong")

    loop.watch(reader, fail)
    loop.call_later(0.02, loop.stop)
    os.write(writer, b"x")
    loop.run()
    assert "handler gone wrong" in capfd.readouterr().err
    os.close(reader)
    os.close(writer)


def test_a_descriptor_forgotten_by_another_handler_is_not_called() -> None:
    loop = Loop()
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def make(number: int) -> None:
        def handle(_events: int) -> None:
            called.append(number)
            for reader, _ in pipes:
                loop.forget(reader)

        loop.watch(pipes[number][0], handle)

    make(0)
    make(1)
    for _, writer in pipes:
        os.write(writer, b"x")
    loop.call_later(0.02, loop.stop)
    loop.run()
    assert len(called) == 1
    for pair in pipes:
        os.close(pair[0])
        os.close(pair[1])

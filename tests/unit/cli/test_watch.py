"""``get -w``: what is there, then what changes, nothing twice; and what may be missing."""

from __future__ import annotations

import asyncio

import pytest

from minikubelet.kubelet.events import NORMAL
from tests.unit.cli.test_against_api import Served, make_pod, served
from tests.unit.cli.test_wait import when_watched, with_ready

__all__ = ["served"]
Capture = pytest.CaptureFixture[str]


def change_and_end(served: Served) -> None:
    """A pod changes as soon as it is watched; then the kubelet ends."""

    def change() -> None:
        served.pods.update(with_ready(make_pod("db"), "True"))
        served.pods.remove(make_pod("web-n1"))
        asyncio.get_running_loop().call_later(0.3, lambda: ends.append(asyncio.ensure_future(close())))

    async def close() -> None:
        assert served._server is not None
        await served._server.close()

    ends: list[asyncio.Future[None]] = []
    when_watched(served, change)


def test_each_state_of_a_pod_is_printed_once(served: Served, capsys: Capture) -> None:
    change_and_end(served)
    assert served.run("get", "pods", "-w", "-o", "name") == 1
    output = capsys.readouterr()
    assert output.out.split() == ["pod/db", "pod/web-n1", "pod/db", "pod/web-n1"]
    assert output.err == "error: the kubelet has ended\n"


def test_changes_alone(served: Served, capsys: Capture) -> None:
    change_and_end(served)
    assert served.run("get", "pods", "--watch-only", "--no-headers") == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["db", "web-n1"]


def test_what_may_be_missing(served: Served, capsys: Capture) -> None:
    assert served.run("get", "pod", "db", "nope", "--ignore-not-found", "-o", "name") == 0
    assert capsys.readouterr() == ("pod/db\n", "")
    assert served.run("get", "cm", "nope", "--ignore-not-found") == 0
    assert capsys.readouterr() == ("", "")


def test_new_events_alone(served: Served, capsys: Capture) -> None:
    served.events.pod(make_pod("db"), NORMAL, "Old", "before")
    real = served.events.watch

    def watch(*, history: bool = True) -> object:
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, served.events.pod, make_pod("db"), NORMAL, "New", "after")
        loop.call_later(0.4, lambda: ends.append(asyncio.ensure_future(close())))
        return real(history=history)

    async def close() -> None:
        assert served._server is not None
        await served._server.close()

    ends: list[asyncio.Future[None]] = []
    setattr(served.events, "watch", watch)  # noqa: B010 - a method, to mypy
    assert served.run("get", "events", "--watch-only", "-o", "jsonpath={.reason} ") == 1
    assert capsys.readouterr().out == "New "

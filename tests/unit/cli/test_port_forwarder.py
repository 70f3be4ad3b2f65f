"""``port-forward``: where it listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from minikubelet.cli import port_forwarder
from minikubelet.cli.options import CommandError
from minikubelet.cli.port_forwarder import Forwarder

Capture = pytest.CaptureFixture[str]


class Lost:
    """A connection to the kubelet that is lost as soon as somebody waits for that."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.lost.set()

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(socket: str, path: str) -> Any:
        return Lost()

    monkeypatch.setattr(port_forwarder, "connect", connect)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(*ports: tuple[int, int]) -> str:
    with pytest.raises(CommandError) as caught:
        asyncio.run(Forwarder("", "/", ["127.0.0.1"], ports).run())
    return str(caught.value)


def test_a_port_that_is_taken_does_not_keep_the_others_from_working(taken: int, capsys: Capture) -> None:
    assert run((taken, 80), (0, 443)) == "lost connection to pod"
    output = capsys.readouterr()
    assert output.err.startswith(f"Unable to listen on port {taken}: 127.0.0.1: ")
    assert output.out.startswith("Forwarding from 127.0.0.1:") and output.out.endswith(" -> 443\n")


def test_all_ports_are_taken(taken: int, capsys: Capture) -> None:
    assert run((taken, 80)) == f"unable to listen on any of the requested ports: {taken}:80"
    assert f"Unable to listen on port {taken}" in capsys.readouterr().err

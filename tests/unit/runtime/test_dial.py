"""Connections to localhost, as port-forward makes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from minikubelet.runtime import dial as module
from minikubelet.runtime.dial import dial


@contextlib.contextmanager
def listening(family: int, address: str, backlog: int = 5) -> Iterator[int]:
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen(backlog)
        yield server.getsockname()[1]


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_either_family(family: int, address: str) -> None:
    with listening(family, address) as port, await dial(-1, port) as connected:
        assert connected.getpeername()[:2] == (address, port)
        assert not connected.getblocking()
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_nobody_listens() -> None:
    with listening(socket.AF_INET, "127.0.0.1") as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        await dial(-1, port)


async def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.socket

    def only_ipv4(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return make(family, kind)

    with listening(socket.AF_INET, "127.0.0.1") as port:
        monkeypatch.setattr("minikubelet.runtime.dial.socket.socket", only_ipv4)
        connected = await dial(-1, port)
        assert connected.getpeername() == ("127.0.0.1", port)
        connected.close()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Its queue is full, and what comes is dropped."""
    with listening(socket.AF_INET, "127.0.0.1", backlog=0) as port, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


async def test_a_port_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with silent_port() as port, pytest.raises(TimeoutError, match="no answer within"):
        await dial(-1, port)


async def test_waiting_takes_no_threads() -> None:
    before = threading.active_count()
    with silent_port() as port:
        calls = [asyncio.create_task(dial(-1, port)) for _ in range(50)]
        await asyncio.sleep(0.5)
        assert not any(call.done() for call in calls)
        assert threading.active_count() <= before + 1
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

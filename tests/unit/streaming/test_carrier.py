"""The end of a SPDY connection on TCP: everything arrives first, and a client that has gone upsets nobody."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from minikubelet.streaming.spdy_http import TransportCarrier


@pytest.fixture
async def pair() -> AsyncIterator[tuple[asyncio.Transport, TransportCarrier, socket.socket]]:
    """Our transport with its carrier, and the client's socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    listener.close()
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    carrier = TransportCarrier(transport)
    transport.set_protocol(carrier)
    yield transport, carrier, client
    transport.abort()
    client.close()


async def test_what_was_sent_arrives_before_the_end(
    pair: tuple[asyncio.Transport, TransportCarrier, socket.socket],
) -> None:
    transport, carrier, client = pair
    sent = 16 << 20
    carrier.send(bytes(sent))
    assert transport.get_write_buffer_size() > 0
    carrier.close()
    loop = asyncio.get_running_loop()
    received = 0
    while data := await loop.sock_recv(client, 1 << 20):
        received += len(data)
    assert received == sent


@pytest.mark.parametrize("pending", [0, 16 << 20])
async def test_the_end_of_a_client_that_has_gone_is_no_error(
    pair: tuple[asyncio.Transport, TransportCarrier, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    pending: int,
) -> None:
    transport, carrier, client = pair
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    ours = transport.get_extra_info("socket")._sock

    class Gone(socket.socket):
        """The client's reset has just come in: shutdown(2) fails."""

        def shutdown(self, how: int) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(transport, "_sock", Gone(fileno=ours.detach()))
    carrier.send(bytes(pending))
    assert bool(transport.get_write_buffer_size()) == bool(pending)
    carrier.close()
    received = 0
    try:
        while data := await loop.sock_recv(client, 1 << 20):
            received += len(data)
    except ConnectionResetError:
        pass
    assert received == pending
    assert transport.is_closing()
    assert not complaints

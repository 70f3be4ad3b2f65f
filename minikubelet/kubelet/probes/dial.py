"""Connections of probes and hooks: addresses of a host one after the other, failures in Go's words."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from minikubelet.kubelet.probes.ports import join_host_port

_T = TypeVar("_T")


class DialError(Exception):
    """No connection; the text is that of Go's net package."""


async def dial(host: str, port: int, connect: Callable[[str], Awaitable[_T]]) -> _T:
    """What ``connect`` makes of the first of the host's addresses at which that works.

    Raises DialError, for the first address if none works.
    """
    first: DialError | None = None
    for address in await _addresses(host, port):
        try:
            return await connect(address)
        except OSError as exc:
            where = f"dial tcp {join_host_port(address, port)}"
            first = first or DialError(f"{where}: connect: {error_text(exc)}")
    raise first or DialError(f"dial tcp: lookup {host}: no such host")


async def _addresses(host: str, port: int) -> list[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [host]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        raise DialError(f"dial tcp: lookup {host}: {exc.strerror or exc}") from exc
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def error_text(exc: OSError) -> str:
    """An OSError in Go's words: the errno's text in lower case, or what else is known."""
    return os.strerror(exc.errno).lower() if exc.errno and exc.errno > 0 else str(exc)

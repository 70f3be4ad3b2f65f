"""TCP probes: whether a connection can be opened. Words of failures follow upstream's pkg/probe/tcp."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from minikubelet.kubelet.probes.http import dial_error
from minikubelet.kubelet.probes.outcome import Outcome, failure, success
from minikubelet.kubelet.probes.ports import join_host_port


async def probe(host: str, port: int, timeout: float) -> Outcome:
    """Connect within ``timeout`` seconds and close again."""
    try:
        async with asyncio.timeout(timeout):
            try:
                family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
            except ValueError:
                return await _by_name(host, port)
            return await _connect(family, host, port)
    except TimeoutError:
        return failure(f"dial tcp {join_host_port(host, port)}: i/o timeout")
    except OSError as exc:
        return failure(dial_error(host, port, exc))


async def _connect(family: int, host: str, port: int) -> Outcome:
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    return success()


async def _by_name(host: str, port: int) -> Outcome:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
    transport.close()
    return success()

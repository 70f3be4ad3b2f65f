"""TCP probes: whether a connection can be opened. Words of failures follow upstream's pkg/probe/tcp."""

from __future__ import annotations

import asyncio
import socket

from minikubelet.kubelet.probes.dial import DialError, dial
from minikubelet.kubelet.probes.outcome import Outcome, failure, success
from minikubelet.kubelet.probes.ports import join_host_port


async def probe(host: str, port: int, timeout: float) -> Outcome:
    """Connect within ``timeout`` seconds and close again."""

    async def connect(address: str) -> Outcome:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        return success()

    try:
        async with asyncio.timeout(timeout):
            return await dial(host, port, connect)
    except TimeoutError:
        return failure(f"dial tcp {join_host_port(host, port)}: i/o timeout")
    except DialError as exc:
        return failure(str(exc))

"""TCP connections to localhost inside a pod, for port-forward."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

from minikubelet.linux import namespaces

TIMEOUT = 10.0
"""Seconds until the pod's kernel must have answered."""


async def dial(netns: int, port: int) -> socket.socket:
    """A non-blocking socket, connected to ``port`` of 127.0.0.1, or of ::1 where nobody listens on the first.

    ``netns`` is a descriptor of the pod's network namespace; -1 for the host's. Raises OSError.
    """
    sockets = await _made_inside(netns)
    connected = None
    try:
        async with asyncio.timeout(TIMEOUT):
            connected = await _connect(sockets, port)
    except TimeoutError:
        raise TimeoutError(f"no answer within {TIMEOUT:g} s") from None
    finally:
        for each in sockets:
            if each is not connected:
                each.close()
    return connected


async def _connect(sockets: list[socket.socket], port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    four, *rest = sockets
    try:
        await loop.sock_connect(four, ("127.0.0.1", port))
    except ConnectionRefusedError:
        for six in rest:
            # Where this fails, too, what the first one said is what a person wants to know.
            with contextlib.suppress(OSError):
                await loop.sock_connect(six, ("::1", port))
                return six
        raise
    return four


async def _made_inside(netns: int) -> list[socket.socket]:
    """An IPv4 and, where there is IPv6, an IPv6 socket of a namespace, where they stay whoever uses them.

    They are made in a thread that enters it (setns(2) is per thread) and ends at once: what may take long,
    connecting, is the event loop's, so that ports that don't answer cost no threads.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[socket.socket]] = loop.create_future()

    def settle(made: list[socket.socket], error: OSError | None) -> None:
        if error is None and not future.done():
            future.set_result(made)
            return
        for each in made:
            each.close()
        if error is not None and not future.done():
            future.set_exception(error)

    def run() -> None:
        made: list[socket.socket] = []
        error = None
        try:
            if netns >= 0:
                namespaces.join(netns, namespaces.CLONE_NEWNET)
            made.append(_socket(socket.AF_INET))
            with contextlib.suppress(OSError):
                made.append(_socket(socket.AF_INET6))
        except OSError as exc:
            error = exc
        loop.call_soon_threadsafe(settle, made, error)

    threading.Thread(target=run, name="port-forward", daemon=True).start()
    return await future


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Small writes are somebody's keystrokes and queries: they don't wait for an acknowledgement.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made

"""Runs a test's body in a child process whose "host" is a fresh network namespace.

Nothing touches the machine's own network, and the kernel takes everything away with the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from minikubelet.base.config import NetworkConfig
from minikubelet.base.database import Database
from minikubelet.network.pod_network import PodNetwork

ROOT = Path(__file__).resolve().parents[3]
CLONE_NEWNET = 0x40000000
Socket = socket.socket
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def unshare_net() -> None:
    _check(_libc.unshare(CLONE_NEWNET))


def set_net(fd: int) -> None:
    _check(_libc.setns(fd, CLONE_NEWNET))


class Namespace:
    """A network namespace held open by a descriptor, with a netlink socket opened in it."""

    def __init__(self) -> None:
        host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare_net()
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        finally:
            set_net(host)
            os.close(host)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        set_net(self.fd)
        try:
            yield
        finally:
            set_net(host)
            os.close(host)

    def socket(self, kind: int = socket.SOCK_STREAM) -> Socket:
        with self.entered():
            return socket.socket(socket.AF_INET, kind)

    def listen(self, port: int, address: str = "0.0.0.0") -> Socket:
        server = self.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        return server

    def run(self, *command: str) -> str:
        with self.entered():
            return sh(*command)

    def close(self) -> None:
        os.close(self.fd)
        self.netlink.close()


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exchange(client: socket.socket, server: socket.socket, address: tuple[str, int]) -> str:
    """Connect and talk both ways; returns whom the server saw. Fails after half a minute."""
    client.settimeout(30)
    server.settimeout(30)
    with client:
        client.connect(address)
        peer, (source, _port) = server.accept()
        with peer:
            client.sendall(b"ping")
            assert peer.recv(4) == b"ping"
            peer.sendall(b"pong")
            assert client.recv(4) == b"pong"
    return str(source)


def can_connect(client: socket.socket, address: tuple[str, int], seconds: float = 0.5) -> bool:
    client.settimeout(seconds)
    with client:
        try:
            client.connect(address)
        except OSError:
            return False
    return True


def network(path: str, instance: str = "abc123", **settings: object) -> PodNetwork:
    return PodNetwork(Database(f"{path}/state.db"), NetworkConfig(**settings), instance)  # type: ignore[arg-type]


def own_host(body: Callable[[str], Awaitable[None]]) -> Callable[[object], None]:
    """Make ``async def test(path)`` run in its own network namespace, in a child process.

    The child is a program of its own: this process has gRPC's threads, with which no fork is safe.
    """

    @functools.wraps(body)
    def test(tmp_path: object) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root: makes network namespaces")
        command = [sys.executable, "-m", __name__, body.__module__, body.__name__, str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.fail(done.stderr[-60000:] or f"the child ended with status {done.returncode}")

    del test.__wrapped__  # pytest would look at the body's signature
    test.body = body  # type: ignore[attr-defined]
    return test


def main() -> None:
    """What the child does: MODULE NAME PATH."""
    module, name, path = sys.argv[1:]
    body = getattr(importlib.import_module(module), name).body
    unshare_net()
    sh("ip", "link", "set", "lo", "up")
    asyncio.run(body(path))


if __name__ == "__main__":
    main()

"""Runs a test's body in a child process whose "host" is a fresh network namespace.

Nothing touches the machine's own network, and the kernel takes everything away with the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator

import pytest

from minikubelet.base.config import NetworkConfig
from minikubelet.base.database import Database
from minikubelet.network.pod_network import PodNetwork

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
    """Make ``async def test(path)`` run in its own network namespace, in a child process."""

    @functools.wraps(body)
    def test(tmp_path: object) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root: makes network namespaces")
        read, write = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            code = 1
            try:
                unshare_net()
                sh("ip", "link", "set", "lo", "up")
                asyncio.run(body(str(tmp_path)))  # type: ignore[arg-type]
                code = 0
            except BaseException:
                os.write(write, traceback.format_exc().encode()[-60000:])
            finally:
                os._exit(code)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            report = pipe.read().decode()
        _pid, status = os.waitpid(pid, 0)
        if status != 0:
            pytest.fail(report or f"the child ended with status {status}")

    del test.__wrapped__  # pytest would look at the body's signature
    return test

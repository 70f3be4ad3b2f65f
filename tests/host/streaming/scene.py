"""Streaming sessions of a node's pod: their URLs, what they carry, and what they cost the daemon."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from tests.host.node import Node, wait_for
from tests.streaming_client import Client, Sender, SpdyClient, WebSocketClient

MIB = 1 << 20
SIZE = int(os.environ.get("MINIKUBELET_LARGE_MIB", "1024")) * MIB
BOUND_KIB = 24 * 1024
"""By how much a transfer of any size may raise a process's peak of resident memory."""
PORT = 7
ECHO = ("nc", "-ll", "-p", str(PORT), "-e", "cat")
BLOCK = os.urandom(MIB + 4099)
"""Not a multiple of any buffer's size: a block that is lost, doubled or misplaced changes the hash."""

Make = Callable[..., Client]
CLIENTS: dict[str, Make] = {"spdy": SpdyClient, "websocket": WebSocketClient}
every_transport = pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS.keys())


class Urls:
    """Streaming URLs of one pod with one container."""

    def __init__(self, node: Node, pod: str, container: str) -> None:
        self._channel = grpc.insecure_channel(node.config.listen, [("grpc.use_local_subchannel_pool", 1)])
        self._runtime = services.RUNTIME.connect(self._channel)
        self._runtime.Version(api.VersionRequest())  # connects
        self.node, self.pod, self.container = node, pod, container

    def close(self) -> None:
        self._channel.close()

    def exec(self, *command: str, **streams: bool) -> str:
        request = api.ExecRequest(
            container_id=self.container, cmd=command, **({"stdin": True, "stdout": True} | streams)
        )
        return str(self._runtime.Exec(request).url)

    def attach(self, **streams: bool) -> str:
        return str(self._runtime.Attach(api.AttachRequest(container_id=self.container, **streams)).url)

    def forward(self, *ports: int) -> str:
        return str(self._runtime.PortForward(api.PortForwardRequest(pod_sandbox_id=self.pod, port=ports)).url)


class Peaks:
    """Peaks of resident memory of the daemon and of all monitors, from now on (proc_pid_status(5))."""

    def __init__(self, node: Node) -> None:
        daemon = psutil.Process(node.pid)
        others = [each for each in daemon.children(recursive=True) if _in_container(each.pid) is False]
        self._processes = [daemon, *others]
        assert len(self._processes) >= 3, "daemon, spawner and a monitor"
        for each in self._processes:
            Path(f"/proc/{each.pid}/clear_refs").write_text("5")
        self._before = {each.pid: self._kib(each.pid, "VmHWM") for each in self._processes}

    @staticmethod
    def _kib(pid: int, name: str) -> int:
        match = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert match
        return int(match[1])

    def check(self) -> None:
        for each in self._processes:
            growth = self._kib(each.pid, "VmHWM") - self._before[each.pid]
            assert growth < BOUND_KIB, f"{each.cmdline()}: {growth} KiB more"


def _in_container(pid: int) -> bool | None:
    """Whether a process has mounts of its own; None if it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    except OSError:  # EACCES, too, if it goes at this moment
        return None


class Received:
    """Counts and hashes what comes on one stream; keeps what comes on others, and the rest of its own."""

    def __init__(self, stream: int, limit: int | None = None, keep: bool = False) -> None:
        self.stream, self.limit, self.keep = stream, limit, keep
        self.count = 0
        self.hash = hashlib.sha256()
        self.others: dict[int, bytes] = {}
        self.data = b""

    def __call__(self, stream: int, data: memoryview) -> None:
        if stream != self.stream:
            self.others[stream] = self.others.get(stream, b"") + bytes(data)
            return
        self.count += len(data)
        self.hash.update(data)
        if self.keep:
            self.data += bytes(data)


def expected_hash(size: int) -> str:
    digest = hashlib.sha256()
    for _ in range(size // len(BLOCK)):
        digest.update(BLOCK)
    digest.update(BLOCK[: size % len(BLOCK)])
    return digest.hexdigest()


def to_and_fro(client: Client, to: int, back: int, size: int) -> Received:
    """Send `size` bytes while receiving; ends with the session, or when all have come back."""
    received = Received(back)

    def take(stream: int, data: memoryview) -> None:
        received(stream, data)
        if not client.half_closes and received.count >= size:
            client.ended = True

    sender = Sender(client, to, BLOCK, size)
    sender.start()
    client.receive(take)
    sender.join()
    assert sender.error is None
    return received


def open_output(client: Client) -> tuple[int, int]:
    """The streams of an exec without stdin: error and stdout."""
    if isinstance(client, SpdyClient):
        return client.open(streamtype="error"), client.open(streamtype="stdout")
    return 3, 1


def programs(node: Node) -> set[psutil.Process]:
    """The processes in containers."""
    return {each for each in psutil.Process(node.pid).children(recursive=True) if _in_container(each.pid)}


def written(node: Node) -> int:
    """Bytes that all programs in containers have written so far."""
    total = 0
    for each in programs(node):
        try:
            total += each.io_counters().write_chars
        except psutil.NoSuchProcess:
            continue
    return total


def wait_until_stuck(node: Node, at_least: int = MIB) -> int:
    """Wait until programs have written something and write no more; how much."""

    def stuck() -> int:
        before = written(node)
        time.sleep(0.3)
        return before if before >= at_least and written(node) == before else 0

    return wait_for("the programs to be stuck", stuck)


def wait_for_files(node: Node, before: dict[str, int]) -> None:
    """Wait until daemon and spawner have no descriptors that they hadn't before."""
    last: dict[str, int] = {}

    def no_more() -> bool:
        nonlocal last
        last = node.open_files()
        return all(count <= before.get(kind, 0) for kind, count in last.items())

    try:
        wait_for("the descriptors", no_more)
    except AssertionError as exc:
        raise AssertionError(f"descriptors before {before}, now {last}\n{node.log()}") from exc

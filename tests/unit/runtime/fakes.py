"""A node's rooms without a kernel: an image store, a network and monitors that only remember."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from minikubelet.base.config import DaemonConfig
from minikubelet.base.database import Database
from minikubelet.images.documents import ImageConfig
from minikubelet.images.models import Image
from minikubelet.linux.cgroup.mount import CgroupMount
from minikubelet.network.cni_config import Pod
from minikubelet.network.pod_network import Attachment, PortMapping
from minikubelet.runtime.context import Context
from minikubelet.runtime.models import (
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    SandboxConfig,
    SandboxMetadata,
)
from minikubelet.runtime.spawner_client import Spawned
from minikubelet.wire import channel
from minikubelet.wire import messages as wire

IMAGE_ID = "sha256:" + "ab" * 32
IMAGE = Image(
    id=IMAGE_ID,
    repo_tags=("example.org/app:1",),
    repo_digests=(),
    size=1,
    config=ImageConfig(env=("PATH=/bin", "A=image"), entrypoint=("/app",), cmd=("serve",), user="web:1000"),
    layers=("2", "1"),
)


class FakeImages:
    """One image; remembers who holds it."""

    def __init__(self) -> None:
        self.layers_dir = "/layers"
        self.held: dict[str, str] = {}

    def find(self, name: str) -> Image | None:
        return IMAGE if name in (IMAGE_ID, "app") else None

    def hold(self, image_id: str, holder: str) -> None:
        self.held[holder] = image_id

    def release(self, holder: str) -> None:
        self.held.pop(holder, None)


class FakeNetwork:
    """Gives every pod 10.0.0.2."""

    needs_netns = False

    def __init__(self) -> None:
        self.attached: dict[str, Sequence[PortMapping]] = {}
        self.collected: list[str] | None = None
        self.failure: Exception | None = None

    async def attach(
        self,
        sandbox_id: str,
        netns: int,
        netlink: int,
        ports: Sequence[PortMapping],
        pod: Pod | None = None,
    ) -> Attachment:
        os.fstat(netns)
        os.fstat(netlink)
        if self.failure:
            raise self.failure
        self.attached[sandbox_id] = ports
        return Attachment(("10.0.0.2",), "10.0.0.1")

    async def detach(self, sandbox_id: str, netns: int = -1) -> None:
        self.attached.pop(sandbox_id, None)

    async def collect(self, alive: Collection[str]) -> None:
        self.collected = sorted(alive)


class FakeMonitor:
    """The other end of a control socket: answers as a monitor would, and can be told to fail or to wait."""

    def __init__(self, sandbox_id: str, sock: socket.socket, spawner: FakeSpawner) -> None:
        self.sandbox_id = sandbox_id
        self.sock = sock
        self.spawner = spawner
        self.requests: list[Any] = []
        self.running: dict[str, wire.ContainerReport] = {}
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            message, fds = channel.receive(self.sock)
        except (OSError, channel.ProtocolError):
            self.die()
            return
        for fd in fds:
            os.close(fd)
        self.requests.append(message)
        self.handle(message)

    def handle(self, message: Any) -> None:
        name = type(message).__name__
        if name in self.spawner.silent:
            return
        if name in self.spawner.failures:
            self.reply(message, self.spawner.failures[name])
            return
        body: Any = wire.Done()
        fds: list[int] = []
        if isinstance(message, wire.StartSandbox):
            body = wire.SandboxStarted(pid=100, start_ticks=1)
            if message.network == "pod":
                fds = [os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)]
        elif isinstance(message, wire.StartContainer):
            body = wire.ContainerStarted(pid=200, start_ticks=2, started_at=5, user=wire.ResolvedUser(uid=7))
            self.running[message.container_id] = wire.ContainerReport(id=message.container_id, pid=200)
        elif isinstance(message, wire.StartExec):
            body = wire.ContainerStarted(pid=300, start_ticks=3, started_at=6)
        elif isinstance(message, wire.SignalContainer) and message.signal == 9:
            self.exit(message.container_id, 137)
        elif isinstance(message, wire.StopSandbox | wire.Shutdown):
            for container_id in list(self.running):
                self.exit(container_id, 137)
        self.reply(message, body, fds)
        for fd in fds:
            os.close(fd)
        if isinstance(message, wire.Shutdown):
            self.die()

    def reply(self, message: Any, body: Any, fds: Sequence[int] = ()) -> None:
        channel.send(self.sock, wire.Reply(id=message.id, body=body), fds)

    def exit(self, container_id: str, code: int) -> None:
        if self.running.pop(container_id, None):
            status = wire.ExitStatus(exit_code=code, finished_at=9)
            channel.send(self.sock, wire.ContainerExited(container_id=container_id, status=status))

    def die(self) -> None:
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock.fileno())
            self.sock.close()

    def names(self) -> list[str]:
        return [type(request).__name__ for request in self.requests]


class FakeSpawner:
    """Makes fake monitors. ``silent`` and ``failures`` go by the request's name."""

    def __init__(self) -> None:
        self.monitors: list[FakeMonitor] = []
        self.silent: set[str] = set()
        self.failures: dict[str, wire.Failure] = {}

    async def spawn(self, sandbox_id: str, run_dir: str) -> Spawned:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.monitors.append(FakeMonitor(sandbox_id, theirs, self))
        return Spawned(1 << 22, 1, os.open("/dev/null", os.O_RDONLY), ours)

    def close(self) -> None:
        for monitor in self.monitors:
            monitor.die()


class FakeNode:
    """A context on a temporary folder."""

    def __init__(self, folder: Path) -> None:
        config = DaemonConfig(root=str(folder / "root"), run=str(folder / "run"))
        for path in ("root/containers", "root/trash", "run/pods", "run/trash", "cgroup"):
            (folder / path).mkdir(parents=True, exist_ok=True)
        self.db = Database(str(folder / "root/state.db"))
        self.images = FakeImages()
        self.network = FakeNetwork()
        cgroups = CgroupMount(str(folder / "cgroup"), "hybrid")
        self.spawner = FakeSpawner()
        rooms: Any = (self.images, self.network, cgroups, self.spawner)
        self.context = Context(config, self.db, *rooms)

    def close(self) -> None:
        self.context.close()
        self.db.close()


def sandbox_config(name: str = "pod", **fields: Any) -> SandboxConfig:
    fields.setdefault("metadata", SandboxMetadata(name=name, uid="u", namespace="default"))
    return SandboxConfig(**fields)


def container_config(name: str = "app", **fields: Any) -> ContainerConfig:
    fields.setdefault("metadata", ContainerMetadata(name=name))
    fields.setdefault("image", ImageSpec(image="app"))
    return ContainerConfig(**fields)

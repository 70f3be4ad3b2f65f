"""A plugin written against the protocol's bytes instead of the code under test; and a node."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import Message

from minikubelet.base.errors import not_found
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.criapi import ttrpc_pb2
from minikubelet.runtime.models import (
    Container,
    ContainerConfig,
    ContainerMetadata,
    ImageFacts,
    ImageSpec,
    LinuxResources,
    Sandbox,
    SandboxConfig,
    SandboxMetadata,
)
from minikubelet.wire.messages import CgroupSettings, Mount, Process, StartContainer

Answer = Callable[[Any], Message | None]
"""From a request to the answer; None: never answers."""


class Refuse(Exception):
    """Raised by an answer: the status to send."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakePlugin:
    """Registers at once; ``answers`` by method, an empty answer for the others. ``asked`` is what came."""

    def __init__(self, name: str, index: str, events: int = 0, **answers: Answer) -> None:
        self.name, self.index, self.events = name, index, events
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []
        self.closed = asyncio.Event()
        self.replies: asyncio.Queue[ttrpc_pb2.Response] = asyncio.Queue()
        self.longest_first_frame = 0

    async def connect(self, path: str, register: bool = True) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(path)
        self.task = asyncio.ensure_future(self._serve())
        self._stream = 1
        if register:
            await self.register()

    async def register(self) -> ttrpc_pb2.Response:
        request = nri.RegisterPluginRequest(plugin_name=self.name, plugin_idx=self.index)
        return await self.request("RegisterPlugin", request)

    async def request(self, method: str, request: Message) -> ttrpc_pb2.Response:
        """Ask the runtime."""
        body = ttrpc_pb2.Request(
            service="nri.pkg.api.v1alpha1.Runtime", method=method, payload=request.SerializeToString()
        )
        self.send(2, struct.pack("!IIBB", body.ByteSize(), self._stream, 1, 0) + body.SerializeToString())
        self._stream += 2
        return await asyncio.wait_for(self.replies.get(), 10)

    def send(self, connection: int, data: bytes) -> None:
        self.writer.write(struct.pack("!II", connection, len(data)) + data)

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]

    async def close(self) -> None:
        self.writer.close()
        await self.closed.wait()

    async def _serve(self) -> None:
        buffers = {1: bytearray(), 2: bytearray()}
        try:
            while True:
                connection, length = struct.unpack("!II", await self.reader.readexactly(8))
                if not buffers[connection]:
                    self.longest_first_frame = max(self.longest_first_frame, length)
                buffers[connection] += await self.reader.readexactly(length)
                self._messages(connection, buffers[connection])
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            self.writer.close()

    def _messages(self, connection: int, buffer: bytearray) -> None:
        while len(buffer) >= 10:
            length, stream, _, _ = struct.unpack("!IIBB", buffer[:10])
            if len(buffer) < 10 + length:
                return
            body = bytes(buffer[10 : 10 + length])
            del buffer[: 10 + length]
            if connection == 2:
                self.replies.put_nowait(ttrpc_pb2.Response.FromString(body))
            else:
                self._answer(stream, ttrpc_pb2.Request.FromString(body))

    def _answer(self, stream: int, request: ttrpc_pb2.Request) -> None:
        method = nri.DESCRIPTOR.services_by_name["Plugin"].methods_by_name[request.method]
        asked = getattr(nri, method.input_type.name).FromString(request.payload)
        self.asked.append((request.method, asked))
        response = ttrpc_pb2.Response()
        try:
            answer = self.answers.get(request.method, self._default)(asked)
        except Refuse as exc:
            response.status.code, response.status.message = exc.code, str(exc)
        else:
            if answer is None:
                return
            response.payload = answer.SerializeToString()
        self.send(1, struct.pack("!IIBB", response.ByteSize(), stream, 2, 0) + response.SerializeToString())

    def _default(self, asked: Any) -> Message:
        if isinstance(asked, nri.ConfigureRequest):
            return nri.ConfigureResponse(events=self.events)
        if isinstance(asked, nri.SynchronizeRequest):
            return nri.SynchronizeResponse(more=asked.more)
        return nri.Empty()


def sandbox(name: str = "pod", **fields: Any) -> Sandbox:
    metadata = SandboxMetadata(name=name, uid=f"{name}-uid", namespace="tests")
    return Sandbox(f"{name}-id", SandboxConfig(metadata=metadata, **fields), 1, f"/{name}")


def container(pod: Sandbox, name: str = "app", **fields: Any) -> Container:
    config = ContainerConfig(
        metadata=ContainerMetadata(name=name), image=ImageSpec(image="busybox"), **fields
    )
    made = Container(
        f"{name}-id", pod, config, 2, "image", ImageFacts(layers=()), "SIGTERM", "", f"/c/{name}"
    )
    pod.containers[made.id] = made
    return made


def start_request(made: Container) -> StartContainer:
    return StartContainer(
        id=0,
        container_id=made.id,
        lowerdirs=[],
        layers_dir="/layers",
        upperdir="/upper",
        workdir="/work",
        mounts=[Mount(kind="proc", target="/proc"), Mount(kind="bind", target="/data", source="/srv")],
        process=Process(args=[b"sleep", b"1"], env=[b"A=1", b"B=2"]),
        cgroup=CgroupSettings(path=made.cgroup),
    )


class FakeNode:
    """Keeps what is put in force."""

    def __init__(self) -> None:
        self.pods: list[Sandbox] = []
        self.known: dict[str, Container] = {}
        self.set: list[tuple[str, LinuxResources]] = []

    def add(self, made: Container) -> Container:
        self.known[made.id] = made
        return made

    def sandboxes(self) -> Iterable[Sandbox]:
        return self.pods

    def containers(self) -> Iterable[Container]:
        return self.known.values()

    def container(self, container_id: str) -> Container:
        if container_id not in self.known:
            raise not_found("container", container_id)
        return self.known[container_id]

    def start_request(self, container: Container) -> StartContainer | None:
        return start_request(container)

    def set_resources(self, container: Container, resources: LinuxResources) -> None:
        container.status.resources = resources
        self.set.append((container.id, resources))

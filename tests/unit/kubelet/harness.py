"""A kubelet over the fake runtime, with a clock that tests turn."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.kubelet import Kubelet
from minikubelet.kubelet.manifests.static import make_static
from minikubelet.kubelet.objects import ContainerStatus, Pod
from minikubelet.kubelet.sources import PodSource
from tests.fake_cri import FakeCri

IMAGE = "example.org/app:1"
NODE = "node"


class FakeClock:
    """Both clocks, moved by hand; waiting is over when the time is set past its end."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._timers: list[tuple[float, asyncio.Event]] = []

    def monotonic(self) -> float:
        return time.monotonic() + self.offset

    def now_ns(self) -> int:
        return time.time_ns() + int(self.offset * 1e9)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        over = asyncio.Event()
        if seconds is not None:
            self._timers.append((self.monotonic() + seconds, over))
        waits = [asyncio.ensure_future(each.wait()) for each in (event, over)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            self._timers = [timer for timer in self._timers if timer[1] is not over]

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass at once."""
        self.offset += seconds
        for when, over in self._timers:
            if when <= self.monotonic():
                over.set()


class ListSource:
    """Desired pods set by a test."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[list[Pod]] = asyncio.Queue()

    def set(self, *pods: Pod) -> None:
        self._queue.put_nowait(list(pods))

    async def watch(self) -> AsyncIterator[list[Pod]]:
        while True:
            yield await self._queue.get()


def make_pod(name: str = "web", *containers: dict[str, Any], **spec: Any) -> Pod:
    """A complete static pod; spec fields by their JSON names."""
    everyone = [{"image": IMAGE, **each} for each in containers or ({"name": "app"},)]
    inits = [{"image": IMAGE, **each} for each in spec.pop("initContainers", [])]
    whole = {"containers": everyone, "initContainers": inits, **spec}
    meta = {"name": name}
    pod = msgspec.convert({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": whole}, Pod)
    make_static(pod, NODE, f"/manifests/{name}.yaml")
    apply_defaults(pod)
    return pod


class Harness:
    """One fake runtime and the kubelets that are run over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cri = FakeCri(str(folder / "cri.sock"))
        self.clock = FakeClock()
        self.cri.now_ns = self.clock.now_ns
        self.source = ListSource()
        self.config = KubeletConfig(
            container_runtime_endpoint=self.cri.endpoint,
            root=str(folder / "root"),
            socket="",
            log_dir=str(folder / "logs"),
            node_name=NODE,
            node_ip="192.0.2.9",
        )
        self.kubelet: Kubelet
        self.cri.add_image(IMAGE)

    @contextlib.asynccontextmanager
    async def running(self, source: PodSource | None = None) -> AsyncIterator[Kubelet]:
        """A kubelet over the runtime; when the block ends it goes, the pods stay."""
        self.source = ListSource()
        self.kubelet = Kubelet(self.config, source=source or self.source, clock=self.clock)
        stop = asyncio.Event()
        task = asyncio.create_task(self.kubelet.run(stop))
        try:
            yield self.kubelet
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)

    async def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Wait until ``condition`` holds; its value."""
        for _ in range(1000):
            with contextlib.suppress(LookupError, ValueError):
                if value := condition():
                    return value
            await asyncio.sleep(0.005)
        raise AssertionError(f"{what or condition} never came true: {self.describe()}")

    async def settle(self) -> None:
        """Give everything under way the time to happen."""
        await asyncio.sleep(0.1)

    def lose(self, *names: str) -> None:
        """The runtime has lost the containers of these names, however they were; with no name, everything."""
        cri, deleted = self.cri, api.CONTAINER_DELETED_EVENT
        for container in list(cri.containers.values()):
            if not names or container.status.metadata.name in names:
                del cri.containers[container.status.id]
                cri.tell(deleted, container.status.id, container.sandbox_id)
        for sandbox_id in [] if names else list(cri.sandboxes):
            del cri.sandboxes[sandbox_id]
            cri.tell(deleted, sandbox_id, sandbox_id)

    def ready_sandboxes(self) -> list[str]:
        """IDs of the runtime's sandboxes that are ready."""
        ready = api.SANDBOX_READY
        return [key for key, each in self.cri.sandboxes.items() if each.status.state == ready]

    def describe(self) -> str:
        pods = [msgspec.json.encode(pod.status).decode() for pod in self.kubelet.pods()]
        return "\n".join([*pods, *(f"{e.reason}: {e.message}" for e in self.kubelet.events())])

    def pod(self, name: str = "web") -> Pod:
        """The pod as the sink has it. Raises LookupError."""
        for pod in self.kubelet.pods():
            if pod.metadata.name == f"{name}-{NODE}":
                return pod
        raise LookupError(name)

    def container(self, name: str = "app", pod: str = "web") -> ContainerStatus:
        """A container's status. Raises LookupError."""
        status = self.pod(pod).status
        for each in [*status.init_container_statuses, *status.container_statuses]:
            if each.name == name:
                return each
        raise LookupError(name)

    def condition(self, kind: str, pod: str = "web") -> str:
        """The status of a condition."""
        return next(each.status for each in self.pod(pod).status.conditions if each.type == kind)

    def waiting(self, name: str = "app") -> str:
        """Why a container waits; empty if it does not."""
        waiting = self.container(name).state.waiting
        return waiting.reason if waiting else ""

    def reasons(self) -> list[str]:
        """Reasons of all events about pods, in order."""
        return [e.reason for e in self.kubelet.events() if e.involved_object.kind == "Pod"]

    def newest_args(self) -> list[str]:
        """Arguments of the newest container named app."""
        return list(self.cri.newest("app").config.args)

    async def ready(self, pod: str = "web") -> None:
        """Wait until the pod is ready."""
        await self.until(lambda: self.condition("Ready", pod) == "True", f"{pod} is ready")

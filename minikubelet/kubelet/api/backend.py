"""What the API shows: the rooms of one kubelet behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.metrics import cadvisor
from minikubelet.kubelet.metrics.node import NodeMetrics
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.objects.data import DataObject
from minikubelet.kubelet.observed import RuntimeCache
from minikubelet.kubelet.sinks import MemorySink
from minikubelet.kubelet.stats.summary import Statistics


class Runtime(cadvisor.Runtime, Protocol):
    """What of the CRI client is used."""

    async def container_status(self, container_id: str) -> api.ContainerStatus: ...
    async def exec(self, request: api.ExecRequest) -> str: ...
    async def attach(self, request: api.AttachRequest) -> str: ...
    async def port_forward(self, request: api.PortForwardRequest) -> str: ...
    async def exec_sync(
        self, container_id: str, command: list[str], timeout: float
    ) -> api.ExecSyncResponse: ...
    async def checkpoint_container(self, request: api.CheckpointContainerRequest) -> None: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Pods, events, logs and streams."""

    pods: MemorySink
    events: EventRecorder
    runtime: Runtime
    node: NodeFacts | None = None
    """Without it there are no statistics, metrics and configuration."""
    idle: float = 4 * 3600.0
    """Seconds of silence after which a stream is cut."""
    objects: Callable[[], Sequence[DataObject]] = tuple
    """What pods may refer to."""
    add_ephemeral: Callable[[str, EphemeralContainer], None] | None = None
    """Give the pod of that UID a container more. Raises NodeError."""
    node_object: Callable[[], Awaitable[dict[str, Any]]] | None = None
    """The node as a v1 Node."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a whole kubelet knows beside its pods."""

    config: KubeletConfig
    cache: RuntimeCache
    statistics: Statistics
    metrics: NodeMetrics
    health: Callable[[], dict[str, str]]
    """By check what is wrong with it; empty: nothing."""
    desired: Callable[[], int]
    """How many pods are wanted."""

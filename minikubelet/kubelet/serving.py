"""A kubelet's APIs put together: the local socket and the ports, over the same backend."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minikubelet.base import clock
from minikubelet.kubelet.api.backend import Backend, NodeFacts
from minikubelet.kubelet.api.remote import RemoteApi
from minikubelet.kubelet.api.server import LocalApi
from minikubelet.kubelet.metrics.node import NodeMetrics
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.objects.data import DataObject
from minikubelet.kubelet.sinks import MemorySink
from minikubelet.kubelet.stats.summary import Statistics

if TYPE_CHECKING:
    from minikubelet.kubelet.node import Node

RUNTIME_AWAY = 120.0
"""Seconds that the runtime may be away before /healthz says so, as long as upstream's sync loop waits."""


@dataclass(frozen=True)
class Answers:
    """What the APIs ask of the kubelet itself."""

    desired: Callable[[], int]
    """How many pods are wanted."""
    objects: Callable[[], Sequence[DataObject]]
    """What pods may refer to."""
    add_ephemeral: Callable[[str, EphemeralContainer], None]
    """Give the pod of that UID a container more. Raises NodeError."""
    node: Callable[[], Awaitable[dict[str, Any]]]
    """The node as a v1 Node."""


async def open_apis(
    stack: contextlib.AsyncExitStack,
    node: Node,
    sink: MemorySink,
    kubelet: Answers,
) -> RemoteApi:
    """Start the local socket; ``stack`` closes it, and the ports, which are still to be started.

    A node's first certificate takes a while, which pods needn't wait for. Raises NodeError, OSError.
    """
    config = node.config

    def health() -> dict[str, str]:
        lifecycle = node.lifecycle
        away = 0.0 if lifecycle.synced.is_set() else clock.monotonic() - lifecycle.lost
        return {"syncloop": f"the runtime has been away for {away:.0f} s"} if away > RUNTIME_AWAY else {}

    metrics = NodeMetrics(
        config.node_name,
        node.instruments,
        node.cache,
        node.probes.counts,
        node.probes.seconds,
        cpus=lambda: node.allocations.cpus if node.allocations is not None else None,
        pull_records=node.pull_records.sizes,
    )
    statistics = Statistics(config, node.client, sink.pods)
    facts = NodeFacts(config, node.cache, statistics, metrics, health, kubelet.desired)
    backend = Backend(
        sink,
        node.events,
        node.client,
        facts,
        idle=config.server.streaming_idle_timeout,
        objects=kubelet.objects,
        add_ephemeral=kubelet.add_ephemeral,
        node_object=kubelet.node,
    )
    if config.socket:
        local = LocalApi(backend, config.socket)
        await local.start()
        stack.push_async_callback(local.close)
    remote = RemoteApi(backend, config, node.instruments, node.host_ips)
    stack.push_async_callback(remote.close)
    return remote

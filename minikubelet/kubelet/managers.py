"""What looks after the node's resources beside the pod workers: admission, cgroups, and the periodic work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from minikubelet.base.errors import NodeError
from minikubelet.kubelet import admission, allocatable
from minikubelet.kubelet.admission import Rejection
from minikubelet.kubelet.demands import Amounts
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.status import FAILED, SUCCEEDED

log = logging.getLogger(__name__)


class Worker(Protocol):
    """What is to be known of a pod worker here."""

    pod: Pod

    @property
    def terminating(self) -> bool:
        """Whether the pod is being removed."""


class ResourceManagers:
    """One kubelet's. :meth:`prepare` needs the runtime; :meth:`start` begins the periodic work."""

    def __init__(self, node: Node, workers: Callable[[], Iterable[Worker]]) -> None:
        self._node = node
        self._workers = workers
        self._config = node.config.resources
        self.capacity: Amounts = {}
        self.allocatable: Amounts = {}
        self.conditions: set[str] = set()
        """MemoryPressure, DiskPressure, PIDPressure as far as they are true."""

    async def prepare(self) -> None:
        """Count what there is and make the cgroups. What the host refuses is an event, not fatal."""
        node, config = self._node, self._config
        try:
            self.capacity = allocatable.capacity(config, node.config.root)
            self.allocatable = allocatable.allocatable(config, self.capacity)
            limits = self.capacity
            if "pods" in config.cgroups.enforce_node_allocatable:
                limits = allocatable.unreserved(config, self.capacity)
            systemd = await node.client.has_systemd_cgroups()
            node.cgroups.start(limits, systemd=systemd)
        except (OSError, ValueError, NodeError) as exc:
            log.error("resources of this node: %s", exc)
            message = f"Failed to update Node Allocatable Limits: {exc}"
            node.events.node(WARNING, "FailedNodeAllocatableEnforcement", message)
            return
        if node.cgroups.top:
            message = "Updated Node Allocatable limit across pods"
            node.events.node(NORMAL, "NodeAllocatableEnforced", message)

    def admit(self, pod: Pod) -> tuple[Rejection | None, bool]:
        """Why the pod can't be run beside the others, and whether that passes with pods just ending."""
        alive = [
            worker
            for worker in self._workers()
            if worker.pod.uid != pod.uid and worker.pod.status.phase not in (SUCCEEDED, FAILED)
        ]
        rejection = self._admit(pod, [worker.pod for worker in alive])
        if rejection is None:
            return None, False
        lasting = [worker.pod for worker in alive if not worker.terminating]
        return rejection, len(lasting) < len(alive) and self._admit(pod, lasting) is None

    def _admit(self, pod: Pod, others: Sequence[Pod]) -> Rejection | None:
        return admission.admit(pod, others, self.allocatable, self.conditions)

    def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Begin the periodic work; the stack ends it."""
        stack.callback(self._node.cgroups.close)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]], name: str) -> None:
        """Do ``work`` again and again; a failure is logged and the next turn tries again."""
        never = asyncio.Event()
        while True:
            await self._node.lifecycle.synced.wait()
            try:
                await work()
            except (NodeError, OSError) as exc:
                log.warning("%s: %s", name, exc)
            except Exception:
                log.exception("%s failed", name)
            await self._node.clock.wait(never, seconds)

"""Where pod statuses go: in memory with watchers; an API server can stand behind the same interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.base import Object

Change = Literal["ADDED", "MODIFIED", "DELETED"]


class PodChange(Object, kw_only=True):
    """One line of a pod watch."""

    type: Change
    object: Pod


class StatusSink(Protocol):
    """Takes pods with their status as they change."""

    def update(self, pod: Pod) -> None:
        """``pod``, its status included, is new or has changed. Must not block."""

    def remove(self, pod: Pod) -> None:
        """The pod is gone from the node."""


class MemorySink:
    """The last known state of every pod, by UID, and watchers of the changes."""

    def __init__(self) -> None:
        self._pods: dict[str, Pod] = {}
        self._watchers: set[asyncio.Queue[PodChange | None]] = set()

    def update(self, pod: Pod) -> None:
        """See :class:`StatusSink`."""
        kind: Change = "MODIFIED" if pod.uid in self._pods else "ADDED"
        self._pods[pod.uid] = pod
        self._tell(PodChange(type=kind, object=pod))

    def remove(self, pod: Pod) -> None:
        """See :class:`StatusSink`."""
        last = self._pods.pop(pod.uid, None)
        if last is not None:
            self._tell(PodChange(type="DELETED", object=last))

    def pods(self) -> list[Pod]:
        """All pods of the node, sorted by namespace and name."""
        return sorted(self._pods.values(), key=lambda pod: (pod.metadata.namespace, pod.metadata.name))

    def _tell(self, change: PodChange) -> None:
        for queue in list(self._watchers):
            try:
                queue.put_nowait(change)
            except asyncio.QueueFull:
                self._watchers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    async def watch(self) -> AsyncIterator[PodChange]:
        """All pods as ADDED, then every change; ends if the reader falls 1000 behind."""
        queue: asyncio.Queue[PodChange | None] = asyncio.Queue(1000)
        present = self.pods()
        self._watchers.add(queue)
        try:
            for pod in present:
                yield PodChange(type="ADDED", object=pod)
            while (change := await queue.get()) is not None:
                yield change
        finally:
            self._watchers.discard(queue)

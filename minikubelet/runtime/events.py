"""Container events to any number of consumers, none of which can hold up the others."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from minikubelet.base.clock import now_ns
from minikubelet.runtime.models import Container, Sandbox

log = logging.getLogger(__name__)

QUEUE_LENGTH = 1024
CUT_OFF = "cut off: too many events behind"
"""What a consumer's CancelledError says that was too slow."""


class EventKind(enum.IntEnum):
    """CRI ContainerEventType."""

    CREATED = 0
    STARTED = 1
    STOPPED = 2
    DELETED = 3


@dataclass(frozen=True)
class Event:
    """Something happened to a container, or to a sandbox (then ``id`` is the sandbox's)."""

    id: str
    kind: EventKind
    created_at: int
    sandbox: Sandbox
    containers: tuple[Container, ...]


class _Consumer:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.task = asyncio.current_task()


class EventBroker:
    """Publishes without ever waiting: a consumer more than ``QUEUE_LENGTH`` behind is cut off."""

    def __init__(self, limit: int = QUEUE_LENGTH) -> None:
        self._limit = limit
        self._consumers: set[_Consumer] = set()

    def publish(self, kind: EventKind, sandbox: Sandbox, container: Container | None = None) -> None:
        """Tell everyone that is listening now."""
        if not self._consumers:
            return
        event = Event(
            id=container.id if container else sandbox.id,
            kind=kind,
            created_at=now_ns(),
            sandbox=sandbox,
            containers=tuple(sandbox.containers.values()),
        )
        for consumer in list(self._consumers):
            if consumer.queue.qsize() >= self._limit:
                log.warning("an event consumer is %d events behind and is cut off", self._limit)
                self._consumers.discard(consumer)
                if consumer.task is not None:
                    consumer.task.cancel(CUT_OFF)  # it may be stuck in a write that nobody reads
            else:
                consumer.queue.put_nowait(event)

    async def subscribe(self) -> AsyncIterator[Event]:
        """Events from now on, until the daemon stops; who is cut off has its task cancelled with CUT_OFF."""
        consumer = _Consumer()
        self._consumers.add(consumer)
        try:
            while (event := await consumer.queue.get()) is not None:
                yield event
        finally:
            self._consumers.discard(consumer)

    def close(self) -> None:
        """End all subscriptions."""
        for consumer in self._consumers:
            consumer.queue.put_nowait(None)
        self._consumers.clear()

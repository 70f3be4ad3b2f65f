"""Events about pods and the node: upstream's reasons, repeated ones counted, a bounded history, watchers."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator

import msgspec

from minikubelet.base import clock, ids
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.base import Object

log = logging.getLogger(__name__)

NORMAL = "Normal"
WARNING = "Warning"


class ObjectReference(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True, frozen=True
):
    """core/v1 ObjectReference: what an event is about."""

    kind: str = "Pod"
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = "v1"
    field_path: str = ""


class EventSource(Object, omit_defaults=False):
    """core/v1 EventSource."""

    component: str = "kubelet"
    host: str = ""


class Event(Object, kw_only=True, omit_defaults=False):
    """core/v1 Event, as far as a node fills it in."""

    api_version: str = "v1"
    kind: str = "Event"
    name: str = ""
    involved_object: ObjectReference
    type: str
    reason: str
    message: str
    source: EventSource
    count: int = 1
    first_timestamp: str
    last_timestamp: str


def reference(pod: Pod, container: str = "") -> ObjectReference:
    """A reference to a pod, or with ``container`` to one of its containers."""
    meta = pod.metadata
    kind = "containers"
    for name, others in (
        ("initContainers", pod.spec.init_containers),
        ("ephemeralContainers", pod.spec.ephemeral_containers),
    ):
        if any(each.name == container for each in others):
            kind = name
    path = f"spec.{kind}{{{container}}}" if container else ""
    return ObjectReference(namespace=meta.namespace, name=meta.name, uid=meta.uid, field_path=path)


class EventRecorder:
    """Keeps the last ``limit`` different events; the same one again raises its count and moves to the end."""

    def __init__(self, node_name: str, limit: int = 1000) -> None:
        self._source = EventSource(host=node_name)
        self._limit = limit
        self._events: OrderedDict[tuple[ObjectReference, str, str, str], Event] = OrderedDict()
        self._watchers: set[asyncio.Queue[Event | None]] = set()

    def pod(self, pod: Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        """Record an event about ``pod`` or its ``container``; ``kind`` is NORMAL or WARNING."""
        self.record(reference(pod, container), kind, reason, message)

    def node(self, kind: str, reason: str, message: str) -> None:
        """Record an event about the node."""
        self.record(ObjectReference(kind="Node", name=self._source.host), kind, reason, message)

    def record(self, about: ObjectReference, kind: str, reason: str, message: str) -> None:
        """Record an event and tell the watchers."""
        message = message[:1024]
        key = (about, kind, reason, message)
        now = clock.rfc3339(clock.now_ns())
        event = self._events.pop(key, None)
        if event is None:
            event = Event(
                name=f"{about.name}.{ids.new_id()[:16]}",
                involved_object=about,
                type=kind,
                reason=reason,
                message=message,
                source=self._source,
                first_timestamp=now,
                last_timestamp=now,
            )
        else:
            event.count += 1
            event.last_timestamp = now
        self._events[key] = event
        while len(self._events) > self._limit:
            self._events.popitem(last=False)
        level = logging.WARNING if kind == WARNING else logging.INFO
        log.log(level, "%s/%s: %s: %s", about.namespace, about.name, reason, message)
        self._tell(msgspec.structs.replace(event))

    def list(self, uid: str = "") -> list[Event]:
        """All events kept, oldest first; with ``uid`` those about that pod."""
        return [event for event in self._events.values() if not uid or event.involved_object.uid == uid]

    def _tell(self, event: Event) -> None:
        for queue in list(self._watchers):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                # A watcher that does not keep up is cut off instead of holding memory.
                self._watchers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    async def watch(self, *, history: bool = True) -> AsyncIterator[Event]:
        """Past events (with ``history``), then new ones; ends if the reader falls 1000 behind."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(1000)
        past = self.list() if history else []
        self._watchers.add(queue)
        try:
            for event in past:
                yield event
            while (each := await queue.get()) is not None:
                yield each
        finally:
            self._watchers.discard(queue)

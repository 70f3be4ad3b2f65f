"""Pod lifecycle events: the runtime's container events stream, or a relist a second where it has none.

After every (re)connection everything is listed once, and once more a second later: the runtime tells
nobody from which moment on the stream delivers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from minikubelet.base.clock import monotonic
from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.labels import POD_UID
from minikubelet.kubelet.metrics.lifecycle import LifecycleInstruments
from minikubelet.kubelet.observed import CREATED, RuntimeCache, container_of, sandbox_of

log = logging.getLogger(__name__)

RELIST_PERIOD = 1.0
RECONNECT_PERIOD = 0.5


class LifecycleEvents:
    """Keeps the cache true and tells which pod has changed."""

    def __init__(
        self,
        client: CriClient,
        cache: RuntimeCache,
        changed: Callable[[str], None],
        counted: LifecycleInstruments | None = None,
    ) -> None:
        """``changed`` takes a pod's UID, or an empty string when everything may have changed."""
        self._counted = counted or LifecycleInstruments()
        self.lost = monotonic()
        """Since when the runtime has been away, while ``synced`` is not set."""
        self._client = client
        self._cache = cache
        self._changed = changed
        self.synced = asyncio.Event()
        """Set while the cache is known to mirror the runtime; cleared when the runtime goes away."""

    async def run(self) -> None:
        """Follow the runtime for ever; returns only by cancellation."""
        while True:
            try:
                await self._client.wait_ready()
                await self._follow()
            except NodeError as exc:
                self._lose()
                log.warning("the runtime at %s went away: %s", self._client.endpoint, exc)
                await asyncio.sleep(RECONNECT_PERIOD)
            except Exception:
                # Whatever it sent, the pods need somebody who listens.
                self._lose()
                log.exception("following the runtime at %s failed", self._client.endpoint)
                await asyncio.sleep(RELIST_PERIOD)

    def _lose(self) -> None:
        if self.synced.is_set():
            self.lost = monotonic()
        self.synced.clear()

    async def _follow(self) -> None:
        stream = asyncio.create_task(self._stream())
        try:
            await asyncio.sleep(0)
            await self.relist()
            self.synced.set()
            self._changed("")
            done, _ = await asyncio.wait({stream}, timeout=RELIST_PERIOD)
            await self.relist()
            if not done:
                await asyncio.wait({stream})
            failure = await stream
            if failure.code is not Code.UNIMPLEMENTED:
                raise failure
            log.warning("the runtime has no container events; listing all pods every %g s", RELIST_PERIOD)
            while True:
                await asyncio.sleep(RELIST_PERIOD)
                await self.relist()
        finally:
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)

    async def _stream(self) -> NodeError:
        self._counted.streams.inc()
        try:
            async for event in self._client.container_events():
                self._counted.heard(event.created_at)
                await self._handle(event)
        except NodeError as exc:
            self._counted.stream_errors.inc()
            return exc
        return NodeError(Code.UNAVAILABLE, "the event stream ended")

    async def _handle(self, event: api.ContainerEventResponse) -> None:
        if event.container_event_type == api.CONTAINER_DELETED_EVENT:
            uid = self._cache.remove(event.container_id)
            if uid:
                self._changed(uid)
            return
        sandbox = event.pod_sandbox_status
        if not sandbox.id:
            # containerd sends events without a status when the sandbox is on its way out.
            await self._refresh_one(event.container_id)
            return
        changed = self._cache.put_sandbox(sandbox_of(sandbox))
        for status in event.containers_statuses:
            changed |= self._cache.put_container(container_of(status, sandbox.id))
        if changed:
            self._changed(sandbox_of(sandbox).pod_uid)

    async def _refresh_one(self, identifier: str) -> None:
        known = self._cache.container(identifier) or self._cache.sandbox(identifier)
        if known is None:
            await self.relist()
        else:
            await self.refresh_pod(known.pod_uid)
            self._changed(known.pod_uid)

    async def relist(self) -> None:
        """List everything and merge it; tells about every pod that changed. Raises NodeError."""
        before = self._cache.uids()
        started = monotonic()
        known = self._cache.ids()
        sandboxes, containers = await asyncio.gather(
            self._client.list_pod_sandboxes(), self._client.list_containers()
        )
        changed: set[str] = set()
        try:
            await self._merge(sandboxes, containers, changed)
            for identifier in self._cache.missing([s.id for s in sandboxes], [c.id for c in containers]):
                if identifier in known:
                    changed.add(self._cache.remove(identifier))
            self._counted.relisted(monotonic() - started)
        finally:  # what is in the cache already is news to nobody after a failure
            for uid in changed | (self._cache.uids() ^ before):
                if uid:
                    self._changed(uid)

    async def refresh_pod(self, uid: str) -> None:
        """List one pod's sandboxes and containers and merge them. Raises NodeError."""
        labels = {POD_UID: uid}
        known, started = self._cache.view(uid), monotonic()
        sandboxes, containers = await asyncio.gather(
            self._client.list_pod_sandboxes(labels), self._client.list_containers(labels)
        )
        await self._merge(sandboxes, containers, set())
        self._counted.pod_relist_seconds.observe(monotonic() - started)
        present = {*(s.id for s in sandboxes), *(c.id for c in containers)}
        for identifier in [*(s.id for s in known.sandboxes), *(c.id for c in known.containers)]:
            if identifier not in present:
                self._cache.remove(identifier)

    async def refresh_container(self, container_id: str, sandbox_id: str) -> None:
        """Ask for one container's status and merge it; one that is gone is forgotten. Raises NodeError."""
        try:
            status = await self._client.container_status(container_id)
        except NodeError as exc:
            if exc.code is not Code.NOT_FOUND:
                raise
            self._cache.remove(container_id)
            return
        self._cache.put_container(container_of(status, sandbox_id))

    async def learn_started(self, container_id: str, sandbox_id: str) -> None:
        """:meth:`refresh_container` for one just started, unless the event has told of that already."""
        seen = self._cache.container(container_id)
        if seen is None or not seen.detailed or seen.state == CREATED:
            await self.refresh_container(container_id, sandbox_id)

    async def learn_sandbox(self, sandbox_id: str) -> None:
        """:meth:`refresh_sandbox` for one just made, unless an event has brought its addresses already."""
        seen = self._cache.sandbox(sandbox_id)
        if seen is None or not seen.ready or not seen.ips:
            await self.refresh_sandbox(sandbox_id)

    async def refresh_sandbox(self, sandbox_id: str) -> None:
        """Ask for one sandbox's status and merge it. Raises NodeError."""
        reply = await self._client.pod_sandbox_status(sandbox_id)
        self._cache.put_sandbox(sandbox_of(reply.status))

    async def _merge(
        self, sandboxes: list[api.PodSandbox], containers: list[api.Container], changed: set[str]
    ) -> None:
        """Ask for the status of whatever is new or has moved on; adds the UIDs of pods that changed."""
        queries: list[Awaitable[None]] = []
        for sandbox in sandboxes:
            seen = self._cache.sandbox(sandbox.id)
            new = sandbox_of(sandbox)
            if seen is not None and seen.ips is not None and seen.ready == new.ready:
                continue
            changed.add(new.pod_uid)
            if new.ready:
                queries.append(self._tolerant(self.refresh_sandbox, sandbox.id))
            else:
                self._cache.put_sandbox(new)
        for container in containers:
            old = self._cache.container(container.id)
            if old is not None and old.state == container.state and old.detailed:
                continue
            changed.add(container.labels.get(POD_UID, ""))
            queries.append(self._tolerant(self.refresh_container, container.id, container.pod_sandbox_id))
        await asyncio.gather(*queries)

    @staticmethod
    async def _tolerant(query: Callable[..., Awaitable[None]], *ids: str) -> None:
        """What vanished between the list and the question is no error."""
        try:
            await query(*ids)
        except NodeError as exc:
            if exc.code is not Code.NOT_FOUND:
                raise

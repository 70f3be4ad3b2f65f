"""Looks at the node every few seconds, frees what nobody needs, then ends one pod at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.eviction import limits, ranking, signals, usage
from minikubelet.kubelet.eviction.signals import Places
from minikubelet.kubelet.eviction.thresholds import DISK, Observation, Threshold, Watch, parse
from minikubelet.kubelet.eviction.usage import PodUsage
from minikubelet.kubelet.gc import ImageGarbage, collect_sandboxes
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.phase import FAILED, SUCCEEDED
from minikubelet.kubelet.priority import is_critical

log = logging.getLogger(__name__)

HARD_GRACE = 1
"""Seconds that a pod gets when a hard threshold or a limit of its own is crossed."""
CLEAN_UP = 30.0
"""Seconds that an evicted pod's resources are waited for before the next look."""
_COME = {
    "MemoryPressure": "NodeHasInsufficientMemory",
    "DiskPressure": "NodeHasDiskPressure",
    "PIDPressure": "NodeHasInsufficientPID",
}
_OVER = {
    "MemoryPressure": "NodeHasSufficientMemory",
    "DiskPressure": "NodeHasNoDiskPressure",
    "PIDPressure": "NodeHasSufficientPID",
}
"""Reasons of the node's events when a condition comes and when it goes."""


class Evictable(Protocol):
    """What is to be known of a pod worker here."""

    pod: Pod

    @property
    def active(self) -> bool:
        """Whether the pod has, or may yet get, something of the node."""

    @property
    def terminating(self) -> bool:
        """Whether the pod is being removed."""

    def evict(self, reason: str, message: str, grace: int | None = None) -> None:
        """Stop the pod and keep it as Failed."""


class EvictionManager:
    """One node's. :meth:`look` is called every few seconds. Raises ValueError for bad settings."""

    def __init__(self, node: Node, images: ImageGarbage, workers: Callable[[], Iterable[Evictable]]) -> None:
        self._node = node
        self._images = images
        self._workers = workers
        self._config = node.config.resources.eviction
        self._watch = Watch(
            parse(self._config, allocatable=bool(node.cgroups.top)), self._config.pressure_transition_period
        )
        self._looked = 0.0
        """When what is now decided on was measured (monotonic seconds)."""
        self._known: Places | None = None
        self._next_measure = 0.0
        self.conditions: set[str] = set()
        """MemoryPressure, DiskPressure, PIDPressure as far as they are true."""
        self.changed: dict[str, int] = {}
        """When one of them last came or went, nanoseconds since the epoch."""

    async def look(self) -> None:
        """One look, and what follows from it. Raises NodeError, OSError."""
        where = await self._places()
        self._looked = self._node.clock.monotonic()
        seen = await asyncio.to_thread(signals.observe, where, self._node.cgroups.top)
        acting = self._watch.look(seen, self._node.clock.monotonic())
        self._tell(self._watch.conditions)
        active = [worker for worker in self._workers() if _is_active(worker)]
        limited = [w.pod for w in active if limits.has_limits(w.pod)]
        now = self._node.clock.monotonic()
        if self._config.local_storage_capacity_isolation and limited and now >= self._next_measure:
            used = await self._usage(limited)
            # Folders with millions of files take their time: never more than a tenth of it.
            after = self._node.clock.monotonic()
            self._next_measure = after + 9 * (after - now)
            evicted = [worker for worker in active if self._over_limit(worker, used, where)]
            if evicted:
                await self._wait(evicted)
                return
        if acting:
            await self._relieve(acting[0], seen, where, active)

    async def _places(self) -> Places:
        """Asked for once: to the runtime it may be a lot of work, and folders don't change their place."""
        if self._known is not None:
            return self._known
        try:
            answer = await self._node.client.image_fs_info()
        except NodeError as exc:
            if exc.code not in (Code.UNIMPLEMENTED, Code.UNAVAILABLE):
                raise
            answer = None
        found = signals.places(self._node.config.root, answer)
        if found.imagefs:
            self._known = found
        return found

    async def _usage(self, pods: list[Pod], *, tasks: bool = False) -> dict[str, PodUsage]:
        client, counted = self._node.client, {}
        stats = await client.list_container_stats()
        if tasks:
            for each in await client.list_pod_sandbox_stats():
                counted[each.attributes.metadata.uid] = each.linux.process.process_count.value
        return await asyncio.to_thread(usage.of_pods, pods, self._node.config, stats, counted)

    def _tell(self, conditions: set[str]) -> None:
        """Events for conditions that came or went; admission goes by them."""
        name = self._node.config.node_name
        for each in conditions ^ self.conditions:
            come = each in conditions
            self.changed[each] = self._node.clock.now_ns()
            reason = _COME[each] if come else _OVER[each]
            self._node.events.node(
                WARNING if come else NORMAL, reason, f"Node {name} status is now: {reason}"
            )
        self.conditions = set(conditions)

    # --- limits of single pods -------------------------------------------------------------------------

    def _over_limit(self, worker: Evictable, used: Mapping[str, PodUsage], where: Places) -> bool:
        mine = used.get(worker.pod.uid)
        if mine is None:
            return False
        excess = limits.exceeded(worker.pod, mine, layers_on_nodefs=not where.has_imagefs)
        return excess is not None and self._evict(worker, excess.message, HARD_GRACE, excess.signal)

    # --- pressure --------------------------------------------------------------------------------------

    async def _relieve(
        self, short: Threshold, seen: Mapping[str, Observation], where: Places, active: list[Evictable]
    ) -> None:
        self._node.events.node(WARNING, "EvictionThresholdMet", f"Attempting to reclaim {short.resource}")
        if short.condition == DISK and await self._clear_disk(short, where):
            log.info("enough %s was freed without evicting a pod", short.resource)
            return
        pods = [worker.pod for worker in active]
        used = await self._usage(pods, tasks=short.resource == "pids")
        by_uid = {worker.pod.uid: worker for worker in active}
        for pod in ranking.rank(pods, used, short, where):
            grace = HARD_GRACE
            if not short.hard:
                own = pod.spec.termination_grace_period_seconds
                most = self._config.max_pod_grace_period
                grace = most if own is None else min(most, own)
            text = ranking.message(pod, used.get(pod.uid), short, seen)
            if self._evict(by_uid[pod.uid], text, grace, short.signal):
                await self._wait([by_uid[pod.uid]])
                return
        log.warning("the node is short of %s and has no pod to evict", short.resource)

    async def _clear_disk(self, short: Threshold, where: Places) -> bool:
        """Remove dead containers and unused images if they are on the file system that is short."""
        if short.signal.startswith("nodefs") and where.has_imagefs:
            return False
        await self._remove_dead()
        pods = [worker.pod for worker in self._workers()]
        await self._images.free_all(pods)
        return self._watch.satisfied(await asyncio.to_thread(signals.observe, where, self._node.cgroups.top))

    async def _remove_dead(self) -> None:
        """Former sandboxes, and dead containers beside the newest of each name, whose state is shown."""
        node = self._node
        keep = {worker.pod.uid for worker in self._workers()}
        await collect_sandboxes(node.client, lambda: keep, node.config.root)
        for uid in keep:
            shown: set[str] = set()
            for container in node.cache.view(uid).containers:
                if container.name in shown and container.has_exited:
                    await node.client.remove_container(container.id)
                    node.cache.remove(container.id)
                shown.add(container.name)

    def _evict(self, worker: Evictable, message: str, grace: int, signal: str) -> bool:
        if is_critical(worker.pod):
            log.error("%s is critical and is not evicted: %s", worker.pod.title, message)
            return False
        self._node.events.pod(worker.pod, WARNING, "Evicted", message)
        worker.evict("Evicted", message, grace)
        counted = self._node.instruments
        counted.evictions.inc((signal,))
        counted.eviction_age.observe(self._node.clock.monotonic() - self._looked, (signal,))
        return True

    async def _wait(self, evicted: list[Evictable]) -> None:
        """Until nothing is left of the pods in the runtime, for a while."""
        clock, never = self._node.clock, asyncio.Event()
        deadline = clock.monotonic() + CLEAN_UP
        while clock.monotonic() < deadline:
            if not any(self._node.cache.view(worker.pod.uid).sandboxes for worker in evicted):
                return
            await clock.wait(never, 0.2)


def _is_active(worker: Evictable) -> bool:
    ended = worker.pod.status.phase in (SUCCEEDED, FAILED)
    return worker.active and not worker.terminating and not ended

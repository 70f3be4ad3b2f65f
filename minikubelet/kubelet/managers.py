"""What looks after the node's resources beside the pod workers: admission, cgroups, and the periodic work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet import (
    admission,
    affinity,
    allocatable,
    gc,
    log_links,
    runtime_class,
    security,
    shutdown,
    sysctls,
)
from minikubelet.kubelet.admission import Rejection
from minikubelet.kubelet.allocations import Allocations
from minikubelet.kubelet.cgroups import values
from minikubelet.kubelet.demands import Amounts, pod_requests
from minikubelet.kubelet.demands import amounts as quantities
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.eviction.manager import Evictable, EvictionManager
from minikubelet.kubelet.gc import ImageGarbage
from minikubelet.kubelet.logrotate import LogRotation
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.resources import GUARANTEED, qos_class

log = logging.getLogger(__name__)


@dataclass
class Crowd:
    """The pods at one moment; a burst of new ones is admitted against one such picture, kept up to date."""

    keys: set[str]
    """Names of all pods that have a worker."""
    active: list[Evictable]

    def add(self, worker: Evictable) -> None:
        """One more."""
        self.keys.add(worker.pod.key)
        if worker.active:
            self.active.append(worker)


class ResourceManagers:
    """One kubelet's. :meth:`prepare` needs the runtime; :meth:`start` begins the periodic work."""

    def __init__(self, node: Node, workers: Callable[[], Iterable[Evictable]]) -> None:
        self._node = node
        self._workers = workers
        node.fits = self.fits
        self.allocations = node.allocations = Allocations(node.config, self._active)
        self.allocations.counted = node.instruments.allocation
        node.cgroups.throttled = self.allocations.is_throttled
        self._stack: contextlib.AsyncExitStack | None = None
        self._config = node.config.resources
        self._logs = LogRotation(node.client, self._config.garbage, node.config.log_dir)
        collected = node.instruments.images.collected
        self.images = ImageGarbage(node.client, self._config.garbage, node.events, node.clock, collected)
        self.capacity: Amounts = {}
        self.allocatable: Amounts = {}
        self.stopping = False
        """The machine is going down: no pod is taken any more."""
        self.eviction: EvictionManager | None = None
        """Once :meth:`prepare` has found its settings good."""

    async def prepare(self) -> None:
        """Count what there is, make the cgroups, begin what hands out CPUs and devices.

        What the host or the settings refuse is an event, and the rest goes on without it.
        """
        node, config = self._node, self._config
        try:
            self.capacity = allocatable.capacity(config, node.config.root)
            self.allocatable = allocatable.allocatable(config, self.capacity)
            if problems := allocatable.overdrawn(config, self.capacity):
                message = f"invalid Node Allocatable configuration. {' '.join(problems)}"
                node.events.node(WARNING, "InvalidNodeAllocatable", message)
            unreserved = allocatable.unreserved(config, self.capacity)
            enforced = "pods" in config.cgroups.enforce_node_allocatable
            node.cgroups.start(
                unreserved if enforced else self.capacity,
                systemd=await node.client.has_systemd_cgroups(),
                memory=unreserved["memory"],
            )
        except (OSError, ValueError, NodeError) as exc:
            message = f"Failed to update Node Allocatable Limits: {exc}"
            node.events.node(WARNING, "FailedNodeAllocatableEnforcement", message)
        else:
            if node.cgroups.top:
                message = "Updated Node Allocatable limit across pods"
                node.events.node(NORMAL, "NodeAllocatableEnforced", message)
        self._limit_daemons()
        try:
            self.eviction = EvictionManager(node, self.images, self._workers)
        except ValueError as exc:
            node.events.node(WARNING, "InvalidEvictionThresholds", f"no pod is evicted: {exc}")
        try:
            if self._stack is not None:
                await self.allocations.start(self._stack)
        except (OSError, ValueError) as exc:
            node.events.node(WARNING, "FailedAllocations", f"CPUs and devices are not given out: {exc}")

    def _limit_daemons(self) -> None:
        """Hold the cgroups of the system's daemons to what is reserved for them, if that is asked for."""
        reserved, config = self._config.reserved, self._config.cgroups
        for kind, amounts, path in (
            ("system", reserved.system_reserved, reserved.system_reserved_cgroup),
            ("kube", reserved.kube_reserved, reserved.kube_reserved_cgroup),
        ):
            words = f"{kind}-reserved", f"{kind}-reserved-compressible"
            for word in [each for each in words if each in config.enforce_node_allocatable]:
                try:
                    files = values.reserved_files(
                        quantities(amounts), compressible=word == words[1], guarded=config.memory_qos
                    )
                    self._node.cgroups.limit_existing(path, files)
                except (OSError, ValueError, NodeError) as exc:
                    name = word.replace("-", " ").title()
                    message = f'Failed to enforce {name} Cgroup Limits on "{path}": {exc}'
                    self._node.events.node(WARNING, "FailedNodeAllocatableEnforcement", message)
                else:
                    message = f"Updated limits on {kind} reserved cgroup {path}"
                    self._node.events.node(NORMAL, "NodeAllocatableEnforced", message)

    def crowd(self) -> Crowd:
        """Who is there now."""
        workers = list(self._workers())
        return Crowd({w.pod.key for w in workers}, [w for w in workers if w.active])

    def admit(self, pod: Pod, crowd: Crowd) -> tuple[Rejection | None, bool]:
        """Why the pod can't be run beside the others, and whether that passes with pods just ending."""
        if self.stopping:
            return Rejection(*shutdown.NOT_ADMITTED), False
        with contextlib.suppress(NodeError):
            runtime_class.resolve(pod, self._node.lookups)  # for its overhead; the worker says what is wrong
        alive = [worker for worker in crowd.active if worker.pod.uid != pod.uid]
        rejection = self._admit(pod, [worker.pod for worker in alive])
        if rejection is None:
            rejection = self.allocations.admit(pod)
            if rejection is None:
                with contextlib.suppress(NodeError):  # told when its sandbox can't be made
                    self._node.cgroups.ensure(pod)
            return rejection, False
        lasting = [worker.pod for worker in alive if not worker.terminating]
        return rejection, len(lasting) < len(alive) and self._admit(pod, lasting) is None

    def fits(self, pod: Pod) -> Rejection | None:
        """See :class:`Node`."""
        active = self._active()
        before = next((each for each in active if each.uid == pod.uid), pod)
        moves = pod_requests(pod).get("cpu") != pod_requests(before).get("cpu")
        if self.allocations.cpus is not None and moves and qos_class(pod) == GUARANTEED:
            words = 'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"'
            return Rejection("Infeasible", words)
        others = [each for each in active if each.uid != pod.uid]
        return admission.admit_resize(pod, others, self.allocatable)

    def _active(self) -> list[Pod]:
        """Pods that have not ended."""
        return [worker.pod for worker in self._workers() if worker.active]

    def _admit(self, pod: Pod, others: Sequence[Pod]) -> Rejection | None:
        conditions = self.eviction.conditions if self.eviction is not None else set()
        room = {**self.allocatable, **self.allocations.room()}
        if pod.spec.os is not None and pod.spec.os.name != "linux":
            words = "Failed to admit pod as the OS field doesn't match node OS"
            return Rejection("PodOSNotSupported", words)
        if why := sysctls.forbidden(pod, self._node.config.allowed_unsafe_sysctls):
            return Rejection("SysctlForbidden", f"forbidden sysctl: {why}")
        return admission.admit(pod, others, room, conditions) or self._elsewhere(pod)

    def _elsewhere(self, pod: Pod) -> Rejection | None:
        name = self._node.config.node_name
        if not affinity.allows(pod, name, affinity.node_labels(name)):
            words = "node(s) didn't match Pod's node affinity/selector"
            return Rejection("NodeAffinity", f"Predicate NodeAffinity failed: {words}")
        if why := security.app_armor_refusal(pod):
            return Rejection("AppArmor", f"Cannot enforce AppArmor: {why}")
        return None

    def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Begin the periodic work; the stack ends it."""
        stack.callback(self._node.cgroups.close)
        self._stack = stack
        garbage = self._config.garbage
        for seconds, work in (
            (garbage.log_monitor_interval, self._rotate_logs),
            (garbage.container_period, self._collect_containers),
            (garbage.image_period, self._collect_images),
            (self._config.eviction.monitoring_period, self._evict),
            (self._config.devices.cpu_manager_reconcile_period, self._reconcile_cpus),
        ):
            task = asyncio.create_task(self._every(seconds, work), name=work.__name__.strip("_"))
            stack.push_async_callback(_cancelled, task)

    async def _rotate_logs(self) -> None:
        await self._logs.look(self._node.cache.containers())

    async def _reconcile_cpus(self) -> None:
        await self.allocations.reconcile(self._node.client, self._node.cache.containers())

    async def _evict(self) -> None:
        if self.eviction is not None:
            await self.eviction.look()

    async def _collect_images(self) -> None:
        before = self._node.pull_records.known()  # what is pulled meanwhile stays
        await self.images.look(self._pods())
        self._node.pull_records.forget(before - self.images.known())

    async def _collect_containers(self) -> None:
        if self._node.config.remove_orphans:
            await gc.collect_sandboxes(
                self._node.client, lambda: {pod.uid for pod in self._pods()}, self._node.config.root
            )
            self._node.cgroups.sweep({pod.uid for pod in self._pods()} | self._node.cache.uids())
        await asyncio.to_thread(log_links.remove_dead, self._node.config)

    def _pods(self) -> list[Pod]:
        return [worker.pod for worker in self._workers()]

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work`` again and again; a failure is logged and the next turn tries again."""
        never = asyncio.Event()
        name = work.__name__.strip("_").replace("_", " ")
        while True:
            await self._node.clock.wait(never, seconds)
            await self._node.lifecycle.synced.wait()
            try:
                await work()
            except (NodeError, OSError) as exc:
                unknown = isinstance(exc, NodeError) and exc.code is Code.UNIMPLEMENTED
                log.log(logging.DEBUG if unknown else logging.WARNING, "%s: %s", name, exc)
            except Exception:
                log.exception("%s failed", name)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

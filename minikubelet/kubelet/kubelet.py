"""The kubelet: desired pods from a source, one worker each, everything of the runtime through CRI."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import credential_providers, kernel_settings, orphans, podfiles, shutdown
from minikubelet.kubelet.addresses import node_addresses
from minikubelet.kubelet.admission import Rejection
from minikubelet.kubelet.backoff import Backoff
from minikubelet.kubelet.cgroups.tree import CgroupTree
from minikubelet.kubelet.checkpoint import load, load_for
from minikubelet.kubelet.clock import Clock, SystemClock
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.cri_client import Channel, CriClient
from minikubelet.kubelet.events import NORMAL, WARNING, Event, EventRecorder
from minikubelet.kubelet.images import ImageManager
from minikubelet.kubelet.keyring import Keyring, node_folders
from minikubelet.kubelet.lookups import Key, Lookups
from minikubelet.kubelet.managers import Crowd, ResourceManagers
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.static import CONFIG_HASH
from minikubelet.kubelet.metrics.arrivals import Arrivals
from minikubelet.kubelet.metrics.instruments import Instruments
from minikubelet.kubelet.metrics.starts import StartMeter
from minikubelet.kubelet.node import Node, Volumes
from minikubelet.kubelet.node_status import NodeStatus
from minikubelet.kubelet.object_store import ObjectStore
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.observed import RuntimeCache
from minikubelet.kubelet.pleg import LifecycleEvents
from minikubelet.kubelet.pod_worker import PodWorker
from minikubelet.kubelet.probes.manager import ProbeEvent, ProbeManager, ProbeUpdate
from minikubelet.kubelet.pull_records import PullRecords
from minikubelet.kubelet.references import references
from minikubelet.kubelet.runtime_features import RuntimeFeatures
from minikubelet.kubelet.serving import Answers, open_apis
from minikubelet.kubelet.sinks import MemorySink, PodChange
from minikubelet.kubelet.sources import PodSource, is_complete
from minikubelet.kubelet.sources.configured import make_source
from minikubelet.kubelet.user_namespaces import Range, UserNamespaces
from minikubelet.kubelet.volumes.manager import VolumeManager
from minikubelet.kubelet.volumes.plugin import Surroundings as Around
from minikubelet.linux.cgroup.mount import find_mount

log = logging.getLogger(__name__)

PULL_BACKOFF = (10.0, 300.0)
"""Seconds of the first and the longest ImagePullBackOff."""
FORGET_CRASHES = 600.0
"""Seconds without a crash after which the next one is the first again."""
GIVE_UP = 10.0
"""Seconds that the runtime may be away while pods are to be stopped."""


class Kubelet:
    """One node's kubelet. :meth:`run` does the work; the other methods may be called at any time."""

    def __init__(
        self,
        config: KubeletConfig,
        *,
        source: PodSource | None = None,
        volumes: Volumes | None = None,
        lookups: Lookups | None = None,
        clock: Clock | None = None,
        runtime: Channel | None = None,
    ) -> None:
        """``runtime``: a way to the runtime at the configuration's endpoint that is there already."""
        self.config = config
        self._runtime = runtime
        self.sink = MemorySink()
        self.event_recorder = EventRecorder(config.node_name)
        self._clock: Clock = clock or SystemClock()
        self._source = source
        self.objects = ObjectStore()
        """ConfigMaps and the like from the manifests."""
        self.objects.listen(self._objects_changed)
        self._lookups: Lookups = lookups or self.objects
        self._counted = Instruments()
        around = Around(self._lookups, self._allocatable, config.claims_dir)
        self._volumes: Volumes = volumes or VolumeManager(
            config.pods_dir, around=around, counted=self._counted.storage
        )
        self._providers = credential_providers.load(
            config.credential_provider_config,
            config.credential_provider_bin_dir,
            self._clock,
            self._counted.images,
        )
        self._node: Node | None = None
        self._workers: dict[str, PodWorker] = {}
        self._desired: dict[str, Pod] = {}
        self._pending: dict[str, Pod] = {}
        """Pods by UID that wait until another of the same name or UID has gone."""
        self._arrivals = Arrivals(self._counted)
        self._stopping = False
        self._powering_off = False

    # --- what others ask -------------------------------------------------------------------------------

    def pods(self) -> list[Pod]:
        """All pods with their status."""
        return self.sink.pods()

    def watch_pods(self) -> AsyncIterator[PodChange]:
        """All pods, then every change."""
        return self.sink.watch()

    def events(self, uid: str = "") -> list[Event]:
        """Recorded events, oldest first; with ``uid`` of that pod only."""
        return self.event_recorder.list(uid)

    def watch_events(self, *, history: bool = True) -> AsyncIterator[Event]:
        """Events as they are recorded."""
        return self.event_recorder.watch(history=history)

    def log_directory(self, pod: Pod) -> str:
        """The folder of a pod's container logs: ``CONTAINER/N.log``."""
        return podfiles.log_directory(self.config, pod)

    async def exec_url(self, request: api.ExecRequest) -> str:
        """The runtime's URL for a streaming exec. Raises NodeError."""
        assert self._node is not None, "exec_url needs a running kubelet"
        return await self._node.client.exec(request)

    def add_ephemeral(self, uid: str, container: EphemeralContainer) -> None:
        """Give a pod one container more, to look into it; it outlives the daemon. Raises NodeError."""
        worker = self._workers.get(uid)
        if worker is None:
            raise NodeError(Code.NOT_FOUND, "the pod is gone")
        worker.add_ephemeral(container)

    # --- running ---------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Work until ``stop`` is set or the task is cancelled; pods stay, unless ``stop_pods_on_exit``.

        Raises OSError or NodeError if it can't begin: folders, the local socket, the kernel's settings.
        """
        if self.config.protect_kernel_defaults and (wrong := kernel_settings.problems()):
            raise NodeError(Code.FAILED_PRECONDITION, f"protectKernelDefaults: {'; '.join(wrong)}")
        os.makedirs(self.config.pods_dir, mode=0o750, exist_ok=True)
        os.makedirs(self.config.log_dir, mode=0o755, exist_ok=True)
        node = self._node = self._make_node()
        self._managers = ResourceManagers(node, self._workers.values)
        self._managers.allocations.changed = self._pod_changed
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(node.client.close)
            shown = NodeStatus(node, self._managers)
            answers = Answers(
                lambda: len(self._desired), self.objects.objects, self.add_ephemeral, shown.node
            )
            ports = await open_apis(stack, node, self.sink, answers)
            stack.push_async_callback(node.probes.close)
            await self._background(stack, node.lifecycle.run(), "lifecycle events")
            self._managers.start(stack)
            stack.push_async_callback(self._leave_pods)
            following = asyncio.create_task(self._follow_source(node))
            stack.push_async_callback(_cancelled, following)
            opening = asyncio.create_task(ports.start())
            stack.push_async_callback(_cancelled, opening)
            await self._until(stop or asyncio.Event(), following, opening)
            if self.config.stop_pods_on_exit:
                await self._stop_pods()
            elif await self._machine_stops():
                self._managers.stopping = True
                node.instruments.shutdown_began.set(self._clock.now_ns() / 1e9)
                await shutdown.end_pods(self.config.resources.shutdown, self._workers.values(), self._clock)
                node.instruments.shutdown_ended.set(self._clock.now_ns() / 1e9)

    def power_off(self) -> None:
        """The machine is about to go down: graceful node shutdown, if on, follows ``stop``."""
        self._powering_off = True

    @property
    def shutdown_seconds(self) -> float:
        """Seconds that :meth:`run` may take after ``stop`` when the machine goes down."""
        return shutdown.total(self.config.resources.shutdown)

    async def _machine_stops(self) -> bool:
        if not shutdown.groups(self.config.resources.shutdown):
            return False
        return self._powering_off or await shutdown.machine_is_stopping()

    def _make_node(self) -> Node:
        config, clock = self.config, self._clock
        counted = self._counted
        client = CriClient(
            config.container_runtime_endpoint,
            config.image_service_endpoint,
            counted.operation,
            config.runtime_request_timeout,
            self._runtime,
        )
        cache = RuntimeCache(clock)
        # The configuration's longest delay is for restarts; how soon they are forgotten never changes.
        restarts = Backoff(config.backoff_initial, config.backoff_max, clock.monotonic, FORGET_CRASHES)
        pulls = Backoff(*PULL_BACKOFF, clock.monotonic)
        folders = node_folders(config.root)
        keyring = Keyring(self._lookups, self.event_recorder, folders, self._providers)
        place = os.path.join(config.root, "image_manager")
        records = PullRecords(place, config.pull_verification, config.pull_allowlist, counted.images.checks)
        meter = StartMeter(self.sink, counted.starts)
        return Node(
            config=config,
            client=client,
            cache=cache,
            lifecycle=LifecycleEvents(client, cache, self._pod_changed, counted.lifecycle),
            events=self.event_recorder,
            images=ImageManager(
                client,
                self.event_recorder,
                pulls,
                clock,
                keyring,
                records,
                1 if config.serialize_pulls else config.max_parallel_pulls,
                counted.images,
                meter.pulled,
            ),
            pull_records=records,
            probes=ProbeManager(client.exec_sync, self._probe_result, self._probe_event),
            volumes=self._volumes,
            lookups=self._lookups,
            sink=meter,
            clock=clock,
            instruments=counted,
            cgroups=CgroupTree(
                config.resources.cgroups, find_mount(), config.cgroup_parent, counted.cgroup_seconds
            ),
            restarts=restarts,
            features=RuntimeFeatures(client),
            users=self._user_namespaces(),
            allocatable=self._allocatable,
            host_ips=node_addresses(config.node_ip),
        )

    def _user_namespaces(self) -> UserNamespaces:
        """The pool, without what pods have that an earlier run of this kubelet has started."""
        pool = UserNamespaces(self.config.resources.reserved.max_pods, length=self.config.ids_per_pod)
        with contextlib.suppress(OSError):
            known = [(uid, load(self.config, uid)) for uid in os.listdir(self.config.pods_dir)]
            pool.remember((uid, Range(of.users, of.users_length)) for uid, of in known if of.users)
        return pool

    def _allocatable(self) -> Mapping[str, int]:
        return self._managers.allocatable

    def _objects_changed(self, keys: frozenset[Key]) -> None:
        for worker in self._workers.values():
            if keys & references(worker.pod) or any(kind == "PersistentVolume" for kind, _, _ in keys):
                worker.objects_changed()

    @staticmethod
    async def _background(stack: contextlib.AsyncExitStack, work: object, name: str) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        task.set_name(name)
        stack.push_async_callback(_cancelled, task)

    async def _until(
        self, stop: asyncio.Event, following: asyncio.Task[None], opening: asyncio.Task[None]
    ) -> None:
        """Wait for ``stop``; a source or port that fails ends the kubelet with its error."""
        waiting = asyncio.create_task(stop.wait())
        left: set[asyncio.Future[Any]] = {waiting, following, opening}
        try:
            while {waiting, following} <= left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        finally:
            waiting.cancel()

    async def _follow_source(self, node: Node) -> None:
        source = self._source or make_source(self.config, self._manifest_problem, self.objects)
        first = orphans_are_left = True
        async for pods in source.watch():
            if first:
                node.runtime_name = await _runtime_name(node)
                await self._managers.prepare()
                self.event_recorder.node(NORMAL, "Starting", "Starting kubelet.")
            first = False
            self._apply(pods)
            if orphans_are_left and is_complete(source):
                orphans_are_left = False
                await self._collect_orphans(node)

    def _manifest_problem(self, problem: ManifestError, level: str) -> None:
        reason = "FailedValidation" if level == "error" else "UnsupportedField"
        self.event_recorder.node(WARNING, reason, str(problem))

    # --- workers ---------------------------------------------------------------------------------------

    def _apply(self, pods: list[Pod]) -> None:
        """Make the workers those of ``pods``: start, replace, terminate."""
        self._desired = {pod.uid: pod for pod in pods}
        self._arrivals.desired(self._desired)
        self._pending.clear()
        for uid, worker in self._workers.items():
            wanted = self._desired.get(uid)
            if wanted is None or _hash(wanted) != _hash(worker.pod):
                worker.terminate()
        crowd = self._managers.crowd()
        for pod in sorted(pods, key=self._runs, reverse=True):
            self._admit(pod, crowd)

    def _runs(self, pod: Pod) -> bool:
        """Those that run already come first: nobody takes their place while the daemon is away."""
        return self._node is not None and self._node.cache.view(pod.uid).is_alive

    def _admit(self, pod: Pod, crowd: Crowd) -> None:
        """Start a worker, or let the pod wait for one that is in its way."""
        if self._stopping:
            return
        present = self._workers.get(pod.uid)
        if present is not None and not present.terminating:
            present.offer(pod)
            return
        if present is not None or pod.key in crowd.keys:
            if present is not None:
                self._arrivals.returns(pod.uid)
            self._pending[pod.uid] = pod
            return
        if self._ends_former(pod):
            self._pending[pod.uid] = pod
            return
        rejection, passing = None, False
        if not load_for(self.config, pod).is_over:  # else it needs nothing of the node any more
            rejection, passing = self._managers.admit(pod, crowd)
        if rejection is not None and passing:
            self._pending[pod.uid] = pod
            return
        self._pending.pop(pod.uid, None)
        self._arrivals.starts(pod.uid, rejection.reason if rejection is not None else "")
        crowd.add(self._start(pod, rejection))

    def _ends_former(self, pod: Pod) -> bool:
        """Whether another manifest's pod of that UID is there, changed while the daemon was away: it ends."""
        assert self._node is not None
        view = self._node.cache.view(pod.uid)
        if all(each.config_hash in ("", _hash(pod)) for each in view.sandboxes):
            return False
        if orphans.is_ours(view, self.config):
            self._start(orphans.restore_pod(view)).terminate()
            return True
        return False

    def _start(self, pod: Pod, rejection: Rejection | None = None) -> PodWorker:
        assert self._node is not None
        worker = self._workers[pod.uid] = PodWorker(self._node, pod, self._worker_done, rejection)
        return worker

    def _worker_done(self, worker: PodWorker) -> None:
        if self._workers.get(worker.pod.uid) is worker:
            del self._workers[worker.pod.uid]
            for other in self._workers.values():
                other.room_changed()
        if self._pending:
            crowd = self._managers.crowd()
            for pod in list(self._pending.values()):
                self._admit(pod, crowd)

    async def _collect_orphans(self, node: Node) -> None:
        """Terminate what no manifest asks for; delete folders of pods that are gone altogether."""
        if not self.config.remove_orphans:
            return
        for uid in node.cache.uids() - set(self._workers):
            view = node.cache.view(uid)
            if orphans.is_ours(view, self.config):
                pod = orphans.restore_pod(view)
                log.info("%s has no manifest any more: it is stopped and removed", pod.title)
                node.instruments.orphaned_pods.inc()
                self._start(pod).terminate()
        await orphans.clean_folders(node, set(self._workers) | set(self._pending))

    def _pod_changed(self, uid: str) -> None:
        if not uid:
            for worker in self._workers.values():
                worker.wake()
        elif uid in self._workers:
            self._workers[uid].wake()

    def _probe_result(self, update: ProbeUpdate) -> None:
        self._pod_changed(update.target.pod_uid)

    def _probe_event(self, event: ProbeEvent) -> None:
        worker = self._workers.get(event.target.pod_uid)
        if worker is not None:
            name = event.target.container.name
            self.event_recorder.pod(worker.pod, WARNING, event.reason, event.message, name)

    async def _stop_pods(self) -> None:
        """Terminate every pod gracefully and wait until all are gone."""
        self._stopping = True
        self._pending.clear()
        workers = list(self._workers.values())
        for worker in workers:
            worker.terminate()
        ending = asyncio.gather(*(worker.ended.wait() for worker in workers))
        try:
            while not ending.done():
                await asyncio.wait({ending}, timeout=GIVE_UP)
                if not ending.done() and self._node is not None and not self._node.lifecycle.synced.is_set():
                    log.error("the runtime is away: pods are left as they are")
                    return
        finally:
            ending.cancel()

    async def _leave_pods(self) -> None:
        self._stopping = True
        await asyncio.gather(*(worker.leave() for worker in list(self._workers.values())))


async def _runtime_name(node: Node) -> str:
    """The name the runtime gives itself, once it is there."""
    while True:
        await node.lifecycle.synced.wait()
        try:
            return (await node.client.version()).runtime_name
        except NodeError as exc:
            log.warning("the runtime doesn't tell its version: %s", exc)
            await asyncio.sleep(1)


def _hash(pod: Pod) -> str:
    return pod.metadata.annotations.get(CONFIG_HASH, "")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

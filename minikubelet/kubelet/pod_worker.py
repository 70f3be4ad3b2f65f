"""One asyncio task a pod: it brings what runs to what the manifest says, woken by events and timers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from minikubelet.base import clock
from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet import ephemeral, podfiles
from minikubelet.kubelet.admission import Rejection
from minikubelet.kubelet.checkpoint import Failure
from minikubelet.kubelet.container_status import Known, Waiting
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import Container, Pod, PodStatus
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.observed import ObservedContainer, PodView
from minikubelet.kubelet.phase import FAILED, SUCCEEDED
from minikubelet.kubelet.plan import Plan, make_plan
from minikubelet.kubelet.pod_removal import PodRemoval
from minikubelet.kubelet.pod_state import REFRESH, RESET, SANDBOX, SYNC, VOLUMES, PodState
from minikubelet.kubelet.pod_volumes import PodVolumes
from minikubelet.kubelet.resize import RESIZE, Resizer
from minikubelet.kubelet.sandboxes import SandboxMaker
from minikubelet.kubelet.starter import ContainerStarter
from minikubelet.kubelet.status import make_status
from minikubelet.kubelet.terminator import Terminator

log = logging.getLogger(__name__)

_TOO_LATE = "DeadlineExceeded"
SHORTEST_WAIT = 0.1
"""Seconds between two looks that nothing but a timer asked for."""


class PodWorker:
    """Owns one pod from its manifest's appearance until nothing of it is left."""

    def __init__(
        self,
        node: Node,
        pod: Pod,
        done: Callable[[PodWorker], None],
        rejection: Rejection | None = None,
    ) -> None:
        # Its own copy: status and deletion time change here, the source keeps what the manifest says.
        self.pod = pod = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata))
        self._node = node
        self._done = done
        self._state = PodState(node, pod)
        self._volumes = PodVolumes(self._state)
        self._sandboxes = SandboxMaker(self._state, self._volumes)
        self._terminator = Terminator(self._state)
        self._removal = PodRemoval(self._state)
        self._starter = ContainerStarter(self._state, self._terminator)
        self._resizer = Resizer(self._state, self._terminator)
        pod.spec = ephemeral.with_ephemeral(pod.spec, self._state.memory.ephemeral)
        self._wake = asyncio.Event()
        self._end = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._remove = True
        self.ended = asyncio.Event()
        """Set when the worker has finished."""
        self.halted = asyncio.Event()
        """Set when nothing of a pod that has ended or failed as a whole runs any more."""
        if self._state.memory.is_over and not node.cache.view(pod.uid).is_alive:
            self.halted.set()
        if rejection is not None:
            self._fail(rejection.reason, f"Pod was rejected: {rejection.message}")
            self.halted.set()
            node.events.pod(pod, WARNING, rejection.reason, rejection.message)
        self._task = asyncio.create_task(self._run(), name=f"pod {pod.key}")

    # --- for the kubelet -------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something about the pod has changed: look again."""
        self._wake.set()

    def objects_changed(self) -> None:
        """A ConfigMap, Secret or the like that the pod refers to has changed, or the pod's own metadata."""
        self._state.objects_changed()
        self._wake.set()

    def terminate(self) -> None:
        """Stop the pod gracefully and remove all of it."""
        self._end.set()
        self._wake.set()

    def offer(self, pod: Pod) -> None:
        """The manifest as it is now; it differs from the former one in amounts of resources at most."""
        if pod.spec != self._resizer.desired:
            self._resizer.offer(pod)
            self.wake()

    def add_ephemeral(self, asked: EphemeralContainer) -> None:
        """Give the pod one container more, to look into it. Raises NodeError."""
        if self.terminating:
            raise NodeError(Code.FAILED_PRECONDITION, f'pod "{self.pod.metadata.name}" is being terminated')
        container = ephemeral.admit(self.pod, asked)
        memory = self._state.memory
        memory.ephemeral.append(container)
        try:
            self._state.write()
        except OSError as exc:
            memory.ephemeral.remove(container)
            raise NodeError(Code.INTERNAL, f"ephemeral container {container.name} not kept: {exc}") from None
        self.pod.spec = ephemeral.with_ephemeral(self.pod.spec, memory.ephemeral)
        self._publish()
        self.wake()

    def room_changed(self) -> None:
        """Another pod has gone: a resize that was deferred may fit now."""
        if self._resizer.retry():
            self.wake()

    def evict(self, reason: str, message: str, grace: int | None = None) -> None:
        """Stop the pod within ``grace`` seconds and keep it as Failed, whatever is under way for it."""
        self._fail(reason, message)
        self._state.memory.failure = Failure(reason, message)
        self._state.eviction_grace = grace
        self._state.save()
        self._interrupt.set()
        self._wake.set()

    def halt(self, reason: str, message: str, grace: int) -> None:
        """Stop the pod within ``grace`` seconds, for this time only: the next daemon runs it again.

        One that has ended is left to it.
        """
        if self._state.failure is None and self.pod.status.phase in (SUCCEEDED, FAILED):
            return
        self._fail(reason, message)
        self._state.eviction_grace = grace
        self._state.disrupted = True
        self._interrupt.set()
        self._wake.set()

    def _fail(self, reason: str, message: str) -> None:
        self._state.failure = Waiting(reason, message)

    @property
    def active(self) -> bool:
        """Whether the pod has, or may yet get, something of the node."""
        ended = self._state.failure is None and self.pod.status.phase in (SUCCEEDED, FAILED)
        return not ended and self._state.memory.ended is None and not self.halted.is_set()

    @property
    def terminating(self) -> bool:
        """Whether :meth:`terminate` was called."""
        return self._end.is_set()

    async def leave(self) -> None:
        """Stop working on the pod and leave it running."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # --- the loop --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            self._attend(self._node.cache.view(self.pod.uid))
            self._publish()
            while not self._end.is_set():
                await self._interruptible(self._sync_once())
            await self._terminate()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s: worker failed", self.pod.title)
        finally:
            self._starter.cancel()
            self.ended.set()
            self.halted.set()
            self._done(self)

    async def _interruptible(self, step: Coroutine[Any, Any, None]) -> None:
        """Run a step; termination cancels it, so that no pull or hook holds it up."""
        task = asyncio.ensure_future(step)
        ends = [asyncio.ensure_future(each.wait()) for each in (self._end, self._interrupt)]
        try:
            await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._interrupt.clear()
            for end in ends:
                end.cancel()
            if not task.done():
                task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
        failure = results[0]
        if isinstance(failure, Exception):
            log.error("%s: sync failed", self.pod.title, exc_info=failure)
            self._node.events.pod(self.pod, WARNING, "FailedSync", f"Error syncing pod: {failure!r}")
            await self._node.clock.wait(self._end, self._node.config.retry_period)

    async def _sync_once(self) -> None:
        """One look at the pod, what follows from it, then sleep until something happens."""
        await self._node.lifecycle.synced.wait()
        self._wake.clear()
        try:
            if self._state.take(SYNC):
                with self._node.instruments.timed_sync(self.pod):
                    await self._sync()
            else:
                self._publish()
        except NodeError as exc:
            log.warning("%s: %s", self.pod.title, exc)
            self._node.events.pod(self.pod, WARNING, "FailedSync", f"Error syncing pod: {exc}")
            self._state.retry_in(SYNC)
            self._publish()
        delay = self._next_look()
        await self._node.clock.wait(self._wake, delay)

    def _next_look(self) -> float | None:
        waits = [self._state.next_retry(), self._deadline_in()]
        soonest = min((wait for wait in waits if wait is not None), default=None)
        # A retry that is due may have to wait for another step that is not: never spin.
        return soonest if soonest is None else max(soonest, SHORTEST_WAIT)

    async def _sync(self) -> None:
        """Looks and steps until there is nothing left to do now; the status is published then."""
        while self._state.memory.ended is None:
            self._wake.clear()  # whatever it was, this look sees it
            view = self._node.cache.view(self.pod.uid)
            self._attend(view)
            if self._over_deadline():
                if any(not c.has_exited for c in view.containers) or (view.sandbox and view.sandbox.ready):
                    await self._terminator.stop_pod(view, self._state.eviction_grace)
                if self._state.memory.failure is not None:
                    self._publish()
                    await self._removal.content()
                self._state.drop_retries(())
                self.halted.set()
                self._note_end()
                return
            await self._volumes.refresh(view)
            await self._resizer.look(view)
            view = self._node.cache.view(self.pod.uid)
            plan = self._plan(view)
            planned = {each.name for each in [*plan.start_ephemeral, *plan.start_init, *plan.start]}
            if plan.create_sandbox:
                planned = {SANDBOX, VOLUMES}
            elif planned:
                planned |= {VOLUMES}
            elif plan.reset:
                planned = {RESET}
            self._state.drop_retries(planned | {REFRESH, RESIZE})
            if not await self._carry_out(plan, view):
                await self._removal.old_sandboxes()
                self._note_end()
                return

    def _plan(self, view: PodView) -> Plan:
        """What is next. Of a pod that is over nothing is started, whatever the runtime has lost of it."""
        self._publish()
        status = self.pod.status
        if status.phase in (SUCCEEDED, FAILED):
            return Plan(sandbox=view.sandbox, stop_pod=view.is_alive)
        everyone = [*status.init_container_statuses, *status.container_statuses]
        ended = [each.name for each in everyone if each.state.terminated is not None]
        over = {name for name in ended if view.latest(name) is None}
        return make_plan(self.pod, view, self._state, self._state.memory.restarts, over)

    def _note_end(self) -> None:
        """Remember a pod that has ended for good: what the runtime has left of it anybody may remove."""
        self._publish()
        view = self._node.cache.view(self.pod.uid)
        failure = self._state.failure
        by_itself = failure is None or failure.reason == _TOO_LATE
        if by_itself and self.pod.status.phase in (SUCCEEDED, FAILED) and not view.is_alive:
            self._state.memory.ended = self.pod.status
            self._state.save()
            self.halted.set()

    async def _carry_out(self, plan: Plan, view: PodView) -> bool:
        """Do what is planned; whether another look may find more to do at once."""
        state = self._state
        if plan.create_sandbox:
            if not state.take(SANDBOX):
                return False
            self._starter.prefetch(self._soon())
        if plan.stop_pod:
            await self._terminator.stop_pod(view, None)
        if plan.reset and not state.may_reset():
            return False
        for seen in plan.reset:
            await self._terminator.reset(state.spec_of(seen.name) or Container(name=seen.name), seen)
        if plan.reset:
            return True
        for kill in plan.kill:
            probe = getattr(kill.spec, f"{kill.probe}_probe") if kill.probe else None
            grace = probe.termination_grace_period_seconds if probe else None
            await self._terminator.kill(kill.spec, kill.container, kill.message, grace)
            state.ended_by_plan[kill.spec.name] = kill.container.id
        sandbox = plan.sandbox
        if plan.create_sandbox:
            sandbox = await self._sandboxes.create(plan, view)
        if sandbox is None:
            return False
        wanted = [*plan.start_ephemeral, *plan.start_init, *plan.start]
        if not wanted:
            return bool(plan.kill or plan.stop_pod)
        if not await self._volumes.prepare():
            return False
        progress = plan.create_sandbox or bool(plan.kill)
        for index, container in enumerate(wanted):
            if index:
                self._publish()  # what became of the one before; of the last one the next look tells
            if await self._starter.start(container, sandbox):
                progress = True
        return progress

    def _soon(self) -> list[Container]:
        """Containers whose images are wanted first: all of them, they are looked for side by side."""
        return [*self.pod.spec.init_containers, *self.pod.spec.containers]

    def _attend(self, view: PodView) -> None:
        """Probes for what runs, none for what ended; words of those that ended."""
        state = self._state
        state.hooked &= {container.id for container in view.containers}
        for container in [*self.pod.spec.init_containers, *self.pod.spec.containers]:
            seen = view.latest(container.name)
            if seen is None:
                continue
            if seen.is_running:
                # One that runs and that this worker did not start was started before the daemon's restart;
                # upstream doesn't run its postStart hook again either.
                state.hooked.add(seen.id)
                state.watch_health(container, seen)
            elif seen.has_exited:
                self._node.probes.remove(self.pod.uid, container.name)
                self._read_message(seen)
        for each in self.pod.spec.ephemeral_containers:
            seen = view.latest(each.name)
            if seen is not None and seen.has_exited:
                self._read_message(seen)

    def _read_message(self, seen: ObservedContainer) -> None:
        """The termination message of a container that has ended, read once."""
        if seen.message or not seen.termination_path:
            return
        if not seen.termination_path.startswith(self._node.config.pod_dir(self.pod.uid) + "/"):
            return
        text = podfiles.read_tail(seen.termination_path, podfiles.MAX_TERMINATION_MESSAGE)
        fallback = seen.termination_policy == "FallbackToLogsOnError" and seen.exit_code != 0
        if not text and fallback and seen.log_path:
            text = podfiles.log_tail(seen.log_path)
        seen.message = text

    # --- deadlines -------------------------------------------------------------------------------------

    def _deadline_in(self) -> float | None:
        seconds = self.pod.spec.active_deadline_seconds
        if seconds is None or self.pod.status.phase in (SUCCEEDED, FAILED):
            return None
        begun = clock.parse_rfc3339(self._state.memory.start_time)
        return max(0.0, seconds - (self._node.clock.now_ns() - begun) / 1e9)

    def _over_deadline(self) -> bool:
        if self._deadline_in() == 0.0 and self._state.failure is None:
            message = "Pod was active on the node longer than the specified deadline"
            self._state.failure = Waiting(_TOO_LATE, message)
            self._node.events.pod(self.pod, NORMAL, _TOO_LATE, message)
        return self._state.failure is not None

    # --- status ----------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Work out the status and hand it on if it has changed."""
        state, node = self._state, self._node
        if state.memory.ended is not None:
            self._show(state.memory.ended)
            return
        view = node.cache.view(self.pod.uid)
        running = [each for each in view.containers if each.is_running]
        started = frozenset(each.id for each in running if state.has_started(each))
        ready = frozenset(each.id for each in running if state.is_ready(each))
        known = Known(
            runtime_name=node.runtime_name,
            host_ips=node.host_ips,
            start_time=state.memory.start_time,
            waiting=state.waiting,
            started=started,
            ready=ready,
            restarts=state.memory.restarts,
            reset=state.memory.reset,
            failure=state.failure,
            disrupted=state.disrupted or state.memory.failure is not None,
            resize=self._resizer.conditions(),
            actuated=state.memory.actuated,
            devices=node.allocations.health(self.pod) if node.allocations is not None else {},
        )
        status = make_status(self.pod, view, known, node.clock.now_ns())
        state.memory.started, state.memory.ready = sorted(started), sorted(ready)
        if self.pod.spec.active_deadline_seconds is not None or view.sandboxes:
            state.save()
        self._show(status)

    def _show(self, status: PodStatus) -> None:
        if status != self.pod.status:
            self.pod.status = status
            spec = ephemeral.with_ephemeral(self._resizer.desired, self.pod.spec.ephemeral_containers)
            self._node.sink.update(msgspec.structs.replace(self.pod, spec=spec, status=status))

    # --- the end ---------------------------------------------------------------------------------------

    async def _terminate(self) -> None:
        """Stop and remove everything, as often as it takes."""
        node = self._node
        self._starter.cancel()
        grace = self._terminator.grace_period
        self.pod.metadata = msgspec.structs.replace(
            self.pod.metadata,
            deletion_timestamp=clock.rfc3339(node.clock.now_ns()),
            deletion_grace_period_seconds=grace,
        )
        node.sink.update(msgspec.structs.replace(self.pod))
        node.probes.stop_liveness(self.pod.uid)
        while True:
            await node.lifecycle.synced.wait()
            try:
                if await self._remove_all():
                    break
            except Exception as exc:
                log.warning("%s: termination: %s", self.pod.title, exc, exc_info=not _expected(exc))
                node.events.pod(self.pod, WARNING, "FailedKillPod", f"error killing pod: {exc}")
                await asyncio.sleep(1)
        node.probes.remove(self.pod.uid)
        node.images.forget(self.pod.uid)
        node.restarts.forget(self.pod.uid)
        node.users.release(self.pod.uid)
        node.sink.remove(self.pod)

    async def _remove_all(self) -> bool:
        """One attempt; whether nothing is left in the runtime."""
        node, uid = self._node, self.pod.uid
        await node.lifecycle.refresh_pod(uid)
        view = node.cache.view(uid)
        await self._terminator.stop_pod(view)
        self._publish()
        await self._removal.from_runtime(view)
        await node.volumes.teardown(uid)
        await asyncio.to_thread(self._removal.files)
        # A call that termination cut short may have made something after all.
        await node.lifecycle.refresh_pod(uid)
        view = node.cache.view(uid)
        return not view.sandboxes and not view.containers


def _expected(exc: Exception) -> bool:
    return isinstance(exc, (NodeError, OSError))

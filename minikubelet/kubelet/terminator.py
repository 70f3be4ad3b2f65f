"""Stopping containers and pods gracefully: preStop hooks, grace periods, sidecars last."""

from __future__ import annotations

import asyncio
import functools
import logging
import os

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet import logrotate, podfiles
from minikubelet.kubelet.defaults import TERMINATION_GRACE_PERIOD, is_sidecar
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.hooks import HookFailed, run_hook, tell_fallback
from minikubelet.kubelet.objects import Container, LifecycleHandler
from minikubelet.kubelet.observed import ObservedContainer, PodView
from minikubelet.kubelet.pod_state import PodState

log = logging.getLogger(__name__)

MINIMUM_GRACE = 2
"""Seconds that a container always gets, whatever its hook has used up."""

HOOK_END = 1.0
"""Seconds until a hook's command, which dies with its container, has been seen to end."""


class Terminator:
    """Stops what belongs to one pod."""

    def __init__(self, state: PodState) -> None:
        self._state = state
        self._node = state.node

    @property
    def grace_period(self) -> int:
        """The pod's terminationGracePeriodSeconds."""
        seconds = self._state.pod.spec.termination_grace_period_seconds
        return TERMINATION_GRACE_PERIOD if seconds is None else seconds

    async def kill(
        self,
        container: Container,
        seen: ObservedContainer,
        message: str = "",
        grace: int | None = None,
        turn: asyncio.Event | None = None,
    ) -> None:
        """Stop a running container within ``grace`` seconds (default: the pod's), its preStop hook included.

        With ``turn``, the stop signal waits for that event as long as there is time. Raises NodeError.
        """
        clock, node = self._node.clock, self._node
        node.events.pod(
            self._state.pod,
            NORMAL,
            "Killing",
            message or f"Stopping container {container.name}",
            container.name,
        )
        allowed = self.grace_period if grace is None else grace
        deadline = clock.monotonic() + allowed
        hook = container.lifecycle.pre_stop if container.lifecycle else None
        running: asyncio.Task[None] | None = None
        if hook is not None and allowed > 0:
            running = asyncio.create_task(self._pre_stop(container, seen, hook))
        try:
            if running is not None:
                await asyncio.wait({running}, timeout=allowed)
            if turn is not None and deadline > clock.monotonic():
                await clock.wait(turn, deadline - clock.monotonic())
            left = max(MINIMUM_GRACE, int(deadline - clock.monotonic() + 0.5))
            node.probes.remove(self._state.pod.uid, container.name)
            try:
                await node.client.stop_container(seen.id, left)
            except NodeError as exc:
                if exc.code is not Code.NOT_FOUND:
                    raise
            if running is not None and hook is not None and hook.exec is not None:
                await asyncio.wait({running}, timeout=HOOK_END)
        finally:
            if running is not None:
                running.cancel()
        await node.lifecycle.refresh_container(seen.id, seen.sandbox_id)

    async def _pre_stop(self, container: Container, seen: ObservedContainer, hook: LifecycleHandler) -> None:
        """Run a hook. One that takes longer than the grace period goes on until its container has ended."""
        pod, ip = self._state.pod, self._state.pod_ip()
        fell_back = functools.partial(tell_fallback, self._node, pod)
        try:
            await run_hook(self._node.client, pod, container, seen.id, hook, ip, fell_back)
        except HookFailed as exc:
            log.warning("%s: %s", pod.title, exc)
            self._node.events.pod(pod, WARNING, "FailedPreStopHook", "PreStopHook failed", container.name)
        except asyncio.CancelledError:
            if hook.sleep is not None:
                self._node.instruments.cut_sleeps.inc()
            log.warning("%s: preStop hook of %s outlived the container", pod.title, container.name)
            raise

    async def stop_pod(self, view: PodView, grace: int | None = None) -> None:
        """Stop every container (sidecars after the others, last one first), then the sandboxes.

        Raises NodeError of the first failure, after everything was tried.
        """
        running = [each for each in view.containers if not each.has_exited]
        order = {c.name: i for i, c in enumerate(self._state.pod.spec.init_containers) if is_sidecar(c)}
        gone = {each.id: asyncio.Event() for each in running}

        async def stop(each: ObservedContainer) -> None:
            spec = self._state.spec_of(each.name) or Container(name=each.name)
            turn: asyncio.Event | None = None
            waiter: asyncio.Task[None] | None = None
            if each.name in order:
                mine = order[each.name]
                before = [gone[c.id] for c in running if order.get(c.name, 1 << 30) > mine and c is not each]
                turn = asyncio.Event()
                waiter = asyncio.create_task(_all_set(before, turn))
            try:
                if each.is_running:
                    await self.kill(spec, each, grace=grace, turn=turn)
            finally:
                gone[each.id].set()
                if waiter is not None:
                    waiter.cancel()

        results = await asyncio.gather(*(stop(each) for each in running), return_exceptions=True)
        for sandbox in view.sandboxes:
            if sandbox.ready:
                await self._node.client.stop_pod_sandbox(sandbox.id)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await self._node.lifecycle.refresh_pod(self._state.pod.uid)

    async def reset(self, container: Container, seen: ObservedContainer) -> None:
        """End a container, without hook and grace, and remove it, so that the pod starts over (KEP-5532).

        The log of the last run stays until the next such time. Raises NodeError.
        """
        state = self._state
        state.note_reset(seen)
        if not seen.has_exited:
            message = f"Stopping container {seen.name}: all containers of the pod are restarted"
            await self.kill(container, seen, message, grace=0)
        try:
            await self._node.client.remove_container(seen.id)
        except NodeError as exc:
            if exc.code is not Code.NOT_FOUND:
                raise
        self._node.cache.remove(seen.id)
        self._node.probes.remove(state.pod.uid, seen.name)
        podfiles.remove_logs_before(self._node.config, state.pod, seen.name, state.memory.reset[seen.name])

    async def remove_container(self, seen: ObservedContainer) -> None:
        """Remove a dead container with its log file. A failure is logged; the next pruning tries again."""
        try:
            await self._node.client.remove_container(seen.id)
        except NodeError as exc:
            if exc.code is not Code.NOT_FOUND:
                log.warning("%s: removing container %s: %s", self._state.pod.title, seen.id, exc)
                return
        self._node.cache.remove(seen.id)
        folder = podfiles.log_directory(self._node.config, self._state.pod)
        path = os.path.join(folder, podfiles.log_path(seen.name, seen.attempt))
        logrotate.remove_log(path)


async def _all_set(events: list[asyncio.Event], then: asyncio.Event) -> None:
    for event in events:
        await event.wait()
    then.set()

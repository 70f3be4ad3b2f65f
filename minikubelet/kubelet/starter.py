"""Starting one container: backoff, image, configuration, create, start, postStart hook."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import log_links, podfiles, runtime_class
from minikubelet.kubelet.backoff import spell
from minikubelet.kubelet.container_status import Waiting
from minikubelet.kubelet.cri_config import (
    Surroundings,
    container_config,
    needs_features,
)
from minikubelet.kubelet.environment import (
    ContainerConfigError,
    Known,
    PodAddresses,
    make_environment,
)
from minikubelet.kubelet.ephemeral import target_id
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.hooks import HookFailed, run_hook, tell_fallback
from minikubelet.kubelet.images import ImageError, LocalImage, Wanted
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.observed import CREATED, ObservedContainer, ObservedSandbox
from minikubelet.kubelet.pod_state import PodState
from minikubelet.kubelet.terminator import Terminator

log = logging.getLogger(__name__)

_Ask = Callable[[str, str], Awaitable[None]]
SHOW_PULL_ERROR = 3.0
"""Seconds for which a failed pull shows as ErrImagePull before it becomes ImagePullBackOff."""


@dataclass
class _Failed(Exception):
    """A step failed: the waiting reason, its message, and when to try again (None: the usual time)."""

    reason: str
    message: str
    retry: float | None = None
    event: str = "Failed"
    told: bool = field(default=False)
    container_id: str = ""
    """What the message may hold and an event shall not: with it, each would be another one."""


class ContainerStarter:
    """Starts the containers of one pod."""

    def __init__(self, state: PodState, terminator: Terminator) -> None:
        self._state = state
        self._node = state.node
        self._terminator = terminator
        self._prefetched: dict[tuple[str, str], asyncio.Task[LocalImage]] = {}

    # --- images ----------------------------------------------------------------------------------------

    def prefetch(self, containers: list[Container]) -> None:
        """Begin to look for (and pull) the images of containers that will be started soon."""
        for container in containers:
            key = (container.image, container.image_pull_policy)
            if key not in self._prefetched and self._state.may_try(container.name):
                task = asyncio.create_task(self._node.images.ensure(self._wanted(container)))
                task.add_done_callback(_retrieve)
                self._prefetched[key] = task

    def cancel(self) -> None:
        """Give up what was begun ahead of time."""
        for task in self._prefetched.values():
            task.cancel()
        self._prefetched.clear()

    def _wanted(self, container: Container) -> Wanted:
        pod = self._state.pod
        return Wanted(pod, container.image, container.image_pull_policy, container.name)

    async def _image(self, container: Container) -> LocalImage:
        task = self._prefetched.pop((container.image, container.image_pull_policy), None)
        try:
            if task is not None:
                image = await task
            else:
                image = await self._node.images.ensure(self._wanted(container))
        except ImageError as exc:
            raise _no_image(exc) from None
        if not image.pulled:
            self._node.images.say_present(self._wanted(container))
        return image

    async def _image_volumes(self, container: Container) -> int:
        """Get the images that the container mounts, and count its mounts of them.

        Each failure is the container's, as if it were its own image.

        What was found for another container will do, but a container that starts again looks again.
        """
        state, again = self._state, bool(self._all(container))
        mounted = {mount.name for mount in container.volume_mounts}
        for volume in state.pod.spec.volumes:
            if volume.image is None or volume.name not in mounted:
                continue
            self._node.instruments.images.volumes_requested.inc()
            if volume.name in state.image_volumes and not again:
                continue
            wanted = Wanted(state.pod, volume.image.reference, volume.image.pull_policy, container.name)
            try:
                state.image_volumes[volume.name] = (await self._node.images.ensure(wanted)).ref
            except ImageError as exc:
                raise _no_image(exc) from None
        return sum(mount.name in state.image_volumes for mount in container.volume_mounts)

    # --- starting --------------------------------------------------------------------------------------

    async def start(self, container: Container, sandbox: ObservedSandbox) -> bool:
        """Start a container; whether it was started. What failed is in ``state.waiting``, with a retry."""
        state = self._state
        if not state.take(container.name):
            return False
        counted, kind = self._node.instruments, _kind(state.pod, container)
        backoff = state.backoff(container)
        try:
            self._wait_out_backoff(container)
            counted.started_containers.inc((kind,))
            volumes = await self._image_volumes(container)
            image = await self._image(container)
            with counted.images.mounting(volumes):
                container_id = await self._create(container, sandbox, image)
            await self._run(container, sandbox, container_id)
        except _Failed as exc:
            if exc.reason in _IN_SANDBOX and await self._has_died(sandbox):
                # No failure of the container, which is the next sandbox's: neither told nor waited for.
                state.put_backoff(container, backoff)
                return True
            if exc.reason != "CrashLoopBackOff":
                counted.started_containers_errors.inc((kind, exc.reason))
            self._failed(container, exc)
            return False
        state.waiting.pop(container.name, None)
        await self._prune(container)
        return True

    async def _has_died(self, sandbox: ObservedSandbox) -> bool:
        """Whether the runtime says now that a sandbox isn't ready (any more)."""
        try:
            await self._node.lifecycle.refresh_pod(self._state.pod.uid)
        except NodeError:
            return False
        now = self._node.cache.sandbox(sandbox.id)
        return now is None or not now.ready

    def _failed(self, container: Container, exc: _Failed) -> None:
        state = self._state
        state.waiting[container.name] = Waiting(exc.reason, exc.message)
        state.retry_in(container.name, exc.retry)
        if not exc.told:
            message = exc.message
            if exc.event == "Failed":
                message = f"Error: {exc.reason if exc.reason in _PULL_WORDS else exc.message}"
            if exc.container_id:
                message = message.replace(exc.container_id, container.name)
            self._event(container, WARNING, exc.event, message)

    def _event(self, container: Container, kind: str, reason: str, message: str) -> None:
        self._node.events.pod(self._state.pod, kind, reason, message, container.name)

    def _wait_out_backoff(self, container: Container) -> None:
        """Upstream's doBackOff: the delay counts from the end of the last run.

        It looks at what had ended before the sync began: a container that was stopped in order to be
        replaced doesn't count yet.
        """
        state, restarts = self._state, self._node.restarts
        replaced = state.ended_by_plan.pop(container.name, None)
        last = next((c for c in self._all(container) if c.has_exited and c.id != replaced), None)
        if last is None:
            return
        key = state.backoff_key(container)
        wait = restarts.remaining(key, last.finished)
        if wait:
            name = container.name
            message = f"Back-off restarting failed container {name} in pod {state.pod.title}"
            self._event(container, WARNING, "BackOff", message)
            delay = spell(restarts.delay(key))
            raise _Failed(
                "CrashLoopBackOff",
                f"back-off {delay} restarting failed container={name} pod={state.pod.title}",
                wait,
                told=True,
            )
        restarts.advance(key, last.finished)
        state.note_backoff(container)

    def _all(self, container: Container) -> list[ObservedContainer]:
        return self._node.cache.view(self._state.pod.uid).all_of(container.name)

    async def _attempt(self, container: Container) -> int:
        """The restart count of the next container. One that was made but never started makes room."""
        seen = self._all(container)
        if seen and seen[0].state == CREATED:
            # It never ran, so it does not count, even if the daemon ends before the next one is made.
            self._state.memory.restarts.pop(container.name, None)
            if seen[0].restart_count:
                self._state.memory.restarts[container.name] = seen[0].restart_count - 1
            self._state.save()
            await self._terminator.remove_container(seen[0])
            return seen[0].restart_count
        if seen:
            return seen[0].restart_count + 1
        remembered = self._state.memory.restarts.get(container.name, -1)
        logged = podfiles.last_logged_attempt(self._node.config, self._state.pod, container.name)
        return max(remembered, logged) + 1

    async def _create(self, container: Container, sandbox: ObservedSandbox, image: LocalImage) -> str:
        state, node = self._state, self._node
        try:
            attempt = await self._attempt(container)
            ips = sandbox.ips or ()
            addresses = PodAddresses(node.host_ips if state.pod.spec.host_network else ips, node.host_ips)
            volumes = state.volumes or {}
            known = Known(node.lookups, addresses, node.allocatable(), volumes)
            environment = await make_environment(state.pod, container, known)
            users = await state.user_namespace()
            around = Surroundings(
                node.config, image, attempt, environment, volumes, state.image_volumes, users=users
            )
            around.target = target_id(container, node.cache.view(state.pod.uid))
            if needs_features(state.pod, container):
                around.features = await node.features.of(runtime_class.resolve(state.pod, node.lookups))
            if state.pod.spec.host_network or ips:
                around.hosts_file = podfiles.write_hosts(node.config, state.pod, ips)
            config = container_config(state.pod, container, around)
            await self._allocate(container, config)
            pod_config = state.sandbox_config(sandbox.attempt, users)
        except (ContainerConfigError, OSError) as exc:
            raise _Failed("CreateContainerConfigError", str(exc)) from None
        except NodeError as exc:
            raise _Failed("CreateContainerError", str(exc)) from None
        return await self._create_in(container, sandbox, config, pod_config)

    async def _allocate(self, container: Container, config: api.ContainerConfig) -> None:
        if self._node.allocations is None:
            return
        try:
            await self._node.allocations.prepare(self._state.pod, container, config)
        except NodeError as exc:
            raise ContainerConfigError(str(exc)) from None

    async def _create_in(
        self,
        container: Container,
        sandbox: ObservedSandbox,
        config: api.ContainerConfig,
        pod_config: api.PodSandboxConfig,
    ) -> str:
        try:
            container_id = await self._node.client.create_container(sandbox.id, config, pod_config)
        except NodeError as exc:
            if exc.code is Code.ALREADY_EXISTS:
                with contextlib.suppress(NodeError):
                    await self._node.lifecycle.refresh_pod(self._state.pod.uid)
            raise _Failed("CreateContainerError", str(exc)) from None
        self._event(container, NORMAL, "Created", "Container created")
        self._state.memory.restarts[container.name] = config.metadata.attempt
        self._state.memory.actuated[container.name] = container.resources
        self._state.save()
        return container_id

    async def _run(self, container: Container, sandbox: ObservedSandbox, container_id: str) -> None:
        state, node = self._state, self._node
        try:
            await node.client.start_container(container_id)
        except NodeError as exc:
            await self._learn(node.lifecycle.refresh_container, container_id, sandbox)
            ended = node.cache.container(container_id)
            # One that has ended goes by the restart policy and its backoff, at once; else it is unclear.
            retry = 0.0 if ended is not None and ended.has_exited else None
            raise _Failed("RunContainerError", str(exc), retry, container_id=container_id) from None
        self._event(container, NORMAL, "Started", "Container started")
        await self._learn(node.lifecycle.learn_started, container_id, sandbox)
        seen = node.cache.container(container_id)
        if seen is None:
            return
        log_links.add(node.config, state.pod, seen)
        if seen.is_running and not isinstance(container, EphemeralContainer):
            state.watch_health(container, seen)
        hook = container.lifecycle.post_start if container.lifecycle else None
        if hook is not None and seen.is_running:
            try:
                told = functools.partial(tell_fallback, node, state.pod)
                await run_hook(node.client, state.pod, container, container_id, hook, state.pod_ip(), told)
            except HookFailed as exc:
                # The message may hold what the hook printed: it goes to the status, not into an event.
                self._event(container, WARNING, "FailedPostStartHook", "PostStartHook failed")
                await self._terminator.kill(container, seen, "FailedPostStartHook")
                raise _Failed("PostStartHookError", str(exc), 0.0, told=True) from None
        state.hooked.add(container_id)

    async def _learn(self, ask: _Ask, container_id: str, sandbox: ObservedSandbox) -> None:
        try:
            await ask(container_id, sandbox.id)
        except NodeError as exc:
            log.warning("%s: status of %s: %s", self._state.pod.title, container_id, exc)

    async def _prune(self, container: Container) -> None:
        """Keep the one before the newest, for its logs and last state; remove what is older and dead."""
        for dead in [each for each in self._all(container)[2:] if each.has_exited]:
            await self._terminator.remove_container(dead)


_IN_SANDBOX = ("CreateContainerError", "RunContainerError")
_PULL_WORDS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
)


def _no_image(exc: ImageError) -> _Failed:
    first = exc.reason in ("ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed")
    retry = min(SHOW_PULL_ERROR, exc.retry_after) if first else exc.retry_after or None
    return _Failed(exc.reason, exc.message, retry)


def _kind(pod: Pod, container: Container) -> str:
    """Upstream's ``container_type`` in metrics."""
    if isinstance(container, EphemeralContainer):
        return "ephemeral_container"
    of_init = any(each.name == container.name for each in pod.spec.init_containers)
    return "init_container" if of_init else "container"


def _retrieve(task: asyncio.Task[LocalImage]) -> None:
    """Keep asyncio from complaining about a failed prefetch that nobody came to need."""
    if not task.cancelled():
        task.exception()

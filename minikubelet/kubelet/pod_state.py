"""One pod as its worker sees it: the spec, what was tried, what is to be remembered."""

from __future__ import annotations

import logging
from collections.abc import Collection

import msgspec

from minikubelet.base import clock
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import checkpoint, runtime_class, user_namespaces
from minikubelet.kubelet.backoff import Entry
from minikubelet.kubelet.checkpoint import BackoffState
from minikubelet.kubelet.container_status import Waiting
from minikubelet.kubelet.cri_config import sandbox_config
from minikubelet.kubelet.defaults import all_containers
from minikubelet.kubelet.environment import ContainerConfigError
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.observed import ObservedContainer
from minikubelet.kubelet.probes.manager import Kind, Result, Target

log = logging.getLogger(__name__)

RESET_PERIOD = 1.0
"""Seconds between two restarts of all containers: they know no backoff, and events would drive them faster
and faster. Upstream looks at its containers once a second."""

SANDBOX = "/sandbox"
VOLUMES = "/volumes"
REFRESH = "/refresh"
SYNC = "/sync"
RESET = "/reset"
"""Keys of :attr:`PodState.not_before` beside container names."""


class PodState:
    """Mutable state of one pod; used by one worker."""

    def __init__(self, node: Node, pod: Pod) -> None:
        self.node = node
        self.pod = pod
        self.waiting: dict[str, Waiting] = {}
        self.not_before: dict[str, float] = {}
        """Monotonic time before which a failed step is not tried again."""
        self.hooked: set[str] = set()
        """IDs of containers whose postStart hook is done (or that have none)."""
        self.ended_by_plan: dict[str, str] = {}
        """By container name the ID of the one that was just stopped so that a new one takes its place."""
        self.volumes: dict[str, str] | None = None
        self.image_volumes: dict[str, str] = {}
        self.stale = True
        """What the volumes show may be out of date."""
        self.failure: Waiting | None = None
        self.eviction_grace: int | None = None
        self.disrupted = False
        """The node ended the pod for now, not for good."""
        self.memory = checkpoint.load_for(node.config, pod)
        if self.memory.failure is not None:
            self.failure = Waiting(self.memory.failure.reason, self.memory.failure.message)
        self._saved = b""
        self._sandbox_config: tuple[PodSpec, int, api.PodSandboxConfig] | None = None
        self._next_reset = 0.0
        if not self.memory.start_time:
            self.memory.start_time = clock.rfc3339(node.clock.now_ns())
        self._restore_backoffs()

    # --- time ------------------------------------------------------------------------------------------

    def retry_in(self, what: str, seconds: float | None = None) -> None:
        """Don't try ``what`` again for ``seconds`` (default: the retry period)."""
        period = self.node.config.retry_period if seconds is None else seconds
        self.not_before[what] = self.node.clock.monotonic() + period

    def may_try(self, what: str) -> bool:
        """Whether the time to try ``what`` (again) has come."""
        return self.node.clock.monotonic() >= self.not_before.get(what, 0.0)

    def next_retry(self) -> float | None:
        """Seconds until the next retry is due; None if there is none ahead."""
        now = self.node.clock.monotonic()
        return min((max(0.0, when - now) for when in self.not_before.values()), default=None)

    def take(self, what: str) -> bool:
        """Whether ``what`` may be tried now; if so, its retry is used up."""
        if not self.may_try(what):
            return False
        self.not_before.pop(what, None)
        return True

    def drop_retries(self, planned: Collection[str]) -> None:
        """Forget retries of what is no longer planned."""
        for what in [what for what in self.not_before if what not in planned]:
            del self.not_before[what]

    # --- restarts --------------------------------------------------------------------------------------

    def backoff_key(self, container: Container) -> str:
        """The key of a container's restart delay."""
        return f"{self.pod.uid}/{container.name}"

    def backoff(self, container: Container) -> Entry | None:
        """The delay in force, if there is one."""
        return self.node.restarts.entries.get(self.backoff_key(container))

    def put_backoff(self, container: Container, entry: Entry | None) -> None:
        """Go back to a former delay."""
        key = self.backoff_key(container)
        if entry is None:
            self.node.restarts.entries.pop(key, None)
            self.memory.backoffs.pop(container.name, None)
        else:
            self.node.restarts.entries[key] = entry
            self.note_backoff(container)

    def note_backoff(self, container: Container) -> None:
        """Remember the delay now in force, so that a restarted daemon goes on with it."""
        entry = self.backoff(container)
        if entry is not None:
            age = self.node.clock.monotonic() - entry.updated
            updated = self.node.clock.now_ns() - int(age * 1e9)
            self.memory.backoffs[container.name] = BackoffState(entry.delay, updated)

    def may_reset(self) -> bool:
        """Whether all containers may be restarted (again); if not, the next look is when they may."""
        now = self.node.clock.monotonic()
        if now < self._next_reset:
            self.retry_in(RESET, self._next_reset - now)
            return False
        self._next_reset = now + RESET_PERIOD
        return True

    def note_reset(self, container: ObservedContainer) -> None:
        """Remember that a container is removed so that all of the pod start over."""
        name, count = container.name, container.restart_count
        self.memory.reset[name] = max(count, self.memory.reset.get(name, count))
        self.memory.restarts[name] = max(count, self.memory.restarts.get(name, count))
        self.waiting.pop(name, None)
        self.save()

    def _restore_backoffs(self) -> None:
        for name, state in self.memory.backoffs.items():
            age = max(0.0, (self.node.clock.now_ns() - state.updated) / 1e9)
            key = f"{self.pod.uid}/{name}"
            self.node.restarts.entries[key] = Entry(state.delay, self.node.clock.monotonic() - age)

    # --- health (plan.Health) --------------------------------------------------------------------------

    def has_started(self, container: ObservedContainer) -> bool:
        """See :class:`plan.Health`."""
        known = self.node.probes.is_started(self.pod.uid, container.name)
        return container.id in self.hooked and known

    def is_ready(self, container: ObservedContainer) -> bool:
        """Whether a running container is ready."""
        return self.has_started(container) and self.node.probes.is_ready(self.pod.uid, container.name)

    def failed_probe(self, container: ObservedContainer) -> str:
        """See :class:`plan.Health`."""
        for kind in (Kind.LIVENESS, Kind.STARTUP):
            if self.node.probes.result(self.pod.uid, container.name, kind) is Result.FAILURE:
                return str(kind.value).lower()
        return ""

    def watch_health(self, container: Container, seen: ObservedContainer) -> None:
        """Start the probes of a running container; again is fine."""
        target = Target(
            pod_uid=self.pod.uid,
            container=container,
            container_id=seen.id,
            pod_ip=self.pod_ip(),
            started_at=seen.started_at,
            started=seen.id in self.memory.started,
            ready=seen.id in self.memory.ready,
        )
        self.node.probes.add(target)

    def pod_ip(self) -> str:
        """The address that probes and hooks go to."""
        if self.pod.spec.host_network:
            return self.node.host_ips[0] if self.node.host_ips else "127.0.0.1"
        ips = self.node.cache.view(self.pod.uid).ips
        return ips[0] if ips else ""

    def spec_of(self, name: str) -> Container | None:
        """The container spec of that name."""
        return next((each for each in all_containers(self.pod.spec) if each.name == name), None)

    # --- surroundings ----------------------------------------------------------------------------------

    async def user_namespace(self) -> api.UserNamespace | None:
        """The pod's own user namespace, remembered before it is used; None if it has the node's.

        Raises ContainerConfigError where the runtime has none, NodeError, OSError.
        """
        if self.pod.spec.host_users is not False:
            return None
        handler = runtime_class.resolve(self.pod, self.node.lookups)
        if not (await self.node.features.of(handler)).user_namespaces:
            what = f'RuntimeClass handler "{handler}"' if handler else "runtime"
            raise ContainerConfigError(
                f"can't set `spec.hostUsers: false`, {what} does not support user namespaces"
            )
        made = self.node.users.take(self.pod.uid)
        if (made.first, made.length) != (self.memory.users, self.memory.users_length):
            self.memory.users, self.memory.users_length = made.first, made.length
            checkpoint.save(self.node.config, self.pod.uid, self.memory)
        return user_namespaces.options(made)

    def sandbox_config(
        self, attempt: int, users: api.UserNamespace | None, *, anew: bool = False
    ) -> api.PodSandboxConfig:
        """CRI's configuration of the pod's sandbox, not to be changed: the last one made unless ``anew``.

        Raises OSError, ContainerConfigError.
        """
        made = self._sandbox_config
        if anew or made is None or made[0] is not self.pod.spec or made[1] != attempt:
            parent = self.node.cgroups.parent(self.pod)
            config = sandbox_config(self.pod, self.node.config, attempt, parent, users)
            made = self._sandbox_config = (self.pod.spec, attempt, config)
        return made[2]

    def objects_changed(self) -> None:
        """Something that the pod refers to has come, gone or changed: what waits for it is tried again."""
        self.stale = True
        self._sandbox_config = None
        self.not_before.pop(VOLUMES, None)
        self.not_before.pop(REFRESH, None)
        self.not_before.pop(SANDBOX, None)
        for name, waiting in self.waiting.items():
            if waiting.reason == "CreateContainerConfigError":
                self.not_before.pop(name, None)

    # --- memory ----------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the checkpoint if it has changed. Raises OSError."""
        data = msgspec.json.encode(self.memory)
        if data != self._saved:
            checkpoint.save(self.node.config, self.pod.uid, self.memory)
            self._saved = data

    def save(self) -> None:
        """Write the checkpoint if it has changed; a full disk is logged, not fatal."""
        try:
            self.write()
        except OSError as exc:
            log.warning("%s: checkpoint not written: %s", self.pod.title, exc)

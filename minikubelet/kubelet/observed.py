"""What the runtime has: sandboxes and containers of every pod, merged from events and queries.

Events and query answers cross on the way, so an older picture may arrive after a newer one. A container
only ever moves on (created, running, exited), a sandbox too (ready, not ready), and removed ones never
come back: merging keeps the furthest state, so order does not matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import podfiles
from minikubelet.kubelet.clock import Clock
from minikubelet.kubelet.labels import (
    CONTAINER_HASH,
    CONTAINER_NAME,
    CONTAINER_RESTART_COUNT,
    GRACE_PERIOD,
    OWNER,
    POD_UID,
    PRE_STOP,
    TERMINATION_MESSAGE_PATH,
    TERMINATION_MESSAGE_POLICY,
)
from minikubelet.kubelet.manifests.static import CONFIG_HASH

CREATED = api.CONTAINER_CREATED
RUNNING = api.CONTAINER_RUNNING
EXITED = api.CONTAINER_EXITED
UNKNOWN = api.CONTAINER_UNKNOWN
_RANK = {CREATED: 0, UNKNOWN: 1, RUNNING: 1, EXITED: 2}
_MAX_TOMBSTONES = 4096


@dataclass
class ObservedSandbox:
    """One sandbox; ``created_at`` in nanoseconds since the epoch."""

    id: str
    pod_uid: str
    namespace: str
    name: str
    attempt: int
    ready: bool
    created_at: int
    config_hash: str
    owner: str = ""
    """The root folder of the kubelet that made it; empty for other clients' sandboxes."""
    ips: tuple[str, ...] | None = None
    """None: not asked for yet (lists don't carry it)."""


@dataclass
class ObservedContainer:
    """One container as the runtime last told of it; times in nanoseconds since the epoch, 0 for never."""

    id: str
    sandbox_id: str
    pod_uid: str
    name: str
    attempt: int
    state: api.ContainerState
    created_at: int
    hash: str
    restart_count: int
    image: str = ""
    image_id: str = ""
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    termination_path: str = ""
    termination_policy: str = "File"
    pre_stop: str = ""
    """The preStop hook as JSON, for pods whose manifest is gone."""
    grace_period: int | None = None
    finished: float = 0.0
    """When it ended on the monotonic clock, for backoffs."""
    seen: float = field(default=0.0, compare=False)
    """When it was last told of, on the monotonic clock."""
    detailed: bool = False
    """Whether it comes from a ContainerStatus; lists know less."""
    user: tuple[int, int, tuple[int, ...]] | None = None
    """The first process's user, group and supplementary groups, if the runtime tells."""
    read_only_below: frozenset[str] = frozenset()
    """Where in it the mounts are that are read-only with all mounts below them."""

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.state == RUNNING

    @property
    def has_exited(self) -> bool:
        """Whether it has ended."""
        return self.state == EXITED


@dataclass
class PodView:
    """Sandboxes and containers of one pod, newest first."""

    uid: str
    sandboxes: list[ObservedSandbox] = field(default_factory=list)
    containers: list[ObservedContainer] = field(default_factory=list)

    @property
    def sandbox(self) -> ObservedSandbox | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ips(self) -> tuple[str, ...]:
        """Addresses of the newest sandbox if it is ready."""
        return (self.sandbox.ips or ()) if self.sandbox and self.sandbox.ready else ()

    @property
    def is_alive(self) -> bool:
        """Whether anything of the pod runs, or may yet be started."""
        return any(each.is_running for each in self.containers) or any(s.ready for s in self.sandboxes)

    def latest(self, name: str) -> ObservedContainer | None:
        """The newest container of that name, in whatever sandbox."""
        return next((each for each in self.containers if each.name == name), None)

    def current(self, name: str) -> ObservedContainer | None:
        """The newest container of that name in the newest sandbox."""
        sandbox = self.sandbox
        wanted = sandbox.id if sandbox else ""
        return next((c for c in self.containers if c.name == name and c.sandbox_id == wanted), None)

    def all_of(self, name: str) -> list[ObservedContainer]:
        """All containers of that name, newest first."""
        return [each for each in self.containers if each.name == name]


def sandbox_of(item: api.PodSandbox | api.PodSandboxStatus) -> ObservedSandbox:
    """From a list's item or a status."""
    ips: tuple[str, ...] | None = None
    if isinstance(item, api.PodSandboxStatus):
        network = item.network
        ips = tuple(ip for ip in (network.ip, *(extra.ip for extra in network.additional_ips)) if ip)
    return ObservedSandbox(
        id=item.id,
        pod_uid=item.labels.get(POD_UID, item.metadata.uid),
        namespace=item.metadata.namespace,
        name=item.metadata.name,
        attempt=item.metadata.attempt,
        ready=item.state == api.SANDBOX_READY,
        created_at=item.created_at,
        config_hash=item.annotations.get(CONFIG_HASH, ""),
        owner=item.annotations.get(OWNER, ""),
        ips=ips,
    )


def container_of(item: api.ContainerStatus, sandbox_id: str) -> ObservedContainer:
    """From a status; CRI's leaves out which sandbox it is in."""
    notes = item.annotations
    path = podfiles.absolute(notes.get(TERMINATION_MESSAGE_PATH, ""))
    return ObservedContainer(
        id=item.id,
        sandbox_id=sandbox_id,
        pod_uid=item.labels.get(POD_UID, ""),
        name=item.labels.get(CONTAINER_NAME, item.metadata.name),
        attempt=item.metadata.attempt,
        state=item.state,
        created_at=item.created_at,
        hash=notes.get(CONTAINER_HASH, ""),
        restart_count=_number(notes.get(CONTAINER_RESTART_COUNT, ""), item.metadata.attempt),
        image=item.image.user_specified_image or item.image.image,
        image_id=item.image_id or item.image_ref,
        started_at=item.started_at,
        finished_at=item.finished_at,
        exit_code=item.exit_code,
        reason=item.reason,
        message=item.message,
        log_path=item.log_path,
        termination_path=next((m.host_path for m in item.mounts if m.container_path == path), ""),
        termination_policy=notes.get(TERMINATION_MESSAGE_POLICY, "File"),
        pre_stop=notes.get(PRE_STOP, ""),
        grace_period=_number(notes[GRACE_PERIOD], 0) if GRACE_PERIOD in notes else None,
        detailed=True,
        user=_user(item),
        read_only_below=frozenset(m.container_path for m in item.mounts if m.recursive_read_only),
    )


def _user(item: api.ContainerStatus) -> tuple[int, int, tuple[int, ...]] | None:
    if not item.HasField("user") or not item.user.HasField("linux"):
        return None
    user = item.user.linux
    return user.uid, user.gid, tuple(user.supplemental_groups)


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isdigit() else otherwise


class RuntimeCache:
    """Every pod's sandboxes and containers; methods say which pods have changed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sandboxes: dict[str, ObservedSandbox] = {}
        self._containers: dict[str, ObservedContainer] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._views: dict[str, PodView] = {}

    def view(self, uid: str) -> PodView:
        """A pod's part, newest first. Not to be changed."""
        known = self._views.get(uid)
        if known is None:
            known = self._view(uid)
            if known.sandboxes or known.containers:
                self._views[uid] = known
        return known

    def _view(self, uid: str) -> PodView:
        sandboxes = [each for each in self._sandboxes.values() if each.pod_uid == uid]
        containers = [each for each in self._containers.values() if each.pod_uid == uid]
        sandboxes.sort(key=lambda each: (each.created_at, each.attempt, each.id), reverse=True)
        containers.sort(key=lambda each: (each.created_at, each.attempt, each.id), reverse=True)
        return PodView(uid, sandboxes, containers)

    def uids(self) -> set[str]:
        """Pods that have a sandbox or container."""
        owners = [each.pod_uid for each in self._sandboxes.values()]
        return {uid for uid in [*owners, *(c.pod_uid for c in self._containers.values())] if uid}

    def containers(self) -> list[ObservedContainer]:
        """All containers of pods."""
        return [each for each in self._containers.values() if each.pod_uid]

    def container(self, container_id: str) -> ObservedContainer | None:
        """A container by ID."""
        return self._containers.get(container_id)

    def sandbox(self, sandbox_id: str) -> ObservedSandbox | None:
        """A sandbox by ID."""
        return self._sandboxes.get(sandbox_id)

    def put_sandbox(self, new: ObservedSandbox) -> bool:
        """Merge one sandbox; whether that changed anything."""
        if new.id in self._gone:
            return False
        old = self._sandboxes.get(new.id)
        if old is not None:
            new.ready = new.ready and old.ready
            new.ips = new.ips if new.ips else old.ips if old.ips is not None else new.ips
        self._sandboxes[new.id] = new
        self._views.pop(new.pod_uid, None)
        return new != old

    def put_container(self, new: ObservedContainer) -> bool:
        """Merge one container; whether that changed anything."""
        if new.id in self._gone:
            return False
        old = self._containers.get(new.id)
        if old is not None:
            new.sandbox_id = new.sandbox_id or old.sandbox_id
            if _RANK[new.state] < _RANK[old.state] or (old.detailed and not new.detailed):
                return False
            if old.has_exited:
                new.finished, new.message = old.finished, old.message
        new.seen = self._clock.monotonic()
        if new.has_exited and not new.finished:
            new.finished = new.seen - self._age(new, old)
        self._containers[new.id] = new
        self._views.pop(new.pod_uid, None)
        return new != old

    def _age(self, new: ObservedContainer, old: ObservedContainer | None) -> float:
        """Seconds since a container ended: since it was last seen alive at most, however the clock jumps."""
        age = max(0.0, (self._clock.now_ns() - new.finished_at) / 1e9) if new.finished_at else 0.0
        return min(age, new.seen - old.seen) if old is not None else age

    def remove(self, identifier: str) -> str:
        """Forget a removed container, or a sandbox with its containers; the pod's UID or empty."""
        self._gone[identifier] = None
        while len(self._gone) > _MAX_TOMBSTONES:
            self._gone.popitem(last=False)
        container = self._containers.pop(identifier, None)
        sandbox = self._sandboxes.pop(identifier, None)
        if sandbox is not None:
            for each in [c.id for c in self._containers.values() if c.sandbox_id == identifier]:
                self.remove(each)
        uid = sandbox.pod_uid if sandbox else container.pod_uid if container else ""
        self._views.pop(uid, None)
        return uid

    def missing(self, sandboxes: Iterable[str], containers: Iterable[str]) -> list[str]:
        """IDs known here that are in neither list."""
        present = {*sandboxes, *containers}
        return [each for each in [*self._sandboxes, *self._containers] if each not in present]

    def ids(self) -> set[str]:
        """IDs of everything known."""
        return {*self._sandboxes, *self._containers}

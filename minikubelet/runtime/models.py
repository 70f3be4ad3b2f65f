"""What the runtime knows of sandboxes and containers: immutable configuration apart from mutable status.

Configuration is what a caller asked for, in the words of CRI v1 but free of protobuf; it is stored as it is.
Status is what has happened; states are derived from its time stamps (ns since the epoch, 0: not yet).
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from typing import Any

import msgspec

from minikubelet.wire.messages import Device, ExitStatus, Mount, Process, ResolvedUser, Rlimit, Scheduler

DEFAULT_STOP_SIGNAL = "SIGTERM"


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all immutable configuration."""


class SandboxState(enum.Enum):
    """CRI PodSandboxState."""

    READY = "SANDBOX_READY"
    NOT_READY = "SANDBOX_NOTREADY"


class ContainerState(enum.Enum):
    """CRI ContainerState."""

    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    UNKNOWN = "CONTAINER_UNKNOWN"


# --- parts both share --------------------------------------------------------------------------------


class IDMap(Config, frozen=True, kw_only=True):
    """CRI IDMapping."""

    host_id: int
    container_id: int
    length: int


class UserNamespace(Config, frozen=True, kw_only=True):
    """CRI UserNamespace; ``mode`` is ``pod`` or ``node``."""

    mode: str = "node"
    uids: tuple[IDMap, ...] = ()
    gids: tuple[IDMap, ...] = ()


class Namespaces(Config, frozen=True, kw_only=True):
    """CRI NamespaceOption; modes are ``pod``, ``container``, ``node``, ``target``."""

    network: str = "pod"
    pid: str = "pod"
    ipc: str = "pod"
    target_id: str = ""
    users: UserNamespace | None = None

    @property
    def own_users(self) -> UserNamespace | None:
        """The user namespace that a pod has of its own."""
        return self.users if self.users is not None and self.users.mode == "pod" else None


class SecurityProfile(Config, frozen=True, kw_only=True):
    """CRI SecurityProfile; ``kind`` is ``RuntimeDefault``, ``Unconfined`` or ``Localhost``."""

    kind: str
    localhost_ref: str = ""


class SELinux(Config, frozen=True, kw_only=True):
    """CRI SELinuxOption."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class HugepageLimit(Config, frozen=True, kw_only=True):
    """CRI HugepageLimit: ``page_size`` as ``2MB``, ``limit`` in bytes."""

    page_size: str
    limit: int


class LinuxResources(Config, frozen=True, kw_only=True):
    """CRI LinuxContainerResources; 0 and empty: not specified; memory in bytes, cpu times in µs."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepages: tuple[HugepageLimit, ...] = ()
    unified: dict[str, str] = {}
    memory_swap_limit: int = 0


# --- sandbox -----------------------------------------------------------------------------------------


class SandboxMetadata(Config, frozen=True, kw_only=True):
    """CRI PodSandboxMetadata: together the sandbox's unique name."""

    name: str
    uid: str
    namespace: str
    attempt: int = 0


class DNS(Config, frozen=True, kw_only=True):
    """CRI DNSConfig."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Port(Config, frozen=True, kw_only=True):
    """CRI PortMapping; ``protocol`` is ``TCP``, ``UDP`` or ``SCTP``."""

    protocol: str = "TCP"
    container_port: int
    host_port: int = 0
    host_ip: str = ""


class SandboxSecurity(Config, frozen=True, kw_only=True):
    """CRI LinuxSandboxSecurityContext without its namespaces."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_policy: str = "Merge"
    privileged: bool = False
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None
    selinux: SELinux | None = None


class SandboxConfig(Config, frozen=True, kw_only=True):
    """CRI PodSandboxConfig."""

    metadata: SandboxMetadata
    hostname: str = ""
    log_directory: str = ""
    dns: DNS | None = None
    ports: tuple[Port, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    cgroup_parent: str = ""
    sysctls: dict[str, str] = {}
    namespaces: Namespaces = Namespaces()
    security: SandboxSecurity = SandboxSecurity()
    overhead: LinuxResources | None = None
    resources: LinuxResources | None = None


class SandboxStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What has happened to a sandbox."""

    ready_at: int = 0
    """0: half made; recovery undoes it."""
    stopped_at: int = 0
    pid: int = 0
    """Of pause."""
    start_ticks: int = 0
    monitor_pid: int = 0
    monitor_ticks: int = 0
    ips: tuple[str, ...] = ()
    released: bool = False
    """The network has its address and ports back."""
    message: str = ""
    """Why it is not ready, when nobody asked for it."""
    resources: LinuxResources | None = None
    """In force since UpdatePodSandboxResources; None: as configured."""
    overhead: LinuxResources | None = None
    """The same."""


@dataclass(eq=False)
class Sandbox:
    """One pod sandbox. ``lock`` serialises the calls that change it or its containers."""

    id: str
    config: SandboxConfig
    created_at: int
    cgroup: str
    """The pod's cgroup, relative to the cgroup2 mount; pause and containers are below it."""
    runtime_handler: str = ""
    status: SandboxStatus = field(default_factory=SandboxStatus)
    containers: dict[str, Container] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    monitor: Any = None
    """runtime.monitor_client.MonitorClient while its monitor lives."""
    made_cgroups: tuple[str, ...] = ()

    @property
    def state(self) -> SandboxState:
        """Ready from the moment everything is up until it is stopped or its pause or monitor is gone."""
        ready = self.status.ready_at and not self.status.stopped_at
        return SandboxState.READY if ready else SandboxState.NOT_READY


# --- container ---------------------------------------------------------------------------------------


class ContainerMetadata(Config, frozen=True, kw_only=True):
    """CRI ContainerMetadata: with the sandbox's, the container's unique name."""

    name: str
    attempt: int = 0


class ImageSpec(Config, frozen=True, kw_only=True):
    """CRI ImageSpec."""

    image: str = ""
    annotations: dict[str, str] = {}
    user_specified_image: str = ""
    runtime_handler: str = ""


class MountConfig(Config, frozen=True, kw_only=True):
    """CRI Mount; ``propagation`` is ``private``, ``host-to-container`` or ``bidirectional``."""

    container_path: str
    host_path: str = ""
    readonly: bool = False
    selinux_relabel: bool = False
    propagation: str = "private"
    recursive_read_only: bool = False
    uid_mappings: tuple[IDMap, ...] = ()
    gid_mappings: tuple[IDMap, ...] = ()
    image: ImageSpec | None = None
    image_sub_path: str = ""
    options: tuple[str, ...] = ()


class DeviceConfig(Config, frozen=True, kw_only=True):
    """CRI Device; ``permissions`` of r, w and m."""

    container_path: str
    host_path: str
    permissions: str = "rwm"


class ContainerSecurity(Config, frozen=True, kw_only=True):
    """CRI LinuxContainerSecurityContext without namespaces; capabilities as ``CAP_CHOWN`` or ``ALL``."""

    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    add_ambient_capabilities: tuple[str, ...] = ()
    privileged: bool = False
    selinux: SELinux | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_policy: str = "Merge"
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None


class Edits(Config, frozen=True, kw_only=True):
    """What CDI devices bring into a container."""

    env: tuple[str, ...] = ()
    """As ``NAME=VALUE``."""
    devices: tuple[Device, ...] = ()
    permissions: dict[str, str] = {}
    """Of ``devices`` by path, made of r, w and m."""
    mounts: tuple[Mount, ...] = ()
    gids: tuple[int, ...] = ()


class Adjusted(Config, frozen=True, kw_only=True):
    """What plugins have changed in a container about to be made; names in ``removed_…`` are taken out."""

    annotations: dict[str, str] = {}
    removed_annotations: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    """In place of command and arguments; empty: as they are."""
    env: tuple[str, ...] = ()
    """As ``NAME=VALUE``."""
    removed_env: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    removed_mounts: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    removed_devices: tuple[str, ...] = ()
    rlimits: tuple[Rlimit, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    resources: LinuxResources | None = None
    """All of them, as they are now; None: unchanged."""
    seccomp: dict[str, Any] | None = None
    """An OCI profile in place of the request's; None: unchanged."""
    sysctls: dict[str, str] = {}
    """Of the pod's namespaces."""
    scheduler: Scheduler | None = None
    """None: unchanged."""
    io_priority: int | None = None
    """As ioprio_set(2) has it; None: unchanged."""


class Restored(Config, frozen=True, kw_only=True):
    """Of a container made from a checkpoint."""

    streams: tuple[str, ...] = ()
    """What its init's 0, 1 and 2 were, as readlink(2) shows descriptors."""


class ContainerConfig(Config, frozen=True, kw_only=True):
    """CRI ContainerConfig."""

    metadata: ContainerMetadata
    image: ImageSpec
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    envs: tuple[tuple[str, bytes], ...] = ()
    mounts: tuple[MountConfig, ...] = ()
    devices: tuple[DeviceConfig, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    edits: Edits = Edits()
    """What they and CDI's annotations come to on this host; filled in by CreateContainer."""
    adjusted: Adjusted = Adjusted()
    """What plugins made of it; filled in by CreateContainer."""
    restored: Restored | None = None
    """It goes on from a checkpoint; filled in by CreateContainer."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    """As ``SIGTERM`` or ``SIGRTMIN+3``; empty: the image's, else SIGTERM."""
    resources: LinuxResources = LinuxResources()
    namespaces: Namespaces = Namespaces()
    security: ContainerSecurity = ContainerSecurity()


class ImageFacts(Config, frozen=True, kw_only=True):
    """What a container took over from its image; kept with it, for the image may be removed while it runs."""

    layers: tuple[str, ...]
    """Folders relative to the image store's, uppermost first."""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    volumes: tuple[tuple[str, ...], ...] = ()
    """Layers of the image volumes, in the order of the request's mounts that have an image."""
    volume_ids: tuple[str, ...] = ()
    """Their images, likewise."""


class ContainerStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What has happened to a container."""

    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    start_ticks: int = 0
    user: ResolvedUser | None = None
    resources: LinuxResources | None = None
    """In force since UpdateContainerResources; None: as configured."""


@dataclass(eq=False)
class Container:
    """One container."""

    id: str
    sandbox: Sandbox
    config: ContainerConfig
    created_at: int
    image_id: str
    image: ImageFacts
    stop_signal: str
    log_path: str
    """Absolute; empty: no log."""
    cgroup: str
    status: ContainerStatus = field(default_factory=ContainerStatus)
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the end is recorded."""
    stop_sent: bool = False
    """The stop signal is sent once, however often StopContainer is called."""
    starting: bool = False
    """StartContainer is under way."""
    early_exit: ExitStatus | None = None
    """The end, told before StartContainer was answered."""
    exec_template: Process | None = None
    """The container's process as execs take it over, made at the first one."""

    @property
    def state(self) -> ContainerState:
        """Derived from the time stamps."""
        if self.status.finished_at:
            return ContainerState.EXITED
        return ContainerState.RUNNING if self.status.started_at else ContainerState.CREATED

    @property
    def resources(self) -> LinuxResources:
        """The resources in force."""
        return self.status.resources or self.config.resources

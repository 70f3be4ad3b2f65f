"""Settings of how a node's resources are given out and taken back, with KubeletConfiguration's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minikubelet.kubelet.objects.base import Quantity

DEFAULT_EVICTION_HARD: Mapping[str, str] = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}


@dataclass
class CgroupConfig:
    """The cgroup tree of the pods."""

    cgroups_per_qos: bool = True
    """Whether pods live below ``kubepods``; off by itself where cgroup2 lacks controllers."""
    cgroup_root: str = "/"
    """Below it ``kubepods`` is made; relative to the cgroup2 mount."""
    enforce_node_allocatable: list[str] = field(default_factory=lambda: ["pods"])
    """``pods``: the pods together get no more than what is not reserved. ``system-reserved`` and
    ``kube-reserved``: the cgroups of the system's daemons get what is reserved for them and no more; of CPU
    alone with ``-compressible`` after it."""
    qos_reserved: dict[str, int] = field(default_factory=dict)
    """``memory`` → percent of their requests that pods of a lesser class are kept off."""
    pod_pids_limit: int = -1
    """Tasks a pod may have; -1: as many as the node."""
    cpu_cfs_quota: bool = True
    """Whether CPU limits are enforced."""
    cpu_cfs_quota_period: float = 0.1
    """Seconds of a CFS period."""
    memory_qos: bool = False
    """Upstream's feature gate MemoryQoS (KEP-2570): memory.high, and memory.min or low by the policy."""
    memory_reservation_policy: str = "None"
    """``TieredReservation``: memory.min for Guaranteed, memory.low for Burstable pods; ``None``: neither."""
    memory_throttling_factor: float = 0.9
    swap_behavior: str = "NoSwap"
    """``NoSwap`` or ``LimitedSwap`` (KEP-2400): Burstable containers get swap by their request's share."""
    single_process_oom_kill: bool = False
    """False: when the kernel runs out of a container's memory, it ends all of its processes together."""


@dataclass
class ReservedConfig:
    """What pods can't have."""

    kube_reserved: dict[str, Quantity] = field(default_factory=dict)
    """``cpu``, ``memory``, ``ephemeral-storage``, ``pid``."""
    system_reserved: dict[str, Quantity] = field(default_factory=dict)
    system_reserved_cgroup: str = ""
    """The cgroup of the system's daemons, which somebody else has made; relative to the cgroup2 mount."""
    kube_reserved_cgroup: str = ""
    reserved_system_cpus: str = ""
    """CPU list for the system; takes the place of the reserved ``cpu``."""
    max_pods: int = 110
    pods_per_core: int = 0
    """At most that many pods a processor; 0: no such limit."""


@dataclass
class EvictionConfig:
    """When pods are taken down to keep the node going. Signal → quantity or percentage."""

    hard: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_EVICTION_HARD))
    soft: dict[str, str] = field(default_factory=dict)
    soft_grace_period: dict[str, float] = field(default_factory=dict)
    """Seconds that a soft threshold must have been crossed for."""
    minimum_reclaim: dict[str, str] = field(default_factory=dict)
    max_pod_grace_period: int = 0
    """Seconds of grace at most for an eviction by a soft threshold."""
    pressure_transition_period: float = 300.0
    """Seconds that a node condition stays after the last sign of pressure."""
    monitoring_period: float = 10.0
    """Seconds between two looks."""
    local_storage_capacity_isolation: bool = True
    """Whether limits of ephemeral storage and emptyDir sizes are enforced, by eviction."""


@dataclass
class GarbageConfig:
    """Logs, images and dead containers."""

    log_max_size: Quantity = "10Mi"
    """Size from which a container's log is rotated."""
    log_max_files: int = 5
    """Files kept of one container's log, the current one included; at least 2."""
    log_monitor_interval: float = 10.0
    """Seconds between two looks at the logs' sizes."""
    image_high_threshold: int = 85
    """Percent of the image file system in use from which unused images are removed; 100: never."""
    image_low_threshold: int = 80
    """Percent down to which they are removed."""
    image_minimum_age: float = 120.0
    """Seconds for which a new image is never removed."""
    image_maximum_age: float = 0.0
    """Seconds for which an unused image may stay; 0: for ever."""
    image_period: float = 300.0
    """Seconds between two looks at the images."""
    container_period: float = 60.0
    """Seconds between two looks at dead containers and sandboxes."""
    container_links: str | None = None
    """Folder of links ``POD_NAMESPACE_CONTAINER-ID.log``; empty: none; None: /var/log/containers, if the logs
    are in /var/log/pods."""


@dataclass
class ShutdownConfig:
    """Pods ended in order when the machine goes down."""

    grace_period: float = 0.0
    """Seconds for all pods together; 0: off."""
    grace_period_critical_pods: float = 0.0
    """Seconds of these that only critical pods get."""
    by_priority: dict[int, float] = field(default_factory=dict)
    """Priority from which on → seconds; takes the place of the two above."""


@dataclass
class DeviceConfig:
    """Processors and devices given out one by one."""

    cpu_manager_policy: str = "none"
    """``none`` or ``static``: Guaranteed containers with whole CPUs have them for themselves."""
    cpu_manager_policy_options: dict[str, bool] = field(default_factory=dict)
    """``full-pcpus-only``: exclusive CPUs come as whole cores with all their threads, or the pod is refused.
    ``strict-cpu-reservation``: containers that share CPUs keep off the reserved ones, too."""
    cpu_manager_reconcile_period: float = 10.0
    device_plugin_dir: str | None = None
    """Where device plugins register (``kubelet.sock``) and have their own sockets; empty: none may. None:
    upstream's /var/lib/kubelet/device-plugins for the kubelet of the usual root folder, for others none."""
    plugin_registry_dir: str | None = None
    """Where plugins have sockets by which they are found; empty: nowhere. None: upstream's
    /var/lib/kubelet/plugins_registry for the kubelet of the usual root folder, for others none."""
    pod_resources_socket: str | None = None
    """The PodResources API; empty: none. None: upstream's /var/lib/kubelet/pod-resources/kubelet.sock for the
    kubelet of the usual root folder, for others none."""


@dataclass
class ResourceConfig:
    """All of them."""

    cgroups: CgroupConfig = field(default_factory=CgroupConfig)
    reserved: ReservedConfig = field(default_factory=ReservedConfig)
    eviction: EvictionConfig = field(default_factory=EvictionConfig)
    garbage: GarbageConfig = field(default_factory=GarbageConfig)
    shutdown: ShutdownConfig = field(default_factory=ShutdownConfig)
    devices: DeviceConfig = field(default_factory=DeviceConfig)

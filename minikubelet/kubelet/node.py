"""What all pod workers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from minikubelet.kubelet.admission import Rejection
from minikubelet.kubelet.allocations import Allocations
from minikubelet.kubelet.backoff import Backoff
from minikubelet.kubelet.cgroups.tree import CgroupTree
from minikubelet.kubelet.clock import Clock
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.images import ImageManager
from minikubelet.kubelet.lookups import Lookups
from minikubelet.kubelet.metrics.instruments import Instruments
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.observed import RuntimeCache
from minikubelet.kubelet.pleg import LifecycleEvents
from minikubelet.kubelet.probes.manager import ProbeManager
from minikubelet.kubelet.pull_records import PullRecords
from minikubelet.kubelet.runtime_features import RuntimeFeatures
from minikubelet.kubelet.sinks import StatusSink
from minikubelet.kubelet.user_namespaces import UserNamespaces


class Volumes(Protocol):
    """Makes a pod's volumes on the host."""

    async def setup(self, pod: Pod) -> dict[str, str]:
        """Host path by volume name; idempotent. Raises NodeError or OSError."""

    async def refresh(self, pod: Pod) -> None:
        """Bring volumes up to date that show ConfigMaps and the like. Raises NodeError or OSError."""

    async def teardown(self, pod_uid: str) -> None:
        """Unmount and delete the pod's volumes; idempotent."""


@dataclass
class Node:
    """The services of one kubelet."""

    config: KubeletConfig
    client: CriClient
    cache: RuntimeCache
    lifecycle: LifecycleEvents
    events: EventRecorder
    images: ImageManager
    probes: ProbeManager
    volumes: Volumes
    lookups: Lookups
    sink: StatusSink
    clock: Clock
    cgroups: CgroupTree
    instruments: Instruments
    """Counts what is done, for /metrics."""
    restarts: Backoff
    """Restart delays, by ``UID/CONTAINER``."""
    features: RuntimeFeatures
    pull_records: PullRecords
    users: UserNamespaces
    """Ranges of IDs of pods with a user namespace of their own."""
    allocatable: Callable[[], Mapping[str, int]]
    """What the node gives to pods: millicores of cpu, else bytes."""
    fits: Callable[[Pod], Rejection | None] = lambda pod: None
    """Whether a pod with other resources than now could be run: the reason Deferred or Infeasible if not."""
    allocations: Allocations | None = None
    """CPUs and devices that are given out one by one."""
    runtime_name: str = ""
    host_ips: Sequence[str] = field(default_factory=list)

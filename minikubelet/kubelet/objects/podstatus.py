"""Pod and container status: the fields of core/v1 in k8s.io/api v0.36, in its order."""

from __future__ import annotations

from msgspec import field

from minikubelet.kubelet.objects.base import Int32, Int64, Object, Quantity
from minikubelet.kubelet.objects.containers import ResourceRequirements


class PodCondition(Object, kw_only=True):
    """core/v1 PodCondition."""

    type: str
    observed_generation: Int64 = 0
    status: str
    last_probe_time: str | None = None
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class HostIP(Object):
    """core/v1 HostIP."""

    ip: str = ""


class PodIP(Object):
    """core/v1 PodIP."""

    ip: str = ""


class ContainerStateWaiting(Object):
    """core/v1 ContainerStateWaiting."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(Object):
    """core/v1 ContainerStateRunning."""

    started_at: str | None = None


class ContainerStateTerminated(Object, kw_only=True):
    """core/v1 ContainerStateTerminated."""

    exit_code: Int32
    signal: Int32 = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = field(default="", name="containerID")


class ContainerState(Object):
    """core/v1 ContainerState."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ImageVolumeStatus(Object):
    """core/v1 ImageVolumeStatus."""

    image_ref: str = ""


class VolumeStatus(Object):
    """core/v1 VolumeStatus."""

    image: ImageVolumeStatus | None = None


class VolumeMountStatus(Object):
    """core/v1 VolumeMountStatus."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None
    volume_status: VolumeStatus | None = None


class LinuxContainerUser(Object):
    """core/v1 LinuxContainerUser."""

    uid: Int64
    gid: Int64
    supplemental_groups: list[Int64] = field(default_factory=list)


class ContainerUser(Object):
    """core/v1 ContainerUser."""

    linux: LinuxContainerUser | None = None


class ResourceHealth(Object):
    """core/v1 ResourceHealth."""

    resource_id: str = field(default="", name="resourceID")
    health: str = ""
    message: str | None = None


class ResourceStatus(Object):
    """core/v1 ResourceStatus."""

    name: str = ""
    resources: list[ResourceHealth] = field(default_factory=list)


class ContainerStatus(Object, kw_only=True):
    """core/v1 ContainerStatus."""

    name: str
    state: ContainerState = field(default_factory=ContainerState)
    last_state: ContainerState = field(default_factory=ContainerState)
    ready: bool
    restart_count: Int32
    image: str
    image_id: str = field(name="imageID")
    container_id: str = field(default="", name="containerID")
    started: bool | None = None
    allocated_resources: dict[str, Quantity] = field(default_factory=dict)
    resources: ResourceRequirements | None = None
    volume_mounts: list[VolumeMountStatus] = field(default_factory=list)
    user: ContainerUser | None = None
    allocated_resources_status: list[ResourceStatus] = field(default_factory=list)
    stop_signal: str | None = None


class PodResourceClaimStatus(Object):
    """core/v1 PodResourceClaimStatus."""

    name: str = ""
    resource_claim_name: str | None = None


class ContainerExtendedResourceRequest(Object):
    """core/v1 ContainerExtendedResourceRequest."""

    container_name: str = ""
    resource_name: str = ""
    request_name: str = ""


class PodExtendedResourceClaimStatus(Object):
    """core/v1 PodExtendedResourceClaimStatus."""

    request_mappings: list[ContainerExtendedResourceRequest] = field(default_factory=list)
    resource_claim_name: str = ""


class NodeAllocatableResourceClaimStatus(Object):
    """core/v1 NodeAllocatableResourceClaimStatus."""

    resource_claim_name: str = ""
    containers: list[str] = field(default_factory=list)
    resources: dict[str, Quantity] = field(default_factory=dict)


class PodStatus(Object):
    """core/v1 PodStatus."""

    observed_generation: Int64 = 0
    phase: str = ""
    conditions: list[PodCondition] = field(default_factory=list)
    message: str = ""
    reason: str = ""
    nominated_node_name: str = ""
    host_ip: str = field(default="", name="hostIP")
    host_ips: list[HostIP] = field(default_factory=list, name="hostIPs")
    pod_ip: str = field(default="", name="podIP")
    pod_ips: list[PodIP] = field(default_factory=list, name="podIPs")
    start_time: str | None = None
    init_container_statuses: list[ContainerStatus] = field(default_factory=list)
    container_statuses: list[ContainerStatus] = field(default_factory=list)
    qos_class: str = ""
    ephemeral_container_statuses: list[ContainerStatus] = field(default_factory=list)
    resize: str = ""
    resource_claim_statuses: list[PodResourceClaimStatus] = field(default_factory=list)
    extended_resource_claim_status: PodExtendedResourceClaimStatus | None = None
    allocated_resources: dict[str, Quantity] = field(default_factory=dict)
    resources: ResourceRequirements | None = None
    node_allocatable_resource_claim_statuses: list[NodeAllocatableResourceClaimStatus] = field(
        default_factory=list
    )

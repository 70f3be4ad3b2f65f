"""What pods refer to by name: ConfigMap, Secret, claims, volumes, RuntimeClass (v0.36)."""

from __future__ import annotations

from msgspec import field

from minikubelet.kubelet.objects.base import Object, Quantity
from minikubelet.kubelet.objects.meta import ObjectMeta
from minikubelet.kubelet.objects.podspec import NodeSelector, Toleration
from minikubelet.kubelet.objects.volumes import (
    CSIVolumeSource,
    HostPathVolumeSource,
    NFSVolumeSource,
    PersistentVolumeClaimSpec,
)


class DataObject(Object):
    """What the objects of this module share."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = field(default_factory=ObjectMeta)

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace (empty for kinds that have none) and name."""
        return self.kind, self.metadata.namespace, self.metadata.name


class ConfigMap(DataObject):
    """core/v1 ConfigMap."""

    immutable: bool | None = None
    data: dict[str, str] = field(default_factory=dict)
    binary_data: dict[str, str] = field(default_factory=dict)
    """Base64."""


class Secret(DataObject):
    """core/v1 Secret. Its text form tells the name only."""

    immutable: bool | None = None
    data: dict[str, str] = field(default_factory=dict)
    """Base64."""
    string_data: dict[str, str] = field(default_factory=dict)
    type: str = ""

    def __repr__(self) -> str:
        return f"Secret({self.metadata.namespace}/{self.metadata.name})"


class PersistentVolumeClaim(DataObject):
    """core/v1 PersistentVolumeClaim."""

    spec: PersistentVolumeClaimSpec = field(default_factory=PersistentVolumeClaimSpec)


class LocalVolumeSource(Object):
    """core/v1 LocalVolumeSource."""

    path: str = ""
    fs_type: str | None = None


class ObjectReference(Object):
    """core/v1 ObjectReference, in PersistentVolume's claimRef."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class VolumeNodeAffinity(Object):
    """core/v1 VolumeNodeAffinity."""

    required: NodeSelector | None = None


class PersistentVolumeSpec(Object):
    """core/v1 PersistentVolumeSpec, with the sources that manifests for one node use."""

    capacity: dict[str, Quantity] = field(default_factory=dict)
    host_path: HostPathVolumeSource | None = None
    local: LocalVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    access_modes: list[str] = field(default_factory=list)
    claim_ref: ObjectReference | None = None
    persistent_volume_reclaim_policy: str = ""
    storage_class_name: str = ""
    mount_options: list[str] = field(default_factory=list)
    volume_mode: str | None = None
    node_affinity: VolumeNodeAffinity | None = None
    volume_attributes_class_name: str | None = None


class Overhead(Object):
    """node/v1 Overhead."""

    pod_fixed: dict[str, Quantity] = field(default_factory=dict)


class Scheduling(Object):
    """node/v1 Scheduling."""

    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[Toleration] = field(default_factory=list)


class RuntimeClass(DataObject):
    """node/v1 RuntimeClass."""

    handler: str = ""
    overhead: Overhead | None = None
    scheduling: Scheduling | None = None


class PersistentVolume(DataObject):
    """core/v1 PersistentVolume."""

    spec: PersistentVolumeSpec = field(default_factory=PersistentVolumeSpec)

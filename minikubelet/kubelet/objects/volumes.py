"""Volumes of a pod and all their sources: the fields of core/v1 in k8s.io/api v0.36, in its order."""

from __future__ import annotations

from msgspec import field

from minikubelet.kubelet.objects.base import Int32, Int64, Object, Quantity
from minikubelet.kubelet.objects.meta import LabelSelector, ObjectMeta


class HostPathVolumeSource(Object):
    """core/v1 HostPathVolumeSource."""

    path: str = ""
    type: str | None = None


class EmptyDirVolumeSource(Object):
    """core/v1 EmptyDirVolumeSource."""

    medium: str = ""
    size_limit: Quantity | None = None


class GCEPersistentDiskVolumeSource(Object):
    """core/v1 GCEPersistentDiskVolumeSource."""

    pd_name: str = ""
    fs_type: str = ""
    partition: Int32 = 0
    read_only: bool = False


class AWSElasticBlockStoreVolumeSource(Object):
    """core/v1 AWSElasticBlockStoreVolumeSource."""

    volume_id: str = field(default="", name="volumeID")
    fs_type: str = ""
    partition: Int32 = 0
    read_only: bool = False


class GitRepoVolumeSource(Object):
    """core/v1 GitRepoVolumeSource."""

    repository: str = ""
    revision: str = ""
    directory: str = ""


class KeyToPath(Object):
    """core/v1 KeyToPath."""

    key: str = ""
    path: str = ""
    mode: Int32 | None = None


class SecretVolumeSource(Object):
    """core/v1 SecretVolumeSource."""

    secret_name: str = ""
    items: list[KeyToPath] = field(default_factory=list)
    default_mode: Int32 | None = None
    optional: bool | None = None


class NFSVolumeSource(Object):
    """core/v1 NFSVolumeSource."""

    server: str = ""
    path: str = ""
    read_only: bool = False


class LocalObjectReference(Object):
    """core/v1 LocalObjectReference."""

    name: str = ""


class ISCSIVolumeSource(Object):
    """core/v1 ISCSIVolumeSource."""

    target_portal: str = ""
    iqn: str = ""
    lun: Int32 = 0
    iscsi_interface: str = ""
    fs_type: str = ""
    read_only: bool = False
    portals: list[str] = field(default_factory=list)
    chap_auth_discovery: bool = False
    chap_auth_session: bool = False
    secret_ref: LocalObjectReference | None = None
    initiator_name: str | None = None


class GlusterfsVolumeSource(Object):
    """core/v1 GlusterfsVolumeSource."""

    endpoints: str = ""
    path: str = ""
    read_only: bool = False


class PersistentVolumeClaimVolumeSource(Object):
    """core/v1 PersistentVolumeClaimVolumeSource."""

    claim_name: str = ""
    read_only: bool = False


class RBDVolumeSource(Object):
    """core/v1 RBDVolumeSource."""

    monitors: list[str] = field(default_factory=list)
    image: str = ""
    fs_type: str = ""
    pool: str = ""
    user: str = ""
    keyring: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False


class FlexVolumeSource(Object):
    """core/v1 FlexVolumeSource."""

    driver: str = ""
    fs_type: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False
    options: dict[str, str] = field(default_factory=dict)


class CinderVolumeSource(Object):
    """core/v1 CinderVolumeSource."""

    volume_id: str = field(default="", name="volumeID")
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None


class CephFSVolumeSource(Object):
    """core/v1 CephFSVolumeSource."""

    monitors: list[str] = field(default_factory=list)
    path: str = ""
    user: str = ""
    secret_file: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False


class FlockerVolumeSource(Object):
    """core/v1 FlockerVolumeSource."""

    dataset_name: str = ""
    dataset_uuid: str = field(default="", name="datasetUUID")


class ObjectFieldSelector(Object):
    """core/v1 ObjectFieldSelector."""

    api_version: str = ""
    field_path: str = ""


class ResourceFieldSelector(Object):
    """core/v1 ResourceFieldSelector."""

    container_name: str = ""
    resource: str = ""
    divisor: Quantity | None = None


class DownwardAPIVolumeFile(Object):
    """core/v1 DownwardAPIVolumeFile."""

    path: str = ""
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: Int32 | None = None


class DownwardAPIVolumeSource(Object):
    """core/v1 DownwardAPIVolumeSource."""

    items: list[DownwardAPIVolumeFile] = field(default_factory=list)
    default_mode: Int32 | None = None


class FCVolumeSource(Object):
    """core/v1 FCVolumeSource."""

    target_wwns: list[str] = field(default_factory=list, name="targetWWNs")
    lun: Int32 | None = None
    fs_type: str = ""
    read_only: bool = False
    wwids: list[str] = field(default_factory=list)


class AzureFileVolumeSource(Object):
    """core/v1 AzureFileVolumeSource."""

    secret_name: str = ""
    share_name: str = ""
    read_only: bool = False


class ConfigMapVolumeSource(LocalObjectReference):
    """core/v1 ConfigMapVolumeSource."""

    items: list[KeyToPath] = field(default_factory=list)
    default_mode: Int32 | None = None
    optional: bool | None = None


class VsphereVirtualDiskVolumeSource(Object):
    """core/v1 VsphereVirtualDiskVolumeSource."""

    volume_path: str = ""
    fs_type: str = ""
    storage_policy_name: str = ""
    storage_policy_id: str = field(default="", name="storagePolicyID")


class QuobyteVolumeSource(Object):
    """core/v1 QuobyteVolumeSource."""

    registry: str = ""
    volume: str = ""
    read_only: bool = False
    user: str = ""
    group: str = ""
    tenant: str = ""


class AzureDiskVolumeSource(Object):
    """core/v1 AzureDiskVolumeSource."""

    disk_name: str = ""
    disk_uri: str = field(default="", name="diskURI")
    caching_mode: str | None = None
    fs_type: str | None = None
    read_only: bool | None = None
    kind: str | None = None


class PhotonPersistentDiskVolumeSource(Object):
    """core/v1 PhotonPersistentDiskVolumeSource."""

    pd_id: str = field(default="", name="pdID")
    fs_type: str = ""


class SecretProjection(LocalObjectReference):
    """core/v1 SecretProjection."""

    items: list[KeyToPath] = field(default_factory=list)
    optional: bool | None = None


class DownwardAPIProjection(Object):
    """core/v1 DownwardAPIProjection."""

    items: list[DownwardAPIVolumeFile] = field(default_factory=list)


class ConfigMapProjection(LocalObjectReference):
    """core/v1 ConfigMapProjection."""

    items: list[KeyToPath] = field(default_factory=list)
    optional: bool | None = None


class ServiceAccountTokenProjection(Object):
    """core/v1 ServiceAccountTokenProjection."""

    audience: str = ""
    expiration_seconds: Int64 | None = None
    path: str = ""


class ClusterTrustBundleProjection(Object):
    """core/v1 ClusterTrustBundleProjection."""

    name: str | None = None
    signer_name: str | None = None
    label_selector: LabelSelector | None = None
    optional: bool | None = None
    path: str = ""


class PodCertificateProjection(Object):
    """core/v1 PodCertificateProjection."""

    signer_name: str = ""
    key_type: str = ""
    max_expiration_seconds: Int32 | None = None
    credential_bundle_path: str = ""
    key_path: str = ""
    certificate_chain_path: str = ""
    user_annotations: dict[str, str] = field(default_factory=dict)


class VolumeProjection(Object):
    """core/v1 VolumeProjection."""

    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = field(default=None, name="downwardAPI")
    config_map: ConfigMapProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None
    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    pod_certificate: PodCertificateProjection | None = None


class ProjectedVolumeSource(Object):
    """core/v1 ProjectedVolumeSource."""

    sources: list[VolumeProjection] = field(default_factory=list)
    default_mode: Int32 | None = None


class PortworxVolumeSource(Object):
    """core/v1 PortworxVolumeSource."""

    volume_id: str = field(default="", name="volumeID")
    fs_type: str = ""
    read_only: bool = False


class ScaleIOVolumeSource(Object):
    """core/v1 ScaleIOVolumeSource."""

    gateway: str = ""
    system: str = ""
    secret_ref: LocalObjectReference | None = None
    ssl_enabled: bool = False
    protection_domain: str = ""
    storage_pool: str = ""
    storage_mode: str = ""
    volume_name: str = ""
    fs_type: str = ""
    read_only: bool = False


class StorageOSVolumeSource(Object):
    """core/v1 StorageOSVolumeSource."""

    volume_name: str = ""
    volume_namespace: str = ""
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None


class CSIVolumeSource(Object):
    """core/v1 CSIVolumeSource."""

    driver: str = ""
    read_only: bool | None = None
    fs_type: str | None = None
    volume_attributes: dict[str, str] = field(default_factory=dict)
    node_publish_secret_ref: LocalObjectReference | None = None


class VolumeResourceRequirements(Object):
    """core/v1 VolumeResourceRequirements."""

    limits: dict[str, Quantity] = field(default_factory=dict)
    requests: dict[str, Quantity] = field(default_factory=dict)


class TypedLocalObjectReference(Object):
    """core/v1 TypedLocalObjectReference."""

    api_group: str | None = None
    kind: str = ""
    name: str = ""


class TypedObjectReference(Object):
    """core/v1 TypedObjectReference."""

    api_group: str | None = None
    kind: str = ""
    name: str = ""
    namespace: str | None = None


class PersistentVolumeClaimSpec(Object):
    """core/v1 PersistentVolumeClaimSpec."""

    access_modes: list[str] = field(default_factory=list)
    selector: LabelSelector | None = None
    resources: VolumeResourceRequirements = field(default_factory=VolumeResourceRequirements)
    volume_name: str = ""
    storage_class_name: str | None = None
    volume_mode: str | None = None
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    volume_attributes_class_name: str | None = None


class PersistentVolumeClaimTemplate(Object):
    """core/v1 PersistentVolumeClaimTemplate."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = field(default_factory=PersistentVolumeClaimSpec)


class EphemeralVolumeSource(Object):
    """core/v1 EphemeralVolumeSource."""

    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class ImageVolumeSource(Object):
    """core/v1 ImageVolumeSource."""

    reference: str = ""
    pull_policy: str = ""


class VolumeSource(Object):
    """core/v1 VolumeSource."""

    host_path: HostPathVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None
    gce_persistent_disk: GCEPersistentDiskVolumeSource | None = None
    aws_elastic_block_store: AWSElasticBlockStoreVolumeSource | None = None
    git_repo: GitRepoVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    iscsi: ISCSIVolumeSource | None = None
    glusterfs: GlusterfsVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    rbd: RBDVolumeSource | None = None
    flex_volume: FlexVolumeSource | None = None
    cinder: CinderVolumeSource | None = None
    cephfs: CephFSVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = field(default=None, name="downwardAPI")
    fc: FCVolumeSource | None = None
    azure_file: AzureFileVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    vsphere_volume: VsphereVirtualDiskVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    azure_disk: AzureDiskVolumeSource | None = None
    photon_persistent_disk: PhotonPersistentDiskVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    portworx_volume: PortworxVolumeSource | None = None
    scale_io: ScaleIOVolumeSource | None = field(default=None, name="scaleIO")
    storageos: StorageOSVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    image: ImageVolumeSource | None = None


class Volume(VolumeSource):
    """core/v1 Volume."""

    name: str = ""

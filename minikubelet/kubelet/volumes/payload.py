"""Objects as files: what configMap, secret, downwardAPI and projected volumes hold (pkg/volume/*)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minikubelet.kubelet.environment import ContainerConfigError, PodAddresses, pod_field, resource_field
from minikubelet.kubelet.lookups import ConfigMapContent, SecretContent
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.volumes import (
    DownwardAPIVolumeFile,
    KeyToPath,
    ProjectedVolumeSource,
    VolumeProjection,
)
from minikubelet.kubelet.volumes.atomic_writer import FileContent, Payload
from minikubelet.kubelet.volumes.plugin import MountError, Surroundings

_DEFAULT_MODE = 0o644
_NO_API = "cannot use TokenManager when kubelet is in standalone mode"


async def config_map_files(
    around: Surroundings, namespace: str, name: str, items: Sequence[KeyToPath], mode: int, optional: bool
) -> Payload:
    """A ConfigMap's keys, or those of ``items``. Raises MountError."""
    found = await around.lookups.config_map(namespace, name)
    if found is None:
        if not optional:
            raise MountError(f'configmap "{name}" not found')
        found = ConfigMapContent()
    data = {key: value.encode() for key, value in found.data.items()} | dict(found.binary)
    return _chosen(data, items, mode, optional, "configmap references non-existent config key")


async def secret_files(
    around: Surroundings, namespace: str, name: str, items: Sequence[KeyToPath], mode: int, optional: bool
) -> Payload:
    """A Secret's keys, or those of ``items``. Raises MountError."""
    found = await around.lookups.secret(namespace, name)
    if found is None:
        if not optional:
            raise MountError(f'secret "{name}" not found')
        found = SecretContent()
    return _chosen(found.data, items, mode, optional, "references non-existent secret key")


def _chosen(
    data: Mapping[str, bytes], items: Sequence[KeyToPath], mode: int, optional: bool, missing: str
) -> Payload:
    if not items:
        return {key: FileContent(value, mode) for key, value in data.items()}
    files = {}
    for item in items:
        if item.key in data:
            files[item.path] = FileContent(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise MountError(f"{missing}: {item.key}")
    return files


def downward_files(
    around: Surroundings, pod: Pod, items: Sequence[DownwardAPIVolumeFile], mode: int
) -> Payload:
    """Fields of the pod and resources of its containers. Raises MountError."""
    files = {}
    problems = []
    for item in items:
        text = ""
        try:
            if item.field_ref is not None:
                text = pod_field(pod, item.field_ref.field_path, PodAddresses())
            elif item.resource_field_ref is not None:
                ref = item.resource_field_ref
                names = [c.name for c in [*pod.spec.containers, *pod.spec.init_containers]]
                if ref.container_name not in names:
                    raise ContainerConfigError(f"container {ref.container_name} not found")
                text = resource_field(pod, pod.spec.containers[0], ref, around.allocatable())
        except ContainerConfigError as exc:
            problems.append(str(exc))
        files[item.path] = FileContent(text.encode(), mode if item.mode is None else item.mode)
    _complain(problems)
    return files


async def projected_files(around: Surroundings, pod: Pod, source: ProjectedVolumeSource) -> Payload:
    """All sources together; later ones go over earlier ones. Raises MountError that tells of each failure."""
    mode = _DEFAULT_MODE if source.default_mode is None else source.default_mode
    files: dict[str, FileContent] = {}
    problems = []
    for projection in source.sources:
        try:
            files |= await _projection(around, pod, projection, mode)
        except MountError as exc:
            problems.append(exc.message)
    _complain(problems)
    return files


async def _projection(around: Surroundings, pod: Pod, projection: VolumeProjection, mode: int) -> Payload:
    namespace = pod.metadata.namespace
    if (secret := projection.secret) is not None:
        return await secret_files(around, namespace, secret.name, secret.items, mode, bool(secret.optional))
    if (config := projection.config_map) is not None:
        return await config_map_files(
            around, namespace, config.name, config.items, mode, bool(config.optional)
        )
    if projection.downward_api is not None:
        return downward_files(around, pod, projection.downward_api.items, mode)
    if projection.service_account_token is not None:
        raise MountError(f"failed to fetch token: {_NO_API}")
    if projection.cluster_trust_bundle is not None:
        raise MountError("ClusterTrustBundle projection is not supported in static kubelet mode")
    if projection.pod_certificate is not None:
        raise MountError("PodCertificate projection is not supported in static kubelet mode")
    return {}


def _complain(problems: Sequence[str]) -> None:
    """One error for all, as upstream's aggregates read."""
    different = list(dict.fromkeys(problems))
    if different:
        raise MountError(different[0] if len(different) == 1 else f"[{', '.join(different)}]")

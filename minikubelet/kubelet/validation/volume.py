"""Volumes that show objects as files, and claims: names, keys, paths and modes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Volume
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.objects.volumes import (
    DownwardAPIVolumeFile,
    KeyToPath,
    ProjectedVolumeSource,
    VolumeProjection,
)
from minikubelet.kubelet.validation.checker import Checker
from minikubelet.kubelet.validation.environment import validate_field_ref, validate_resource_field

_IN_FILES = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_HOST_PATH_TYPES = (
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


_PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def validate_volume(check: Checker, at: Path, volume: Volume) -> None:
    """Check one volume at ``at``."""
    if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
        _size_limit(check, (*at, "emptyDir", "sizeLimit"), volume.empty_dir.size_limit)
    if volume.host_path is not None and volume.host_path.type:
        check.one_of((*at, "hostPath", "type"), volume.host_path.type, _HOST_PATH_TYPES)
    if (config := volume.config_map) is not None:
        where: Path = (*at, "configMap")
        check.required((*where, "name"), config.name)
        _mode(check, (*where, "defaultMode"), config.default_mode)
        _items(check, (*where, "items"), config.items)
    if (secret := volume.secret) is not None:
        where = (*at, "secret")
        check.required((*where, "secretName"), secret.secret_name)
        _mode(check, (*where, "defaultMode"), secret.default_mode)
        _items(check, (*where, "items"), secret.items)
    if (downward := volume.downward_api) is not None:
        where = (*at, "downwardAPI")
        _mode(check, (*where, "defaultMode"), downward.default_mode)
        _downward(check, (*where, "items"), downward.items)
    if volume.projected is not None:
        _projected(check, (*at, "projected"), volume.projected)
    if volume.image is not None:
        check.one_of((*at, "image", "pullPolicy"), volume.image.pull_policy, _PULL_POLICIES)
    if volume.persistent_volume_claim is not None:
        claim = volume.persistent_volume_claim.claim_name
        check.required((*at, "persistentVolumeClaim", "claimName"), claim)


def _size_limit(check: Checker, at: Path, limit: Quantity) -> None:
    try:
        if parse(limit) < 0:
            check.add(at, "Forbidden: SizeLimit field must be a valid resource quantity")
    except ValueError as exc:
        check.invalid(at, limit, str(exc))


def _projected(check: Checker, at: Path, source: ProjectedVolumeSource) -> None:
    _mode(check, (*at, "defaultMode"), source.default_mode)
    seen: set[str] = set()
    for index, projection in enumerate(source.sources):
        where: Path = (*at, "sources", index)
        given = [n for n in projection.__struct_fields__ if getattr(projection, n) is not None]
        if not given:
            check.add(where, "Required value: must specify a source")
        if len(given) > 1:
            check.add(where, "Forbidden: may not specify more than 1 volume type per source")
        for path in _projected_paths(projection):
            if path in seen:
                check.invalid(at, path, "conflicting duplicate paths")
            seen.add(path)
        if projection.secret is not None:
            check.required((*where, "secret", "name"), projection.secret.name)
            _items(check, (*where, "secret", "items"), projection.secret.items)
        if projection.config_map is not None:
            check.required((*where, "configMap", "name"), projection.config_map.name)
            _items(check, (*where, "configMap", "items"), projection.config_map.items)
        if projection.downward_api is not None:
            _downward(check, (*where, "downwardAPI", "items"), projection.downward_api.items)


def _projected_paths(projection: VolumeProjection) -> Iterator[str]:
    """Paths that the manifest names; those of whole objects only show later."""
    for source in (projection.secret, projection.config_map, projection.downward_api):
        if source is not None:
            yield from (item.path for item in source.items if item.path)
    if projection.cluster_trust_bundle is not None:
        yield projection.cluster_trust_bundle.path
    if (made := projection.pod_certificate) is not None:
        paths = (made.credential_bundle_path, made.key_path, made.certificate_chain_path)
        yield from filter(None, paths)


def _items(check: Checker, at: Path, items: Sequence[KeyToPath]) -> None:
    for index, item in enumerate(items):
        check.required((*at, index, "key"), item.key)
        _path(check, (*at, index, "path"), item.path)
        _mode(check, (*at, index, "mode"), item.mode)


def _downward(check: Checker, at: Path, items: Sequence[DownwardAPIVolumeFile]) -> None:
    for index, item in enumerate(items):
        where: Path = (*at, index)
        _path(check, (*where, "path"), item.path)
        _mode(check, (*where, "mode"), item.mode)
        if (item.field_ref is None) == (item.resource_field_ref is None):
            check.add(where, "Required value: one of fieldRef and resourceFieldRef is required")
        if item.field_ref is not None:
            validate_field_ref(check, (*where, "fieldRef"), item.field_ref, _IN_FILES)
        if item.resource_field_ref is not None:
            name = item.resource_field_ref.container_name
            check.required((*where, "resourceFieldRef", "containerName"), name)
            validate_resource_field(check, (*where, "resourceFieldRef"), item.resource_field_ref)


def _path(check: Checker, at: Path, path: str) -> None:
    if not check.required(at, path):
        return
    if path.startswith("/"):
        check.invalid(at, path, "must be a relative path")
    elif ".." in path.split("/"):
        check.invalid(at, path, "must not contain '..'")
    elif path.startswith(".."):
        check.invalid(at, path, "must not start with '..'")


def _mode(check: Checker, at: Path, mode: int | None) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        check.invalid(at, mode, "must be a number between 0 and 0777 (octal), both inclusive")

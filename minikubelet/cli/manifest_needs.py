"""What pods need that this node can't give, or that none of the manifests at hand has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from minikubelet.kubelet import affinity
from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Container, Pod, Volume
from minikubelet.kubelet.objects.data import ConfigMap, DataObject, Secret

_VOLUMES = {
    *("emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected", "image"),
    "persistentVolumeClaim",
}
"""The kinds of volumes that :mod:`minikubelet.kubelet.volumes` makes."""
_FROM_API_SERVER = ("serviceAccountToken", "clusterTrustBundle", "podCertificate")


@dataclass(frozen=True)
class Need:
    """Something a pod names, and where in it."""

    path: Path
    kind: str
    name: str
    key: str = ""
    """Of a ConfigMap or Secret; empty: any."""


def unsupported(pod: Pod) -> Iterator[tuple[Path, str]]:
    """Fields that keep the pod from ever starting here, though every cluster knows them."""
    for index, volume in enumerate(pod.spec.volumes):
        for kind in msgspec.to_builtins(volume).keys() - {"name"} - _VOLUMES:
            yield (*_volume(index), kind), "volumes of this kind are not supported by this node"
        if volume.empty_dir is not None and volume.empty_dir.medium not in ("", "Memory"):
            where = (*_volume(index), "emptyDir", "medium")
            yield where, "huge pages are not supported by this node: only Memory and the disk are"
        for number, source in enumerate(volume.projected.sources if volume.projected is not None else ()):
            for kind in _FROM_API_SERVER:
                if msgspec.to_builtins(source).get(kind) is not None:
                    where = (*_volume(index), "projected", "sources", number, kind)
                    yield where, "comes from an API server, and this node has none"


def elsewhere(pod: Pod, node: str) -> Iterator[tuple[Path, str]]:
    """What is for other nodes than one of this name on this machine, so that it refuses the pod."""
    labels = affinity.node_labels(node)
    if not affinity.allows(pod, node, labels):
        selector = any(labels.get(key) != value for key, value in pod.spec.node_selector.items())
        where: Path = ("spec", "nodeSelector") if selector else ("spec", "affinity", "nodeAffinity")
        shown = ", ".join(f"{key}={value}" for key, value in labels.items())
        yield where, f"is for other nodes: this one refuses the pod (its labels: {shown})"


def needs(pod: Pod) -> Iterator[Need]:
    """What the pod can't start without: objects that aren't optional, and its RuntimeClass."""
    for index, volume in enumerate(pod.spec.volumes):
        yield from _of_volume(volume, _volume(index))
    for field, containers in (
        ("initContainers", pod.spec.init_containers),
        ("containers", pod.spec.containers),
    ):
        for index, container in enumerate(containers):
            yield from _of_container(container, ("spec", field, index))
    if pod.spec.runtime_class_name:
        yield Need(("spec", "runtimeClassName"), "RuntimeClass", pod.spec.runtime_class_name)


def missing(pod: Pod, objects: Iterable[DataObject]) -> Iterator[tuple[Path, str]]:
    """Needs of the pod that no object meets."""
    namespace = pod.metadata.namespace or "default"
    here = {(each.kind, each.metadata.namespace or "", each.metadata.name): each for each in objects}
    for need in needs(pod):
        where = "" if need.kind == "RuntimeClass" else namespace
        found = here.get((need.kind, where, need.name))
        if found is None:
            yield need.path, f'{need.kind} "{need.name}" is in none of the given files'
        elif need.key and need.key not in _keys(found):
            yield need.path, f'{need.kind} "{need.name}" has no key "{need.key}"'


def _keys(found: DataObject) -> set[str]:
    if isinstance(found, ConfigMap):
        return {*found.data, *found.binary_data}
    return {*found.data, *found.string_data} if isinstance(found, Secret) else set()


def _volume(index: int) -> Path:
    return ("spec", "volumes", index)


def _of_volume(volume: Volume, at: Path) -> Iterator[Need]:
    if (config := volume.config_map) is not None and not config.optional:
        yield Need((*at, "configMap", "name"), "ConfigMap", config.name)
    if (secret := volume.secret) is not None and not secret.optional:
        yield Need((*at, "secret", "secretName"), "Secret", secret.secret_name)
    if (claim := volume.persistent_volume_claim) is not None:
        where = (*at, "persistentVolumeClaim", "claimName")
        yield Need(where, "PersistentVolumeClaim", claim.claim_name)
    for number, source in enumerate(volume.projected.sources if volume.projected is not None else ()):
        where = (*at, "projected", "sources", number)
        if source.config_map is not None and not source.config_map.optional:
            yield Need((*where, "configMap", "name"), "ConfigMap", source.config_map.name)
        if source.secret is not None and not source.secret.optional:
            yield Need((*where, "secret", "name"), "Secret", source.secret.name)


def _of_container(container: Container, at: Path) -> Iterator[Need]:
    for index, source in enumerate(container.env_from):
        where: Path = (*at, "envFrom", index)
        if source.config_map_ref is not None and not source.config_map_ref.optional:
            yield Need((*where, "configMapRef", "name"), "ConfigMap", source.config_map_ref.name)
        if source.secret_ref is not None and not source.secret_ref.optional:
            yield Need((*where, "secretRef", "name"), "Secret", source.secret_ref.name)
    for index, variable in enumerate(container.env):
        if (value := variable.value_from) is None:
            continue
        where = (*at, "env", index, "valueFrom")
        if (config := value.config_map_key_ref) is not None and not config.optional:
            yield Need((*where, "configMapKeyRef", "name"), "ConfigMap", config.name, config.key)
        if (secret := value.secret_key_ref) is not None and not secret.optional:
            yield Need((*where, "secretKeyRef", "name"), "Secret", secret.name, secret.key)

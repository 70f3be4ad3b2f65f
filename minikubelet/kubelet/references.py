"""What a pod refers to by name: whose change may let it start, or change what it sees."""

from __future__ import annotations

from collections.abc import Iterator

from minikubelet.kubelet.defaults import all_containers
from minikubelet.kubelet.lookups import Key
from minikubelet.kubelet.objects import Pod, Volume


def references(pod: Pod) -> frozenset[Key]:
    """Keys of all ConfigMaps, Secrets, claims and the RuntimeClass that the pod names."""
    namespace = pod.metadata.namespace
    found = frozenset((kind, namespace, name) for kind, name in _named(pod))
    handler = pod.spec.runtime_class_name
    return found | {("RuntimeClass", "", handler)} if handler else found


def _named(pod: Pod) -> Iterator[tuple[str, str]]:
    for volume in pod.spec.volumes:
        yield from _in_volume(volume)
    for container in all_containers(pod.spec):
        for source in container.env_from:
            if source.config_map_ref is not None:
                yield "ConfigMap", source.config_map_ref.name
            if source.secret_ref is not None:
                yield "Secret", source.secret_ref.name
        for variable in container.env:
            if variable.value_from is None:
                continue
            if variable.value_from.config_map_key_ref is not None:
                yield "ConfigMap", variable.value_from.config_map_key_ref.name
            if variable.value_from.secret_key_ref is not None:
                yield "Secret", variable.value_from.secret_key_ref.name
    for pull in pod.spec.image_pull_secrets:
        yield "Secret", pull.name


def _in_volume(volume: Volume) -> Iterator[tuple[str, str]]:
    if volume.config_map is not None:
        yield "ConfigMap", volume.config_map.name
    if volume.secret is not None:
        yield "Secret", volume.secret.secret_name
    if volume.persistent_volume_claim is not None:
        yield "PersistentVolumeClaim", volume.persistent_volume_claim.claim_name
    for projection in volume.projected.sources if volume.projected is not None else ():
        if projection.config_map is not None:
            yield "ConfigMap", projection.config_map.name
        if projection.secret is not None:
            yield "Secret", projection.secret.name

"""Labels and annotations by which a kubelet knows its pods in the runtime; the same as upstream's."""

from __future__ import annotations

import hashlib
import json

import msgspec

from minikubelet.kubelet.objects import Container, Pod

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
CONTAINER_HASH = "io.kubernetes.container.hash"
CONTAINER_RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP = "io.kubernetes.container.preStopHandler"
PORTS = "io.kubernetes.container.ports"
GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"
OWNER = "minikubelet.io/kubelet"
"""Annotation of a sandbox: the root folder of the kubelet that made it; upstream has no such thing."""


def pod_labels(pod: Pod) -> dict[str, str]:
    """Labels of a sandbox: the pod's own and the three that name it."""
    meta = pod.metadata
    own = {POD_NAME: meta.name, POD_NAMESPACE: meta.namespace, POD_UID: meta.uid}
    return {**meta.labels, **own}


def container_labels(pod: Pod, container: Container) -> dict[str, str]:
    """Labels of a container."""
    meta = pod.metadata
    return {
        POD_NAME: meta.name,
        POD_NAMESPACE: meta.namespace,
        POD_UID: meta.uid,
        CONTAINER_NAME: container.name,
    }


def container_hash(container: Container) -> str:
    """Changes when a running container must be replaced: name and image, as upstream's since 1.31."""
    text = json.dumps({"image": container.image, "name": container.name}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def container_annotations(pod: Pod, container: Container, restart_count: int) -> dict[str, str]:
    """What is needed to handle a container whose manifest is gone, and to count restarts."""
    notes = {
        CONTAINER_HASH: container_hash(container),
        CONTAINER_RESTART_COUNT: str(restart_count),
        TERMINATION_MESSAGE_PATH: container.termination_message_path,
        TERMINATION_MESSAGE_POLICY: container.termination_message_policy,
    }
    if pod.spec.termination_grace_period_seconds is not None:
        notes[GRACE_PERIOD] = str(pod.spec.termination_grace_period_seconds)
    if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
        notes[PRE_STOP] = msgspec.json.encode(container.lifecycle.pre_stop).decode()
    if container.ports:
        notes[PORTS] = msgspec.json.encode(container.ports).decode()
    return notes

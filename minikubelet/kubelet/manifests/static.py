"""What makes a manifest's pod a static pod of this node: its UID, name suffix and annotations.

As upstream's kubelet does for file sources: ``NAME-NODE``, namespace ``default``, a UID hashed from the
object, the node and the file, and the ``kubernetes.io/config.*`` annotations.
"""

from __future__ import annotations

import hashlib

import msgspec

from minikubelet.base import clock
from minikubelet.kubelet.manifests.identity import without_amounts
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.podspec import Toleration

CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_SEEN = "kubernetes.io/config.seen"

_encoder = msgspec.json.Encoder(order="sorted")


def make_static(pod: Pod, node_name: str, file: str, source: str = "file") -> None:
    """Complete ``pod`` in place; call before defaults, so that the hash is of what was written.

    ``source`` is ``file`` or ``http``, ``file`` the file's name or the URL.

    A manifest that brings its own UID keeps it; its hash annotation still follows the content, so that
    an edit is noticed. CPU and memory of containers are left out of it where they can be resized in place.
    """
    try:
        told = without_amounts(pod)
    except ValueError:
        told = pod  # validation will say what is wrong with its quantities
    hasher = hashlib.blake2b(_encoder.encode(told), digest_size=16)
    hasher.update(f"host:{node_name}file:{file}".encode())
    content = hasher.hexdigest()
    meta = pod.metadata
    meta.uid = meta.uid or content
    if meta.name:
        meta.name = f"{meta.name}-{node_name.lower()}"
    meta.namespace = meta.namespace or "default"
    meta.annotations = {
        **meta.annotations,
        CONFIG_HASH: content,
        CONFIG_SOURCE: source,
        CONFIG_SEEN: clock.rfc3339(clock.now_ns()),
    }
    pod.spec.node_name = node_name
    everywhere = Toleration(operator="Exists", effect="NoExecute")
    if source == "file" and everywhere not in pod.spec.tolerations:
        pod.spec.tolerations.append(everywhere)

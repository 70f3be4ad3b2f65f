"""Pods as ``get -o yaml`` shows them, made into manifests again, so that they can be edited and applied."""

from __future__ import annotations

from typing import Any

from minikubelet.cli.manifest_files import Key, Piece
from minikubelet.kubelet.manifests.static import CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE

Json = dict[str, Any]
_MIRROR = "kubernetes.io/config.mirror"
_RUNTIME_META = (
    *("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"),
    *("managedFields", "ownerReferences", "resourceVersion", "selfLink"),
)
_EVERYWHERE = {"operator": "Exists", "effect": "NoExecute"}


def as_manifest(piece: Piece) -> Piece | None:
    """The manifest of a static pod that was shown as it runs: NAME for NAME-NODE; None for anything else.

    With its UID and its whole name it would become another pod, in the way of the first.
    """
    data = piece.data
    meta, spec = data.get("metadata"), data.get("spec")
    if piece.key.kind != "Pod" or not isinstance(meta, dict) or not isinstance(spec, dict):
        return None
    annotations = meta.get("annotations")
    if not isinstance(annotations, dict) or CONFIG_SOURCE not in annotations:
        return None
    name = piece.key.name.removesuffix(f"-{str(spec.get('nodeName', '')).lower()}")
    made = _without(data, "status")
    made["metadata"] = _without(meta, *_RUNTIME_META) | {
        "name": name,
        "annotations": _without(annotations, CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE, _MIRROR),
    }
    made["spec"] = _without(spec, "nodeName", "ephemeralContainers")
    if isinstance(tolerations := spec.get("tolerations"), list):
        made["spec"]["tolerations"] = [each for each in tolerations if each != _EVERYWHERE]
    for part, field in ((made["metadata"], "annotations"), (made["spec"], "tolerations")):
        if not part.get(field):
            part.pop(field, None)
    from minikubelet.cli import yaml_text

    return Piece(Key("Pod", piece.key.namespace, name), made, yaml_text.dump(made))


def _without(data: Json, *names: str) -> Json:
    return {name: value for name, value in data.items() if name not in names}

"""What pods refer to, as the API shows it: everything but what Secrets hold."""

from __future__ import annotations

from typing import Any

import msgspec

from minikubelet.kubelet.manifests.data_objects import VALUES_LEFT_OUT, secret_content
from minikubelet.kubelet.objects.data import DataObject, Secret

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation in which kubectl keeps the whole object."""


def shown(each: DataObject, *, sizes: bool = False) -> dict[str, Any]:
    """The object as JSON's types; a Secret's values are empty. With ``sizes`` it has their bytes by key.

    An annotation says so, lest anybody applies the Secret as it is shown.
    """
    data: dict[str, Any] = msgspec.to_builtins(each)
    if isinstance(each, Secret):
        if sizes:
            data["sizes"] = {key: len(value) for key, value in secret_content(each).data.items()}
        data["data"] = dict.fromkeys(sorted({*each.data, *each.string_data}), "")
        data.pop("stringData", None)
        annotations = data["metadata"].get("annotations", {})
        annotations = {name: value for name, value in annotations.items() if name != _LAST_APPLIED}
        if data["data"] and not sizes:
            annotations[VALUES_LEFT_OUT] = "true"
        data["metadata"]["annotations"] = annotations
        if not annotations:
            del data["metadata"]["annotations"]
    return data

"""Pods with defaults and nothing else, for what is worked out from their fields."""

from __future__ import annotations

from typing import Any

import msgspec

from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.objects import Pod


def pod_of(spec: dict[str, Any], **meta: Any) -> Pod:
    whole_spec = {"containers": [{"name": "app", "image": "app:1"}], **spec}
    metadata = {"name": "web", "namespace": "ns", "uid": "u1", **meta}
    pod = msgspec.convert({"metadata": metadata, "spec": whole_spec}, Pod)
    apply_defaults(pod)
    return pod


def app_of(**fields: Any) -> Pod:
    return pod_of({"containers": [{"name": "app", "image": "app:1", **fields}]})

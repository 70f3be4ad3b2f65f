"""Object metadata (k8s.io/apimachinery meta/v1): names, labels, owners, selectors."""

from __future__ import annotations

from typing import Any

from msgspec import field

from minikubelet.kubelet.objects.base import Int64, Object


class OwnerReference(Object):
    """meta/v1 OwnerReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ManagedFieldsEntry(Object):
    """meta/v1 ManagedFieldsEntry: in dumps of live objects; of no use to a node."""

    manager: str = ""
    operation: str = ""
    api_version: str = ""
    time: str | None = None
    fields_type: str = ""
    fields_v1: dict[str, Any] = field(default_factory=dict, name="fieldsV1")
    subresource: str = ""


class ObjectMeta(Object):
    """meta/v1 ObjectMeta."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    self_link: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: Int64 = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: Int64 | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    owner_references: list[OwnerReference] = field(default_factory=list)
    finalizers: list[str] = field(default_factory=list)
    managed_fields: list[ManagedFieldsEntry] = field(default_factory=list)


class LabelSelectorRequirement(Object):
    """meta/v1 LabelSelectorRequirement."""

    key: str = ""
    operator: str = ""
    values: list[str] = field(default_factory=list)


class LabelSelector(Object):
    """meta/v1 LabelSelector."""

    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: list[LabelSelectorRequirement] = field(default_factory=list)

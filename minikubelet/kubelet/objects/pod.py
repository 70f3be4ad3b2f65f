"""The Pod itself."""

from __future__ import annotations

from msgspec import field

from minikubelet.kubelet.objects.base import Object
from minikubelet.kubelet.objects.meta import ObjectMeta
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.objects.podstatus import PodStatus


class Pod(Object):
    """core/v1 Pod."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)

    @property
    def key(self) -> str:
        """``NAMESPACE/NAME``."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def uid(self) -> str:
        """The metadata's UID."""
        return self.metadata.uid

    @property
    def title(self) -> str:
        """``NAME_NAMESPACE(UID)``, as upstream's messages name a pod."""
        return f"{self.metadata.name}_{self.metadata.namespace}({self.metadata.uid})"

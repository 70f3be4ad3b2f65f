"""What pods refer to by name, as an interface: ConfigMaps, Secrets, claims and volumes.

The node's own is fed from manifests (:mod:`object_store`); an API server can stand behind it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from minikubelet.kubelet.objects.data import PersistentVolume, PersistentVolumeClaim, RuntimeClass

Key = tuple[str, str, str]
"""Kind, namespace and name of an object."""


@dataclass(frozen=True)
class ConfigMapContent:
    """What a ConfigMap holds."""

    data: Mapping[str, str] = field(default_factory=dict)
    binary: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class SecretContent:
    """What a Secret holds, decoded; never shown by ``repr``."""

    type: str = "Opaque"
    data: Mapping[str, bytes] = field(default_factory=dict, repr=False)


class Lookups(Protocol):
    """Finds objects that a pod names. ``None``: there is no such object."""

    async def config_map(self, namespace: str, name: str) -> ConfigMapContent | None:
        """A ConfigMap's content."""

    async def secret(self, namespace: str, name: str) -> SecretContent | None:
        """A Secret's content."""

    async def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        """A PersistentVolumeClaim."""

    async def volume(self, claim: PersistentVolumeClaim) -> PersistentVolume | None:
        """The PersistentVolume that a claim names, or that names the claim."""

    def runtime_class(self, name: str) -> RuntimeClass | None:
        """A RuntimeClass."""


class NoLookups:
    """Nothing is ever found: a pod that needs something waits."""

    async def config_map(self, namespace: str, name: str) -> ConfigMapContent | None:
        """See :class:`Lookups`."""
        return None

    async def secret(self, namespace: str, name: str) -> SecretContent | None:
        """See :class:`Lookups`."""
        return None

    async def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        """See :class:`Lookups`."""
        return None

    async def volume(self, claim: PersistentVolumeClaim) -> PersistentVolume | None:
        """See :class:`Lookups`."""
        return None

    def runtime_class(self, name: str) -> RuntimeClass | None:
        """See :class:`Lookups`."""
        return None

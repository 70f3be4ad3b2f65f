"""ConfigMaps and Secrets that pods refer to: an interface; a node without an API has none."""

from __future__ import annotations

from typing import Protocol


class Lookups(Protocol):
    """Finds objects that a pod names. ``None``: there is no such object."""

    async def config_map(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """Data (text and binary) of a ConfigMap."""

    async def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """Data of a Secret, decoded."""


class NoLookups:
    """A node on its own: nothing is ever found, so a pod that needs it says CreateContainerConfigError."""

    async def config_map(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """See :class:`Lookups`."""
        return None

    async def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """See :class:`Lookups`."""
        return None

"""What the runtime says it can: asked once, when a pod first needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.base.errors import NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient


@dataclass(frozen=True)
class Features:
    """Of the handler that pods run with."""

    recursive_read_only: bool = False
    user_namespaces: bool = False
    strict_groups: bool = False
    """supplementalGroupsPolicy Strict is obeyed; a runtime that doesn't know it would pass over it."""


class RuntimeFeatures:
    """The features of a runtime's handlers (Status in CRI)."""

    def __init__(self, client: CriClient) -> None:
        self._client = client
        self._known: dict[str, Features] | None = None
        self._others = Features()

    async def of(self, handler: str = "") -> Features:
        """Those of ``handler``; a runtime that doesn't tell has none. Raises NodeError."""
        if self._known is None or handler not in self._known:
            status: api.StatusResponse = await self._client.status()
            strict = status.features.supplemental_groups_policy
            self._others = Features(strict_groups=strict)
            self._known = {
                each.name: Features(
                    each.features.recursive_read_only_mounts, each.features.user_namespaces, strict
                )
                for each in status.runtime_handlers
            }
        return self._known.get(handler, self._others)

    async def or_none(self, handler: str = "") -> Features:
        """As :meth:`of`; none at all if the runtime can't be asked now."""
        try:
            return await self.of(handler)
        except NodeError:
            return Features()

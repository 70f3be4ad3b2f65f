"""Which plugin has set which field of which container: what one has set, no other may."""

from __future__ import annotations

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import nri_pb2 as nri

Field = nri.Field


class Owners:
    """The owners of one request's fields."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, int, str], str] = {}

    def claim(self, container_id: str, field: int, plugin: str, name: str = "") -> None:
        """``plugin`` sets a field, or the part ``name`` of it. Raises FAILED_PRECONDITION naming both."""
        owner = self._owners.setdefault((container_id, field, name), plugin)
        if owner != plugin:
            what = f"{Field.Name(field)} {name!r}" if name else Field.Name(field)
            raise NodeError(
                Code.FAILED_PRECONDITION,
                f"NRI plugins {owner!r} and {plugin!r} both set {what} of container {container_id[:13]}",
            )

    def clear(self, container_id: str, field: int, name: str = "") -> None:
        """A plugin has removed what was there, and may set it anew."""
        self._owners.pop((container_id, field, name), None)

    def message(self) -> nri.OwningPlugins:
        """For plugins that validate."""
        result = nri.OwningPlugins()
        for (container_id, field, name), plugin in self._owners.items():
            fields = result.owners[container_id]
            if name:
                fields.compound[field].owners[name] = plugin
            else:
                fields.simple[field] = plugin
        return result

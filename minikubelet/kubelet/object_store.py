"""ConfigMaps, Secrets, claims and volumes from the node's manifests, found by namespace and name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from minikubelet.kubelet.lookups import ConfigMapContent, Key, SecretContent
from minikubelet.kubelet.manifests.data_objects import config_map_content, secret_content
from minikubelet.kubelet.objects.data import (
    ConfigMap,
    DataObject,
    PersistentVolume,
    PersistentVolumeClaim,
    RuntimeClass,
    Secret,
)

Listener = Callable[[frozenset[Key]], None]


class ObjectStore:
    """Fed by the sources, one set of objects each; asked through :class:`Lookups`.

    Where two sources have an object of the same name, that of the source that came first counts.
    """

    def __init__(self) -> None:
        self._origins: dict[str, dict[Key, DataObject]] = {}
        self._objects: dict[Key, DataObject] = {}
        self._config_maps: dict[Key, ConfigMapContent] = {}
        self._secrets: dict[Key, SecretContent] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with the keys of what came, went or changed."""
        self._listeners.append(listener)

    def replace(self, origin: str, objects: Iterable[DataObject]) -> list[Key]:
        """Make ``objects`` (complete, valid) all there is from ``origin``.

        Returns the keys of immutable objects whose content was to change: they stay as they are.
        """
        before = self._origins.get(origin, {})
        refused = []
        now: dict[Key, DataObject] = {}
        for each in objects:
            old = before.get(each.key)
            if old is not None and getattr(old, "immutable", None) and _content(old) != _content(each):
                refused.append(each.key)
                each = old
            now.setdefault(each.key, each)
        self._origins[origin] = now
        self._merge()
        return refused

    def _merge(self) -> None:
        merged: dict[Key, DataObject] = {}
        for origin in self._origins.values():
            merged = {**origin, **merged}
        everything = self._objects.keys() | merged.keys()
        changed = frozenset(key for key in everything if self._objects.get(key) != merged.get(key))
        if not changed:
            return
        self._objects = merged
        for key in changed:
            self._config_maps.pop(key, None)
            self._secrets.pop(key, None)
            found = merged.get(key)
            if isinstance(found, ConfigMap):
                self._config_maps[key] = config_map_content(found)
            elif isinstance(found, Secret):
                self._secrets[key] = secret_content(found)
        for listener in self._listeners:
            listener(changed)

    def objects(self) -> Sequence[DataObject]:
        """Everything there is."""
        return list(self._objects.values())

    async def config_map(self, namespace: str, name: str) -> ConfigMapContent | None:
        """See :class:`Lookups`."""
        return self._config_maps.get(("ConfigMap", namespace, name))

    async def secret(self, namespace: str, name: str) -> SecretContent | None:
        """See :class:`Lookups`."""
        return self._secrets.get(("Secret", namespace, name))

    async def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        """See :class:`Lookups`."""
        found = self._objects.get(("PersistentVolumeClaim", namespace, name))
        return found if isinstance(found, PersistentVolumeClaim) else None

    def runtime_class(self, name: str) -> RuntimeClass | None:
        """See :class:`Lookups`."""
        found = self._objects.get(("RuntimeClass", "", name))
        return found if isinstance(found, RuntimeClass) else None

    async def volume(self, claim: PersistentVolumeClaim) -> PersistentVolume | None:
        """See :class:`Lookups`."""
        if claim.spec.volume_name:
            found = self._objects.get(("PersistentVolume", "", claim.spec.volume_name))
            return found if isinstance(found, PersistentVolume) else None
        for each in self._objects.values():
            if isinstance(each, PersistentVolume) and each.spec.claim_ref is not None:
                ref = each.spec.claim_ref
                if (ref.namespace or "default", ref.name) == claim.key[1:]:
                    return each
        return None


def _content(each: DataObject) -> bytes:
    """What an immutable object may not change: everything but its metadata."""
    return msgspec.json.encode(msgspec.structs.replace(each, metadata=type(each.metadata)()), order="sorted")

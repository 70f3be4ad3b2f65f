"""Objects beside pods as they are now and a moment later: the node, and what manifests hold for pods."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from minikubelet.cli import object_rows
from minikubelet.cli.api_client import ApiClient

Json = dict[str, Any]
_PERIOD = 0.2
"""Seconds between two looks: nothing tells of changes of these objects."""


class LiveObjects:
    """All objects of a kind; what :class:`minikubelet.cli.live_pods.LivePods` is for pods."""

    def __init__(self, client: ApiClient, kind: object_rows.Kind, end: float) -> None:
        """``end``: when :meth:`until` gives up, seconds of :func:`time.monotonic`."""
        self._client, self._kind, self._end = client, kind, end
        self._look()

    def _look(self) -> None:
        found = object_rows.objects(self._client, [self._kind])
        self._objects = {_key(each): each for each in found if each["kind"] == self._kind.name}

    def all(self) -> list[Json]:
        """Those there are."""
        return list(self._objects.values())

    def find(self, namespace: str, name: str) -> Json | None:
        """The object of that name."""
        return self._objects.get((namespace if self._kind.namespaced else "", name))

    def has(self, one: Json) -> bool:
        """Whether that object is still there."""
        found = self._objects.get(_key(one))
        return found is not None and found["metadata"].get("uid") == one["metadata"].get("uid")

    def until(self, happened: Callable[[], bool]) -> bool:
        """Look until something has happened; False if that isn't before the end. Raises CommandError."""
        while not happened():
            left = self._end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_PERIOD, left))
            self._look()
        return True


def _key(each: Json) -> tuple[str, str]:
    return str(each["metadata"].get("namespace") or ""), str(each["metadata"]["name"])

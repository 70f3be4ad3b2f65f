"""Parts of answers that are made once a state, for nothing else in them ever changes.

A kubelet lists and measures all pods and containers all the time, and making messages with their labels and
annotations is most of what a list costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from minikubelet.cri import to_proto
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.models import Container, Sandbox

_Source = TypeVar("_Source", bound=Sandbox | Container)
_Item = TypeVar("_Item")


class Kept(Generic[_Source, _Item]):
    """Messages by what they were made of; made again when its state or configuration is another."""

    def __init__(self, make: Callable[[_Source], _Item]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[_Source, tuple[Any, Any, _Item]] = WeakKeyDictionary()

    def __call__(self, source: _Source) -> _Item:
        """The message; whoever gets it must not change it (putting it into another message copies it)."""
        state, config = source.state, source.config
        known = self._made.get(source)
        if known is not None and known[0] is state and known[1] is config:
            return known[2]
        item = self._make(source)
        self._made[source] = (state, config, item)
        return item


sandbox_item: Kept[Sandbox, api.PodSandbox] = Kept(to_proto.sandbox_item)
container_item: Kept[Container, api.Container] = Kept(to_proto.container_item)
container_attributes: Kept[Container, api.ContainerAttributes] = Kept(to_proto.container_attributes)

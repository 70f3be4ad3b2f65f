"""The filters of the list calls: all given conditions must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from minikubelet.base.errors import NodeError, invalid
from minikubelet.cri import to_proto
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.models import Container, Sandbox
from minikubelet.runtime.runtime import Runtime

_T = TypeVar("_T", Sandbox, Container)


def sandboxes(runtime: Runtime, message: api.PodSandboxFilter) -> list[Sandbox]:
    """ListPodSandbox; sandboxes that are still being made are not there yet."""
    found = _by_id(runtime.sandboxes(), message.id, runtime.sandbox)
    if message.HasField("state"):
        wanted = message.state.state
        if wanted not in to_proto.SANDBOX_STATE.values():
            raise invalid("filter.state", f"{wanted} is no value of this enumeration")
        found = [item for item in found if to_proto.SANDBOX_STATE[item.state] == wanted]
    return _by_labels(found, message.label_selector)


def sandboxes_for_stats(runtime: Runtime, message: api.PodSandboxStatsFilter) -> list[Sandbox]:
    """ListPodSandboxStats."""
    return _by_labels(_by_id(runtime.sandboxes(), message.id, runtime.sandbox), message.label_selector)


def containers(runtime: Runtime, message: api.ContainerFilter) -> list[Container]:
    """ListContainers."""
    found = _of_sandbox(runtime, _by_id(runtime.containers(), message.id, runtime.container), message)
    if message.HasField("state"):
        wanted = message.state.state
        if wanted not in to_proto.CONTAINER_STATE.values():
            raise invalid("filter.state", f"{wanted} is no value of this enumeration")
        found = [item for item in found if to_proto.CONTAINER_STATE[item.state] == wanted]
    return _by_labels(found, message.label_selector)


def containers_for_stats(runtime: Runtime, message: api.ContainerStatsFilter) -> list[Container]:
    """ListContainerStats."""
    found = _of_sandbox(runtime, _by_id(runtime.containers(), message.id, runtime.container), message)
    return _by_labels(found, message.label_selector)


def _of_sandbox(
    runtime: Runtime, found: list[Container], message: api.ContainerFilter | api.ContainerStatsFilter
) -> list[Container]:
    if not message.pod_sandbox_id:
        return found
    try:
        sandbox = runtime.sandbox(message.pod_sandbox_id)
    except NodeError:
        return []
    return [item for item in found if item.sandbox is sandbox]


def _by_id(items: Iterable[_T], identifier: str, find: Callable[[str], _T]) -> list[_T]:
    if not identifier:
        return list(items)
    try:
        return [find(identifier)]
    except NodeError:
        return []


def _by_labels(items: Iterable[_T], selector: Mapping[str, str]) -> list[_T]:
    if not selector:
        return list(items)
    wanted = dict(selector).items()
    return [item for item in items if wanted <= item.config.labels.items()]

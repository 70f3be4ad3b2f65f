"""The node as a v1 Node: what it has, what of it pods may have, and how it is (pkg/kubelet/nodestatus)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import minikubelet
from minikubelet.base import clock
from minikubelet.base.errors import NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.affinity import ARCH, node_labels
from minikubelet.kubelet.managers import ResourceManagers
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import quantity
from minikubelet.kubelet.system_info import system_info

Json = dict[str, Any]

_PRESSURE = {
    "MemoryPressure": (
        ("SufficientMemory", "sufficient memory available"),
        ("InsufficientMemory", "insufficient memory available"),
    ),
    "DiskPressure": (("NoDiskPressure", "no disk pressure"), ("DiskPressure", "disk pressure")),
    "PIDPressure": (
        ("SufficientPID", "sufficient PID available"),
        ("InsufficientPID", "insufficient PID available"),
    ),
}
"""By condition what follows "has" in upstream's reason and message: when it is false, and when true."""
_RUNTIME = {
    "RuntimeReady": "container runtime not ready",
    "NetworkReady": "container runtime network not ready",
}
_NOT_SHOWN = ("pid",)
"""Counted by this kubelet, but no resource of a Node."""


class NodeStatus:
    """One kubelet's."""

    def __init__(self, node: Node, managers: ResourceManagers) -> None:
        self._node = node
        self._managers = managers
        self._started = node.clock.now_ns()
        self._ready = True
        self._ready_since = self._started
        """When a look first found it so."""

    async def node(self) -> Json:
        """The v1 Node as of now."""
        config = self._node.config
        reply, problem = await self._ask_runtime()
        info = {**await asyncio.to_thread(system_info), **await self._software()}
        labels = node_labels(config.node_name)
        handlers = reply.runtime_handlers if reply is not None else []
        status = {
            "capacity": _shown({**self._managers.capacity, **self._managers.allocations.room()}),
            "allocatable": _shown({**self._managers.allocatable, **self._managers.allocations.room()}),
            "conditions": [*self._pressure(), self._readiness(problem)],
            "addresses": [
                *({"type": "InternalIP", "address": each} for each in self._node.host_ips),
                {"type": "Hostname", "address": config.node_name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": config.server.port}},
            "nodeInfo": {**info, "architecture": labels[ARCH]},
            "runtimeHandlers": [_handler(each) for each in handlers],
        }
        meta = {"name": config.node_name, "creationTimestamp": _stamp(self._started), "labels": labels}
        return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": status}

    async def _ask_runtime(self) -> tuple[api.StatusResponse | None, str]:
        """Its status, if it answers, and what is wrong with it."""
        if not self._node.lifecycle.synced.is_set():
            return None, "container runtime is down"
        try:
            reply = await self._node.client.status()
        except NodeError as exc:
            return None, f"container runtime status check failed: {exc}"
        wrong = [
            f"{_RUNTIME[each.type]}: {each.type}=false reason:{each.reason} message:{each.message}"
            for each in reply.status.conditions
            if each.type in _RUNTIME and not each.status
        ]
        return reply, ", ".join(wrong)

    async def _software(self) -> Json:
        version = f"v{minikubelet.__version__}"
        runtime = self._node.runtime_name
        if runtime and self._node.lifecycle.synced.is_set():
            try:
                runtime += f"://{(await self._node.client.version()).runtime_version}"
            except NodeError:
                pass  # the condition Ready says so
        return {"containerRuntimeVersion": runtime, "kubeletVersion": version}

    def _pressure(self) -> list[Json]:
        eviction = self._managers.eviction
        found = []
        for kind, words in _PRESSURE.items():
            is_short = eviction is not None and kind in eviction.conditions
            since = eviction.changed.get(kind, self._started) if eviction is not None else self._started
            reason, message = words[is_short]
            found.append(
                self._condition(kind, is_short, f"KubeletHas{reason}", f"kubelet has {message}", since)
            )
        return found

    def _readiness(self, problem: str) -> Json:
        if self._managers.stopping:
            problem = "node is shutting down"
        if self._ready is bool(problem):
            self._ready, self._ready_since = not problem, self._node.clock.now_ns()
        reason = "KubeletNotReady" if problem else "KubeletReady"
        words = problem or "kubelet is posting ready status"
        return self._condition("Ready", not problem, reason, words, self._ready_since)

    def _condition(self, kind: str, value: bool, reason: str, message: str, since: int) -> Json:
        return {
            "type": kind,
            "status": str(value),
            "lastHeartbeatTime": _stamp(self._node.clock.now_ns()),
            "lastTransitionTime": _stamp(since),
            "reason": reason,
            "message": message,
        }


def _shown(amounts: Mapping[str, int]) -> dict[str, str]:
    """Quantities as upstream writes them."""
    return {name: _quantity(name, value) for name, value in amounts.items() if name not in _NOT_SHOWN}


def _quantity(name: str, value: int) -> str:
    if name == "cpu":
        return quantity.canonical(f"{value}m")
    if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-"):
        return quantity.binary(value)
    return str(value)


def _handler(handler: api.RuntimeHandler) -> Json:
    features = handler.features
    shown = {
        "recursiveReadOnlyMounts": features.recursive_read_only_mounts,
        "userNamespaces": features.user_namespaces,
    }
    return {"name": handler.name, "features": shown}


def _stamp(ns: int) -> str:
    """A time as objects have it, to the second."""
    return clock.rfc3339(ns).partition(".")[0] + "Z"

"""A pod as a row of ``get pods``: the columns and the STATUS words of kubectl's printer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from minikubelet.cli import text

Json = dict[str, Any]

HEADERS = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
WIDE_HEADERS = ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]


@dataclass
class _Summary:
    """What the loops over container statuses add up."""

    reason: str
    restarts: int = 0
    sidecar_restarts: int = 0
    last_restart: float = 0.0
    last_sidecar_restart: float = 0.0
    ready: int = 0
    initializing: bool = False


def row(pod: Json, now: float, *, wide: bool = False, namespace: bool = False) -> list[str]:
    """The cells of a pod's row; ``now`` in seconds since the epoch."""
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    summary = _Summary(status.get("reason") or status.get("phase", ""))
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            summary.reason = "SchedulingGated"
    sidecars = {c["name"] for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"}
    _init_containers(summary, spec, status, sidecars)
    if not summary.initializing or _condition(status, "Initialized"):
        _containers(summary, status)
    reason = summary.reason
    if meta.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({text.human_duration(now - summary.last_restart)} ago)"
    total = len(spec.get("containers", [])) + len(sidecars)
    cells = [meta["name"], f"{summary.ready}/{total}", reason, restarts, age_of(pod, now)]
    if wide:
        cells += [status.get("podIP") or "<none>", spec.get("nodeName") or "<none>"]
        cells += [status.get("nominatedNodeName") or "<none>", _gates(spec, status)]
    return [meta.get("namespace", ""), *cells] if namespace else cells


def age_of(pod: Json, now: float) -> str:
    """How long a pod has been there; ``now`` in seconds since the epoch."""
    meta = pod["metadata"]
    # A pod that the node has refused has neither time: kubectl would show when its object was made.
    seen = meta.get("annotations", {}).get("kubernetes.io/config.seen")
    created = meta.get("creationTimestamp") or pod.get("status", {}).get("startTime") or seen
    return text.age(created, now)


def headers(*, wide: bool = False, namespace: bool = False) -> list[str]:
    """The header line of such rows."""
    return (["NAMESPACE"] if namespace else []) + HEADERS + (WIDE_HEADERS if wide else [])


def _gates(spec: Json, status: Json) -> str:
    """How many of a pod's readiness gates are open."""
    gates = [each["conditionType"] for each in spec.get("readinessGates", [])]
    return f"{sum(_condition(status, gate) for gate in gates)}/{len(gates)}" if gates else "<none>"


def _init_containers(summary: _Summary, spec: Json, status: Json, sidecars: set[str]) -> None:
    """Restarts of all init containers; the reason is that of the first which isn't through."""
    total = len(spec.get("initContainers", []))
    for index, container in enumerate(status.get("initContainerStatuses", [])):
        sidecar = container["name"] in sidecars
        restarts, last = container.get("restartCount", 0), _last_end(container)
        summary.restarts += restarts
        summary.last_restart = max(summary.last_restart, last)
        if sidecar:
            summary.sidecar_restarts += restarts
            summary.last_sidecar_restart = max(summary.last_sidecar_restart, last)
        state = container.get("state", {})
        if "terminated" in state and state["terminated"].get("exitCode", 0) == 0:
            continue
        if sidecar and container.get("started"):
            summary.ready += bool(container.get("ready"))
            continue
        waiting = state.get("waiting", {}).get("reason", "")
        if "terminated" in state:
            summary.reason = "Init:" + _ended(state["terminated"])
        elif waiting and waiting != "PodInitializing":
            summary.reason = f"Init:{waiting}"
        else:
            summary.reason = f"Init:{index}/{total}"
        summary.initializing = True
        return


def _containers(summary: _Summary, status: Json) -> None:
    summary.restarts, summary.last_restart = summary.sidecar_restarts, summary.last_sidecar_restart
    running, error = False, ""
    for container in reversed(status.get("containerStatuses", [])):
        summary.restarts += container.get("restartCount", 0)
        summary.last_restart = max(summary.last_restart, _last_end(container))
        state = container.get("state", {})
        if waiting := state.get("waiting", {}).get("reason"):
            summary.reason = waiting
        elif "terminated" in state:
            summary.reason = _ended(state["terminated"])
            if state["terminated"].get("exitCode", 0):
                error = summary.reason
        elif container.get("ready") and "running" in state:
            running = True
            summary.ready += 1
    if summary.reason == "Completed":
        if running and _condition(status, "Ready"):
            summary.reason = "Running"
        elif error:
            summary.reason = error
        elif running:
            summary.reason = "NotReady"


def _ended(terminated: Json) -> str:
    if reason := terminated.get("reason"):
        return str(reason)
    if signal := terminated.get("signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _last_end(container: Json) -> float:
    terminated = container.get("lastState", {}).get("terminated") or {}
    return text.timestamp(terminated.get("finishedAt")) or 0.0


def _condition(status: Json, kind: str) -> bool:
    conditions: Iterable[Json] = status.get("conditions", [])
    return any(each["type"] == kind and each.get("status") == "True" for each in conditions)

"""The node described as kubectl does it: what it has, how it is, and what its pods have asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from minikubelet.cli import text
from minikubelet.cli.describe_parts import head, multiline
from minikubelet.cli.object_rows import roles
from minikubelet.cli.pod_row import age_of
from minikubelet.kubelet.demands import Amounts, pod_limits, pod_requests
from minikubelet.kubelet.objects import Pod, quantity

Json = dict[str, Any]
_INFO = {
    "Machine ID": "machineID",
    "System UUID": "systemUUID",
    "Boot ID": "bootID",
    "Kernel Version": "kernelVersion",
    "OS Image": "osImage",
    "Operating System": "operatingSystem",
    "Architecture": "architecture",
    "Container Runtime Version": "containerRuntimeVersion",
    "Kubelet Version": "kubeletVersion",
}


def lines(node: Json, pods: list[Json], now: float) -> list[str]:
    """Lines with tabs; ``pods`` are all of the node, ``now`` in seconds since the epoch."""
    spec, status = node.get("spec", {}), node.get("status", {})
    name, *notes = head(node, namespaced=False)
    info = status.get("nodeInfo", {})
    return [
        *(name, f"Roles:\t{roles(node)}", *notes),
        f"CreationTimestamp:\t{text.rfc1123(node['metadata'].get('creationTimestamp'))}",
        *multiline("Taints", [_taint(each) for each in spec.get("taints", [])]),
        f"Unschedulable:\t{str(bool(spec.get('unschedulable'))).lower()}",
        *_conditions(status.get("conditions", [])),
        "Addresses:",
        *(f"  {each['type']}:\t{each['address']}" for each in status.get("addresses", [])),
        *_amounts("Capacity", status.get("capacity", {})),
        *_amounts("Allocatable", status.get("allocatable", {})),
        "System Info:",
        *(f"  {title}:\t{info.get(field, '')}" for title, field in _INFO.items()),
        *_resources([pod for pod in pods if _lasts(pod)], status, now),
    ]


def _taint(taint: Json) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def _conditions(conditions: list[Json]) -> Iterator[str]:
    if not conditions:
        return
    yield "Conditions:"
    yield "  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage"
    yield "  ----\t------\t-----------------\t------------------\t------\t-------"
    for each in conditions:
        times = (text.rfc1123(each.get(name)) for name in ("lastHeartbeatTime", "lastTransitionTime"))
        cells = [each["type"], each["status"], *times, each.get("reason", ""), each.get("message", "")]
        yield "  " + " \t".join(cells)


def _amounts(title: str, amounts: dict[str, str]) -> Iterator[str]:
    if amounts:
        yield f"{title}:"
        yield from (f"  {name}:\t{value}" for name, value in sorted(amounts.items()))


def _lasts(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _resources(pods: list[Json], status: Json, now: float) -> Iterator[str]:
    room = _numbers(status.get("allocatable") or status.get("capacity", {}))
    every = [(msgspec.convert(pod, Pod), age_of(pod, now)) for pod in pods]
    yield f"Non-terminated Pods:\t({len(every)} in total)"
    yield "  Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge"
    yield "  ---------\t----\t\t------------\t----------\t---------------\t-------------\t---"
    for pod, age in every:
        both = (pod_requests(pod), pod_limits(pod))
        cells = [_of(amounts, room, name) for name in ("cpu", "memory") for amounts in both]
        meta = pod.metadata
        yield "\t".join([f"  {meta.namespace}", meta.name, "", *cells, age])
    yield "Allocated resources:"
    yield "  (Total limits may be over 100 percent, i.e., overcommitted.)"
    yield "  Resource\tRequests\tLimits"
    yield "  --------\t--------\t------"
    sums = [_sum(each, [pod for pod, _ in every]) for each in (pod_requests, pod_limits)]
    usual = ["cpu", "memory", "ephemeral-storage"]
    huge = sorted(name for name in room if name.startswith("hugepages-"))
    for name in [*usual, *huge]:
        yield "\t".join([f"  {name}", *(_of(amounts, room, name) for amounts in sums)])
    for name in sorted(room.keys() - {*usual, *huge, "pods"}):
        yield "\t".join([f"  {name}", *(str(amounts.get(name, 0)) for amounts in sums)])


def _numbers(amounts: dict[str, str]) -> Amounts:
    return {
        name: quantity.milli(value) if name == "cpu" else quantity.whole(value)
        for name, value in amounts.items()
    }


def _sum(of: Callable[[Pod], Amounts], pods: list[Pod]) -> Amounts:
    total: Amounts = {}
    for pod in pods:
        for name, value in of(pod).items():
            total[name] = total.get(name, 0) + value
    return total


def _of(amounts: Amounts, room: Amounts, name: str) -> str:
    """An amount, and what part of the node's it is."""
    value, most = amounts.get(name, 0), room.get(name, 0)
    if name == "cpu":
        shown = quantity.canonical(f"{value}m")
    else:
        shown = quantity.binary(value) if value % 1024 == 0 else quantity.decimal(value)
    return f"{shown} ({100 * value // most if most else 0}%)"

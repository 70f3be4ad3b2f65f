"""Requests and limits of a pod: QoS class, CPU shares and quota, memory limit, oom_score_adj.

Formulas as in k8s.io/kubernetes pkg/kubelet/{qos,cm,kuberuntime}.
"""

from __future__ import annotations

import functools
import os

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.quantity import milli, whole

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

QUOTA_PERIOD = 100_000
"""Microseconds of a CFS period."""
MIN_QUOTA = 1000
MIN_SHARES = 2
MAX_SHARES = 262_144
_COMPUTE = ("cpu", "memory")


@functools.cache
def node_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@functools.cache
def node_cpus() -> int:
    """Processors of this machine."""
    return os.cpu_count() or 1


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort (pkg/apis/core/v1/helper/qos)."""
    spec = pod.spec
    demands = [container.resources for container in [*spec.init_containers, *spec.containers]]
    if spec.resources is not None and (spec.resources.limits or spec.resources.requests):
        demands = [spec.resources]
    anything = False
    guaranteed = True
    for demand in demands:
        limits = {name: milli(demand.limits[name]) for name in _COMPUTE if name in demand.limits}
        requests = {name: milli(demand.requests[name]) for name in _COMPUTE if name in demand.requests}
        anything = anything or any(limits.values()) or any(requests.values())
        if not all(
            limits.get(name) and requests.get(name, limits[name]) == limits[name] for name in _COMPUTE
        ):
            guaranteed = False
    if not anything:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def shares(milli_cpu: int) -> int:
    """cgroup v1 CPU shares for a request in millicores; runtimes turn them into weights."""
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * 1024 // 1000)) if milli_cpu else MIN_SHARES


def quota(milli_cpu: int) -> int:
    """Microseconds of CPU time a period for a limit in millicores; 0: no limit."""
    return max(MIN_QUOTA, milli_cpu * QUOTA_PERIOD // 1000) if milli_cpu else 0


def oom_score_adj(pod: Pod, container: Container, capacity: int) -> int:
    """-997 for Guaranteed, 1000 for BestEffort, in between by the share of memory requested."""
    if pod.spec.priority_class_name == "system-node-critical":
        return -997
    quality = qos_class(pod)
    if quality == GUARANTEED:
        return -997
    if quality == BEST_EFFORT:
        return 1000
    adjust = 1000 - 1000 * _memory_request(container) // capacity
    if is_sidecar(container) and any(c.name == container.name for c in pod.spec.init_containers):
        smallest = min((_memory_request(each) for each in pod.spec.containers), default=0)
        adjust = min(adjust, 1000 - 1000 * smallest // capacity)
    return max(3, min(adjust, 999))


def _memory_request(container: Container) -> int:
    return whole(container.resources.requests.get("memory", 0))


def linux_resources(pod: Pod, container: Container) -> api.LinuxContainerResources:
    """The CRI resources of a container."""
    requests, limits = container.resources.requests, container.resources.limits
    cpu_request = milli(requests.get("cpu", limits.get("cpu", 0)))
    cpu_quota = quota(milli(limits.get("cpu", 0)))
    return api.LinuxContainerResources(
        cpu_shares=shares(cpu_request),
        cpu_period=QUOTA_PERIOD if cpu_quota else 0,
        cpu_quota=cpu_quota,
        memory_limit_in_bytes=whole(limits.get("memory", 0)),
        oom_score_adj=oom_score_adj(pod, container, node_memory()),
        hugepage_limits=[
            api.HugepageLimit(page_size=_page_size(name), limit=whole(amount))
            for name, amount in limits.items()
            if name.startswith("hugepages-")
        ],
    )


def _page_size(name: str) -> str:
    """``hugepages-2Mi`` names the cgroup file's ``2MB``."""
    return name.removeprefix("hugepages-").removesuffix("i") + "B"


def sandbox_resources(pod: Pod) -> api.LinuxContainerResources:
    """The sum over the pod's containers, as sandboxes carry it for runtimes with VMs."""
    containers = [*pod.spec.containers, *(c for c in pod.spec.init_containers if is_sidecar(c))]
    cpu = sum(milli(each.resources.requests.get("cpu", 0)) for each in containers)
    cpu_limits = [milli(each.resources.limits.get("cpu", 0)) for each in containers]
    memory_limits = [whole(each.resources.limits.get("memory", 0)) for each in containers]
    cpu_quota = quota(sum(cpu_limits)) if all(cpu_limits) else 0
    return api.LinuxContainerResources(
        cpu_shares=shares(cpu),
        cpu_period=QUOTA_PERIOD,
        cpu_quota=cpu_quota,
        memory_limit_in_bytes=sum(memory_limits) if all(memory_limits) else 0,
    )

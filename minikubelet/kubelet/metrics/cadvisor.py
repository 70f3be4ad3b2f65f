"""/metrics/cadvisor: cAdvisor's names from CRI ListPodSandboxMetrics, or else from plain statistics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.labels import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID
from minikubelet.kubelet.metrics.families import Family, gauge
from minikubelet.kubelet.stats import machine

Json = dict[str, Any]
_CPU = "container_cpu_usage_seconds_total"


class Runtime(Protocol):
    """What of the CRI client is used."""

    async def list_metric_descriptors(self) -> list[api.MetricDescriptor]: ...
    async def list_pod_sandbox_metrics(self) -> list[api.PodSandboxMetrics]: ...
    async def list_container_stats(self) -> list[api.ContainerStats]: ...


async def cadvisor_families(runtime: Runtime) -> list[Family]:
    """All families, those of the machine included. Raises NodeError.

    What a runtime doesn't measure for this comes from its statistics of containers: containerd's answer had
    neither CPU nor memory on a host whose controllers are on cgroup v1.
    """
    families: list[Family] = []
    try:
        descriptors = await runtime.list_metric_descriptors()
        families = _of_metrics(descriptors, await runtime.list_pod_sandbox_metrics())
    except NodeError as exc:
        if exc.code is Code.UNAVAILABLE:
            raise
    names = {each.name for each in families}
    if _CPU not in names:
        stats = _of_stats(await runtime.list_container_stats())
        families += [each for each in stats if each.name not in names]
    return [*families, *machine_families(), scrape_error(0)]


def scrape_error(value: int) -> Family:
    """Whether the runtime's containers couldn't be asked."""
    help = "1 if there was an error while getting container metrics, 0 otherwise"
    return gauge("container_scrape_error", help, value)


def machine_families() -> list[Family]:
    """What cAdvisor says of the machine."""
    memory = machine.memory()
    total = memory["availableBytes"] + memory["workingSetBytes"]
    swap = machine.swap()
    cores, sockets = machine.cores_and_sockets()
    who = machine.identity()
    return [
        gauge("machine_cpu_cores", "Number of logical CPU cores.", machine.cpu_count(), **who),
        gauge("machine_cpu_physical_cores", "Number of physical CPU cores.", cores, **who),
        gauge("machine_cpu_sockets", "Number of CPU sockets.", sockets, **who),
        gauge("machine_memory_bytes", "Amount of memory installed on the machine.", total, **who),
        gauge(
            "machine_swap_bytes",
            "Amount of swap memory available on the machine.",
            swap["swapAvailableBytes"] + swap["swapUsageBytes"],
            **who,
        ),
        gauge("machine_scrape_error", "1 if the machine couldn't be asked, 0 otherwise.", 0),
    ]


def _of_metrics(
    descriptors: Iterable[api.MetricDescriptor], measured: Iterable[api.PodSandboxMetrics]
) -> list[Family]:
    known = {each.name: each for each in descriptors}
    made: dict[str, Family] = {}
    seen: set[tuple[str, ...]] = set()
    for pod in measured:
        groups = [pod.metrics, *(container.metrics for container in pod.container_metrics)]
        for metric in (each for group in groups for each in group):
            descriptor = known.get(metric.name)
            if descriptor is None:
                continue
            key = (metric.name, *metric.label_values)
            if key in seen:
                continue  # a series must be unique, whatever a runtime says
            seen.add(key)
            kind = "counter" if metric.metric_type == api.COUNTER else "gauge"
            if (kind == "counter") != metric.name.endswith("_total"):
                kind = "untyped"  # cAdvisor's name breaks Prometheus' rules; the name is what people rely on
            family = made.setdefault(metric.name, Family(metric.name, descriptor.help, kind))
            labels = dict(zip(descriptor.label_keys, metric.label_values, strict=False))
            family.add(metric.value.value, labels, metric.timestamp // 1_000_000)
    return list(made.values())


_STATS = (
    ("cpu_usage_seconds_total", "Cumulative cpu time consumed.", "counter", "cpu", "usage_core_nano_seconds"),
    ("memory_usage_bytes", "Current memory usage.", "gauge", "memory", "usage_bytes"),
    ("memory_working_set_bytes", "Current working set.", "gauge", "memory", "working_set_bytes"),
    ("memory_rss", "Size of RSS.", "gauge", "memory", "rss_bytes"),
    ("memory_swap", "Container swap usage.", "gauge", "swap", "swap_usage_bytes"),
    ("fs_usage_bytes", "Bytes of the writable layer.", "gauge", "writable_layer", "used_bytes"),
    ("fs_inodes_usage", "Inodes of the writable layer.", "gauge", "writable_layer", "inodes_used"),
)


def _of_stats(stats: Iterable[api.ContainerStats]) -> list[Family]:
    families = [Family(f"container_{name}", help, kind) for name, help, kind, _, _ in _STATS]
    for each in stats:
        own = each.attributes.labels
        labels = {
            "id": each.attributes.id,
            "namespace": own.get(POD_NAMESPACE, ""),
            "pod": own.get(POD_NAME, ""),
            "container": own.get(CONTAINER_NAME, "") or each.attributes.metadata.name,
            "pod_uid": own.get(POD_UID, ""),
        }
        for family, (name, _, _, part, field) in zip(families, _STATS, strict=True):
            message = getattr(each, part)
            if each.HasField(part) and message.HasField(field):
                value = getattr(message, field).value
                factor = 1e-9 if name.endswith("seconds_total") else 1
                family.add(value * factor, labels, message.timestamp // 1_000_000)
    return families

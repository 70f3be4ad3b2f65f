"""/metrics and /metrics/probes: the kubelet's counters, and what it knows of pods at the moment."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from minikubelet import __version__
from minikubelet.kubelet.cpumanager.manager import CpuManager
from minikubelet.kubelet.metrics.allocation import resize_families
from minikubelet.kubelet.metrics.families import Family, Histogram, Sample, gauge
from minikubelet.kubelet.metrics.health import HealthRecord
from minikubelet.kubelet.metrics.instruments import Instruments
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.observed import RuntimeCache

ProbeCounts = Mapping[tuple[str, str, str, str], int]
"""Attempts by pod UID, container, kind and result."""

_STATES = ("created", "running", "exited", "unknown")
_ENDED = ("Succeeded", "Failed")
BORN = time.time()
"""When this process began (Unix time)."""


@dataclass
class NodeMetrics:
    """Where the numbers of one kubelet are."""

    node_name: str
    instruments: Instruments
    cache: RuntimeCache
    probe_counts: ProbeCounts
    probe_seconds: Histogram
    health: HealthRecord = field(default_factory=HealthRecord)
    cpus: Callable[[], CpuManager | None] = lambda: None
    pull_records: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """How many pulls are noted as under way, how many images as pulled."""

    def kubelet(self, pods: Sequence[Pod], desired: int) -> list[Family]:
        """What /metrics shows."""
        views = [self.cache.view(uid) for uid in self.cache.uids()]
        running = sum(view.sandbox is not None and view.sandbox.ready for view in views)
        containers = Family("kubelet_running_containers", "Number of containers currently there", "gauge")
        states = dict.fromkeys(_STATES, 0)
        for container in (each for view in views for each in view.containers):
            state = "running" if container.is_running else "exited" if container.has_exited else "created"
            states[state] += 1
        for state, count in states.items():
            containers.add(count, {"container_state": state})
        alive = sum(pod.status.phase not in _ENDED for pod in pods)
        working = Family("kubelet_working_pods", "Number of pods that are worked on.", "gauge")
        for lifecycle, count in _lifecycles(pods).items():
            working.add(count, {"lifecycle": lifecycle, "config": "desired", "static": "true"})
        added = sum(len(pod.spec.ephemeral_containers) for pod in pods)
        last = self.instruments.lifecycle.last_relist_wall
        return [
            gauge("kubelet_node_name", "The node's name. The count is always 1.", 1, node=self.node_name),
            gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox", running),
            containers,
            gauge("kubelet_desired_pods", "Number of pods the node is told to run.", desired, static="true"),
            gauge("kubelet_active_pods", "Number of pods that have not ended.", alive, static="true"),
            working,
            gauge("kubelet_managed_ephemeral_containers", "Number of ephemeral containers.", added),
            gauge("kubelet_cgroup_version", "Version of cgroups on the node.", 2),
            gauge("kubelet_metrics_provider", "Where statistics come from.", 1, provider="cri"),
            gauge("kubelet_pleg_last_seen_seconds", "When the pods were listed last (Unix time).", last),
            *self.instruments.families(),
            *cpu_families(self.cpus()),
            *resize_families(pods),
            *record_families(*self.pull_records()),
            *process_families(),
            gauge("kubernetes_build_info", "What this is; the count is always 1.", 1, **_build()),
        ]

    def probes(self, pods: Iterable[Pod]) -> list[Family]:
        """What /metrics/probes shows."""
        names = {pod.uid: (pod.metadata.name, pod.metadata.namespace) for pod in pods}
        family = Family(
            "prober_probe_total",
            "Cumulative number of a liveness, readiness or startup probe for a container by result.",
            "counter",
        )
        for (uid, container, kind, result), count in list(self.probe_counts.items()):
            name, namespace = names.get(uid, ("", ""))
            labels = {"probe_type": kind, "result": result, "container": container}
            family.add(count, labels | {"pod": name, "namespace": namespace, "pod_uid": uid})
        seconds = self.probe_seconds.family()
        seconds.samples = [_named(sample, names) for sample in seconds.samples]
        return [family, seconds]


def cpu_families(manager: CpuManager | None) -> list[Family]:
    """What the static policy has given out, and what is left of its pool; without it there is none."""
    # A gauge by that name breaks Prometheus' rules; the name is what people rely on.
    given = Family(
        "kubelet_cpu_manager_exclusive_cpu_allocation_count",
        "The number of CPUs that containers have for themselves.",
        "untyped",
    )
    given.add(manager.given if manager is not None else 0)
    left = gauge(
        "kubelet_cpu_manager_shared_pool_size_millicores",
        "The size of the pool of CPUs that are nobody's own.",
        1000 * manager.free if manager is not None else 0,
    )
    return [given, left]


def record_families(pulling: int, pulled: int) -> list[Family]:
    """The files of :class:`PullRecords`."""
    name = "kubelet_imagemanager_ondisk"
    return [
        gauge(f"{name}_pullintents", "Number of pulls that are noted on disk as under way.", pulling),
        gauge(f"{name}_pulledrecords", "Number of images that are noted on disk as pulled.", pulled),
    ]


def _named(sample: Sample, names: Mapping[str, tuple[str, str]]) -> Sample:
    """With the pod's name in place of its UID."""
    labels = dict(sample.labels)
    name, namespace = names.get(labels.pop("pod_uid"), ("", ""))
    return replace(sample, labels={"pod": name, "namespace": namespace} | labels)


def _lifecycles(pods: Iterable[Pod]) -> dict[str, int]:
    """How many pods are kept going, are being ended, have ended."""
    found = dict.fromkeys(("sync", "terminating", "terminated"), 0)
    for pod in pods:
        over = "terminated" if pod.status.phase in _ENDED else "sync"
        found["terminating" if pod.metadata.deletion_timestamp and over == "sync" else over] += 1
    return found


def _build() -> dict[str, str]:
    system = os.uname()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(system.machine, system.machine)
    return {"git_version": f"minikubelet-{__version__}", "platform": f"linux/{machine}"}


def start_time() -> Family:
    """When this process has begun."""
    return gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", BORN)


def process_families() -> list[Family]:
    """The usual process_ metrics."""
    with open("/proc/self/statm", "rb") as file:
        pages = [int(each) for each in file.read().split()]
    page = os.sysconf("SC_PAGESIZE")
    times = os.times()
    cpu = Family("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "counter")
    cpu.add(times.user + times.system)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    largest, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [
        cpu,
        gauge("process_resident_memory_bytes", "Resident memory size in bytes.", pages[1] * page),
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", pages[0] * page),
        gauge(
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            -1 if largest == resource.RLIM_INFINITY else largest,
        ),
        *_network_families(),
        gauge("process_open_fds", "Number of open file descriptors.", len(os.listdir("/proc/self/fd"))),
        gauge("process_max_fds", "Maximum number of open file descriptors.", soft),
        start_time(),
    ]


def _network_families() -> list[Family]:
    """What the kernel counts for the process's network namespace (proc_pid_net(5), netstat)."""
    with open("/proc/self/net/netstat", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("IpExt:")]
    known = dict(zip(*lines, strict=False)) if len(lines) == 2 else {}
    found = []
    for name, words, key in (
        ("receive", "received by the process over the network", "InOctets"),
        ("transmit", "sent by the process over the network", "OutOctets"),
    ):
        family = Family(f"process_network_{name}_bytes_total", f"Number of bytes {words}.", "counter")
        family.add(float(known.get(key, 0)))
        found.append(family)
    return found

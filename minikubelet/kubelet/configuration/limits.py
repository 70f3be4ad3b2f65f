"""What no type can say of the settings for a node's resources; all that is wrong is told at once.

The rules are those that make upstream's kubelet refuse to start (pkg/kubelet/apis/config/validation, and the
parsers of thresholds, CPU lists and reserved amounts). Settings without effect here are not judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from minikubelet.kubelet.allocatable import parse_cpus, threshold
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.cpumanager.manager import FULL_CORES, STRICT
from minikubelet.kubelet.eviction.thresholds import SIGNALS
from minikubelet.kubelet.image_match import without_tag
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.pull_records import ALLOWED, POLICIES
from minikubelet.kubelet.resource_config import (
    CgroupConfig,
    DeviceConfig,
    EvictionConfig,
    GarbageConfig,
    ReservedConfig,
    ShutdownConfig,
)

CPU_OPTIONS = (FULL_CORES, STRICT)
_OTHER_CPU_OPTIONS = (
    "distribute-cpus-across-numa",
    "align-by-socket",
    "distribute-cpus-across-cores",
    "prefer-align-cpus-by-uncorecache",
)
RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
_ENFORCEABLE = (
    "pods",
    "system-reserved",
    "system-reserved-compressible",
    "kube-reserved",
    "kube-reserved-compressible",
    "none",
)
Problem = tuple[str, str]
"""The field's path, and what is wrong with it."""


def problems(config: KubeletConfig) -> list[Problem]:
    """Everything that is out of bounds, in the table's order."""
    resources = config.resources
    return [
        *_log_folder(config.log_dir),
        *_ids_per_pod(config.ids_per_pod),
        *_runtime(config),
        *_cgroups(resources.cgroups),
        *_reserved(resources.reserved),
        *_daemons(resources.reserved, resources.cgroups.enforce_node_allocatable),
        *_one_of("cpuManagerPolicy", resources.devices.cpu_manager_policy, ("none", "static")),
        *_cpu_options(resources.devices),
        *_eviction(resources.eviction),
        *_garbage(resources.garbage),
        *_shutdown(resources.shutdown),
    ]


def _one_of(path: str, value: str, known: Sequence[str]) -> Iterator[Problem]:
    if value not in known:
        yield path, f"{value!r} is none of {', '.join(known)}"


def _between(path: str, value: float, least: float, most: float) -> Iterator[Problem]:
    if not least <= value <= most:
        yield path, f"{value} is not between {least} and {most}"


def _amount(path: str, value: Quantity) -> Iterator[Problem]:
    try:
        if parse(value) < 0:
            yield path, f"{value!r} must not be negative"
    except ValueError as exc:
        yield path, str(exc)


def _log_folder(folder: str) -> Iterator[Problem]:
    if not os.path.isabs(folder) or os.path.normpath(folder) != folder or not folder.isascii():
        yield "podLogsDir", f"{folder!r} is not an absolute, normalized path in ASCII"


def _runtime(config: KubeletConfig) -> Iterator[Problem]:
    if config.runtime_request_timeout <= 0:
        yield "runtimeRequestTimeout", "must be more than 0s"
    at_once = config.max_parallel_pulls
    if at_once < 0:
        yield "maxParallelImagePulls", "must be a positive number"
    if config.serialize_pulls and at_once > 1:
        yield "maxParallelImagePulls", "cannot be larger than 1 with serializeImagePulls"
    policy, path = config.pull_verification, "preloadedImagesVerificationAllowlist"
    yield from _one_of("imagePullCredentialsVerificationPolicy", policy, POLICIES)
    if config.pull_allowlist and policy != ALLOWED:
        yield path, f"needs imagePullCredentialsVerificationPolicy {ALLOWED}"
    for each in config.pull_allowlist:
        bare = each.removesuffix("/*")
        if not bare or "*" in bare or each != each.strip():
            yield path, f"{each!r} is neither an image's name nor the beginning of one with /* after it"
        elif bare == each and without_tag(each) != each:
            yield path, f"{each!r}: neither tag nor digest is accepted"


def _ids_per_pod(count: int) -> Iterator[Problem]:
    if count <= 0 or count % 65536 or count >= 1 << 32:
        yield "userNamespaces.idsPerPod", f"{count} is not a multiple of 65536 that fits in 32 bits"


def _cgroups(config: CgroupConfig) -> Iterator[Problem]:
    if not 0.001 <= config.cpu_cfs_quota_period <= 1:
        yield "cpuCFSQuotaPeriod", "must be between 1ms and 1s"
    yield from _one_of("memorySwap.swapBehavior", config.swap_behavior, ("NoSwap", "LimitedSwap"))
    policies = ("None", "TieredReservation")
    yield from _one_of("memoryReservationPolicy", config.memory_reservation_policy, policies)
    if config.memory_reservation_policy == "TieredReservation" and not config.memory_qos:
        yield "memoryReservationPolicy", "TieredReservation needs the feature gate MemoryQoS"
    for name, percent in config.qos_reserved.items():
        yield from _one_of("qosReserved", name, ("memory",))
        if not 0 <= percent <= 100:
            yield f"qosReserved.{name}", "is not a percentage from 0% to 100%"
    if not 0 < config.memory_throttling_factor <= 1:
        yield "memoryThrottlingFactor", "must be greater than 0 and at most 1"
    wanted = config.enforce_node_allocatable
    for each in wanted:
        yield from _one_of("enforceNodeAllocatable", each, _ENFORCEABLE)
    if len(set(wanted)) < len(wanted) or ("none" in wanted and len(wanted) > 1):
        yield "enforceNodeAllocatable", "names something twice, or something beside none"


def _daemons(reserved: ReservedConfig, wanted: Sequence[str]) -> Iterator[Problem]:
    cgroups = (("system", reserved.system_reserved_cgroup), ("kube", reserved.kube_reserved_cgroup))
    for kind, cgroup in cgroups:
        words = {f"{kind}-reserved", f"{kind}-reserved-compressible"}
        if words <= set(wanted):
            yield "enforceNodeAllocatable", f"{' and '.join(sorted(words))} exclude each other"
        if words & set(wanted) and not cgroup:
            yield f"{kind}ReservedCgroup", f"must be said with {kind}-reserved in enforceNodeAllocatable"
        if cgroup and reserved.reserved_system_cpus:
            yield f"{kind}ReservedCgroup", "can't be used with reservedSystemCPUs"


def _reserved(config: ReservedConfig) -> Iterator[Problem]:
    for path, amounts in (
        ("systemReserved", config.system_reserved),
        ("kubeReserved", config.kube_reserved),
    ):
        for name, amount in amounts.items():
            yield from _one_of(path, name, RESERVABLE)
            yield from _amount(f"{path}.{name}", amount)
    if config.reserved_system_cpus:
        try:
            parse_cpus(config.reserved_system_cpus)
        except ValueError:
            yield "reservedSystemCPUs", f"{config.reserved_system_cpus!r} is no list of CPUs like 0-1,4"
    for path, count in (("maxPods", config.max_pods), ("podsPerCore", config.pods_per_core)):
        if count < 0:
            yield path, "must not be negative"


def _cpu_options(config: DeviceConfig) -> Iterator[Problem]:
    path = "cpuManagerPolicyOptions"
    for name, wanted in config.cpu_manager_policy_options.items():
        yield from _one_of(path, name, (*CPU_OPTIONS, *_OTHER_CPU_OPTIONS))
        if wanted and name in _OTHER_CPU_OPTIONS:
            yield f"{path}.{name}", "not implemented"
    if config.cpu_manager_policy_options and config.cpu_manager_policy == "none":
        yield path, "cpuManagerPolicy none takes no options"


def _eviction(config: EvictionConfig) -> Iterator[Problem]:
    for path, amounts in (
        ("evictionHard", config.hard),
        ("evictionSoft", config.soft),
        ("evictionMinimumReclaim", config.minimum_reclaim),
    ):
        for signal, text in amounts.items():
            yield from _one_of(path, signal, tuple(SIGNALS))
            try:
                amount = threshold(text, 100)
            except ValueError:
                amount = -1
            if amount < 0:
                yield f"{path}.{signal}", f"{text!r} is neither a quantity nor a percentage"
            elif not amount and not text.endswith("%") and amounts is not config.minimum_reclaim:
                yield f"{path}.{signal}", f"{text!r} must be positive; 0% turns the threshold off"
    for signal, seconds in config.soft_grace_period.items():
        yield from _one_of("evictionSoftGracePeriod", signal, tuple(SIGNALS))
        if seconds < 0:
            yield f"evictionSoftGracePeriod.{signal}", "must not be negative"
    for signal in config.soft.keys() - config.soft_grace_period.keys():
        yield f"evictionSoft.{signal}", "needs an evictionSoftGracePeriod"


def _garbage(config: GarbageConfig) -> Iterator[Problem]:
    high, low = config.image_high_threshold, config.image_low_threshold
    yield from _between("imageGCHighThresholdPercent", high, 0, 100)
    yield from _between("imageGCLowThresholdPercent", low, 0, 100)
    if low >= high:
        yield "imageGCLowThresholdPercent", f"{low} must be less than imageGCHighThresholdPercent, {high}"
    youngest, oldest = config.image_minimum_age, config.image_maximum_age
    if youngest < 0:
        yield "imageMinimumGCAge", "must not be negative"
    if oldest < 0 or 0 < oldest <= youngest:
        yield "imageMaximumGCAge", "must be 0s, or greater than imageMinimumGCAge"
    yield from _amount("containerLogMaxSize", config.log_max_size)
    if config.log_max_files < 2:
        yield "containerLogMaxFiles", "must be greater than 1"
    if config.log_monitor_interval < 3:
        yield "containerLogMonitorInterval", "must be at least 3s"


def _shutdown(config: ShutdownConfig) -> Iterator[Problem]:
    for path, seconds in (
        ("shutdownGracePeriod", config.grace_period),
        ("shutdownGracePeriodCriticalPods", config.grace_period_critical_pods),
    ):
        if seconds < 0 or 0 < seconds < 1:
            yield path, "must be 0s, or at least 1s"
    if config.grace_period_critical_pods > config.grace_period:
        yield "shutdownGracePeriodCriticalPods", "must not be longer than shutdownGracePeriod"
    if config.by_priority and config.grace_period > 0:
        yield "shutdownGracePeriodByPodPriority", "excludes shutdownGracePeriod"

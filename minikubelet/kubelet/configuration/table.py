"""Every field of KubeletConfiguration v1beta1 in one table: type, default, flag, and what becomes of it.

The one place to extend: a row with ``to`` sets that (dotted) attribute of :class:`KubeletConfig`; a row
without is accepted without effect, with the reason in ``note``, or refused. Fields, types and defaults are
those of k8s.io/kubelet v0.36 ``config/v1beta1/types.go`` and its defaulting; the note says where one differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minikubelet.kubelet.configuration.kinds import (
    BOOL,
    BOOL_MAP,
    DURATION,
    FLOAT,
    GRACE_PERIODS,
    INT,
    INTS,
    MAP,
    MULTIMAP,
    OBJECT,
    OBJECTS,
    STRING,
    STRINGS,
    TAINTS,
    THRESHOLDS,
    Kind,
)


@dataclass(frozen=True)
class Field:
    """One field."""

    path: str
    """JSON names joined with dots."""
    kind: Kind
    default: Any = None
    """As a file would say it; None: unset."""
    flag: str = ""
    to: str = ""
    """Attribute of KubeletConfig."""
    note: str = ""
    """Why it has no effect, or what is special."""
    only: tuple[Any, ...] = ()
    """The only values that are not refused; the note says why."""
    plain: Callable[[Any], Any] | None = None
    """Turns a checked value into the attribute's, where the kind's own way isn't right."""

    @property
    def support(self) -> str:
        """``supported``, ``no effect`` or ``refused`` (all values but ``only``)."""
        if self.to:
            return "supported"
        return "refused" if self.only else "no effect"


NO_API = "needs an API server, which this kubelet doesn't talk to"
_NODE = "there is no Node object without an API server"
_LATER = "not implemented"
_RUNTIME = "the runtime's business"


def _by_priority(value: list[dict[str, Any]]) -> dict[int, float]:
    """Whole numbers, 0 where nothing is said. Raises ValueError."""
    found: dict[int, float] = {}
    for index, each in enumerate(value):
        numbers = dict.fromkeys(("priority", "shutdownGracePeriodSeconds"), 0)
        for key, number in each.items():
            if key not in numbers:
                raise ValueError(f"[{index}].{key}: unknown field")
            if number is not None and type(number) is not int:
                raise ValueError(f"[{index}].{key}: expected a whole number, got {number!r}")
            numbers[key] = number or 0
        found[numbers["priority"]] = float(numbers["shutdownGracePeriodSeconds"])
    return found


_TRUTHS = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_TRUTHS |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)
"""What Go's strconv.ParseBool takes."""


def _truths(value: dict[str, str]) -> dict[str, bool]:
    """Raises ValueError."""
    for name, word in value.items():
        if word not in _TRUTHS:
            raise ValueError(f"{name}: {word!r} is neither true nor false")
    return {name: _TRUTHS[word] for name, word in value.items()}


def _percentages(value: dict[str, str]) -> dict[str, int]:
    """What isn't one is -1, which :mod:`minikubelet.kubelet.configuration.limits` refuses."""
    fine = re.compile(r"[0-9]{1,9}%")
    return {name: int(text[:-1]) if fine.fullmatch(text) else -1 for name, text in value.items()}


def _domain(value: str) -> str:
    return value or "cluster.local"


_SERVER = [
    Field("enableServer", BOOL, True, "enable-server", "server.enabled"),
    Field("address", STRING, "0.0.0.0", "address", "server.address"),
    Field("port", INT, 10250, "port", "server.port"),
    Field("readOnlyPort", INT, 0, "read-only-port", "server.read_only_port"),
    Field("tlsCertFile", STRING, "", "tls-cert-file", "server.tls_cert_file"),
    Field("tlsPrivateKeyFile", STRING, "", "tls-private-key-file", "server.tls_private_key_file"),
    Field(
        "tlsCipherSuites",
        STRINGS,
        None,
        "tls-cipher-suites",
        "server.tls_cipher_suites",
        "TLS 1.2; IANA or OpenSSL names",
    ),
    Field("tlsCurvePreferences", INTS, note="OpenSSL's order of curves"),
    Field(
        "tlsMinVersion",
        STRING,
        "",
        "tls-min-version",
        "server.tls_min_version",
        "VersionTLS12 or VersionTLS13",
    ),
    Field("rotateCertificates", BOOL, False, "rotate-certificates", note=NO_API, only=(False,)),
    Field("serverTLSBootstrap", BOOL, False, "rotate-server-certificates", note=NO_API, only=(False,)),
    Field("authentication.x509.clientCAFile", STRING, "", "client-ca-file", "server.client_ca_file"),
    Field(
        "authentication.webhook.enabled",
        BOOL,
        False,
        "authentication-token-webhook",
        note=f"{NO_API} (upstream's default is true)",
        only=(False,),
    ),
    Field(
        "authentication.webhook.cacheTTL",
        DURATION,
        "2m0s",
        "authentication-token-webhook-cache-ttl",
        note=NO_API,
    ),
    Field(
        "authentication.anonymous.enabled",
        BOOL,
        False,
        "anonymous-auth",
        "server.anonymous",
        "who doesn't say who they are may read /healthz and /metrics, nothing else",
    ),
    Field(
        "authorization.mode",
        STRING,
        "AlwaysAllow",
        "authorization-mode",
        note=f"Webhook {NO_API} (upstream's default is Webhook)",
        only=("AlwaysAllow",),
    ),
    Field(
        "authorization.webhook.cacheAuthorizedTTL",
        DURATION,
        "5m0s",
        "authorization-webhook-cache-authorized-ttl",
        note=NO_API,
    ),
    Field(
        "authorization.webhook.cacheUnauthorizedTTL",
        DURATION,
        "30s",
        "authorization-webhook-cache-unauthorized-ttl",
        note=NO_API,
    ),
    Field("enableDebuggingHandlers", BOOL, True, "enable-debugging-handlers", "server.debugging_handlers"),
    Field("enableContentionProfiling", BOOL, False, "contention-profiling", note="Go's profiler"),
    Field("enableProfilingHandler", BOOL, True, note="Go's profiler"),
    Field(
        "enableDebugFlagsHandler",
        BOOL,
        True,
        to="server.debug_flags_handler",
        note="levels from 4 on are debug, those below info",
    ),
    Field("enableSystemLogHandler", BOOL, True, to="server.system_log_handler"),
    Field("enableSystemLogQuery", BOOL, False, to="server.system_log_query"),
    Field("healthzPort", INT, 10248, "healthz-port", "server.healthz_port"),
    Field("healthzBindAddress", STRING, "127.0.0.1", "healthz-bind-address", "server.healthz_bind_address"),
    Field(
        "streamingConnectionIdleTimeout",
        DURATION,
        "4h0m0s",
        "streaming-connection-idle-timeout",
        "server.streaming_idle_timeout",
    ),
]

_SOURCES = [
    Field(
        "staticPodPath",
        STRING,
        "",
        "pod-manifest-path",
        "manifests",
        "default /etc/minikubelet/manifests (upstream: none)",
    ),
    Field("staticPodURL", STRING, "", "manifest-url", "static_pod_url"),
    Field("staticPodURLHeader", MULTIMAP, None, "manifest-url-header", "static_pod_url_header"),
    Field(
        "fileCheckFrequency",
        DURATION,
        "20s",
        "file-check-frequency",
        "file_check_frequency",
        "beside inotify, which sees changes at once",
    ),
    Field("httpCheckFrequency", DURATION, "20s", "http-check-frequency", "http_check_frequency"),
    Field("syncFrequency", DURATION, "1m0s", "sync-frequency", note="workers wake by events"),
    Field("runOnce", BOOL, False, "runonce", note="removed upstream", only=(False,)),
    Field("podLogsDir", STRING, "/var/log/pods", to="log_dir"),
]

_NETWORK = [
    Field("clusterDomain", STRING, "", "cluster-domain", "cluster_domain", plain=_domain),
    Field("clusterDNS", STRINGS, None, "cluster-dns", "cluster_dns"),
    Field("resolvConf", STRING, "/etc/resolv.conf", "resolv-conf", "resolv_conf"),
    Field("hairpinMode", STRING, "promiscuous-bridge", "hairpin-mode", note=_RUNTIME),
    Field("podCIDR", STRING, "", "pod-cidr", note=_RUNTIME),
    Field("makeIPTablesUtilChains", BOOL, True, "make-iptables-util-chains", note="no iptables here"),
    Field("iptablesMasqueradeBit", INT, 14, note="no iptables here"),
    Field("iptablesDropBit", INT, 15, note="no iptables here"),
]

_RESERVED = "resources.reserved."
_CGROUPS = "resources.cgroups."
_DEVICES = "resources.devices."
_EVICTION = "resources.eviction."
_GARBAGE = "resources.garbage."

_RESOURCES = [
    Field("kubeletCgroups", STRING, "", "kubelet-cgroups", note="the service manager's business"),
    Field("systemCgroups", STRING, "", "system-cgroups", note="the service manager's business"),
    Field(
        "cgroupRoot", STRING, "", "cgroup-root", f"{_CGROUPS}cgroup_root", plain=lambda value: value or "/"
    ),
    Field("cgroupsPerQOS", BOOL, True, "cgroups-per-qos", f"{_CGROUPS}cgroups_per_qos"),
    Field("cgroupDriver", STRING, "cgroupfs", "cgroup-driver", note=_RUNTIME),
    Field("cpuManagerPolicy", STRING, "none", "cpu-manager-policy", f"{_DEVICES}cpu_manager_policy"),
    Field(
        "cpuManagerPolicyOptions",
        MAP,
        None,
        "cpu-manager-policy-options",
        f"{_DEVICES}cpu_manager_policy_options",
        "full-pcpus-only and strict-cpu-reservation; the others can't be true",
        plain=_truths,
    ),
    Field(
        "cpuManagerReconcilePeriod",
        DURATION,
        "10s",
        "cpu-manager-reconcile-period",
        f"{_DEVICES}cpu_manager_reconcile_period",
    ),
    Field("memoryManagerPolicy", STRING, "None", "memory-manager-policy", note=_LATER, only=("None",)),
    Field("topologyManagerPolicy", STRING, "none", "topology-manager-policy", note=_LATER, only=("none",)),
    Field("topologyManagerScope", STRING, "container", "topology-manager-scope", note=_LATER),
    Field("topologyManagerPolicyOptions", MAP, None, "topology-manager-policy-options", note=_LATER),
    Field(
        "qosReserved",
        MAP,
        None,
        "qos-reserved",
        f"{_CGROUPS}qos_reserved",
        "memory; no feature gate is needed",
        plain=_percentages,
    ),
    Field("maxPods", INT, 110, "max-pods", f"{_RESERVED}max_pods"),
    Field("podsPerCore", INT, 0, "pods-per-core", f"{_RESERVED}pods_per_core"),
    Field("podPidsLimit", INT, -1, "pod-max-pids", f"{_CGROUPS}pod_pids_limit"),
    Field("cpuCFSQuota", BOOL, True, "cpu-cfs-quota", f"{_CGROUPS}cpu_cfs_quota"),
    Field("cpuCFSQuotaPeriod", DURATION, "100ms", "cpu-cfs-quota-period", f"{_CGROUPS}cpu_cfs_quota_period"),
    Field("systemReserved", MAP, None, "system-reserved", f"{_RESERVED}system_reserved"),
    Field("kubeReserved", MAP, None, "kube-reserved", f"{_RESERVED}kube_reserved"),
    Field("reservedSystemCPUs", STRING, "", "reserved-cpus", f"{_RESERVED}reserved_system_cpus"),
    Field(
        "systemReservedCgroup",
        STRING,
        "",
        "system-reserved-cgroup",
        f"{_RESERVED}system_reserved_cgroup",
    ),
    Field("kubeReservedCgroup", STRING, "", "kube-reserved-cgroup", f"{_RESERVED}kube_reserved_cgroup"),
    Field(
        "enforceNodeAllocatable",
        STRINGS,
        ["pods"],
        "enforce-node-allocatable",
        f"{_CGROUPS}enforce_node_allocatable",
    ),
    Field("reservedMemory", OBJECTS, note=_LATER),
    Field("memoryThrottlingFactor", FLOAT, 0.9, to=f"{_CGROUPS}memory_throttling_factor"),
    Field("memoryReservationPolicy", STRING, "None", to=f"{_CGROUPS}memory_reservation_policy"),
    Field("singleProcessOOMKill", BOOL, False, to=f"{_CGROUPS}single_process_oom_kill"),
    Field(
        "memorySwap.swapBehavior", STRING, "", to=f"{_CGROUPS}swap_behavior", plain=lambda v: v or "NoSwap"
    ),
    Field("failSwapOn", BOOL, True, "fail-swap-on", note="swap is no reason not to start"),
    Field("failCgroupV1", BOOL, True, "fail-cgroupv1", note="what a host lacks is told by minikubelet check"),
    Field("oomScoreAdj", INT, -999, "oom-score-adj", note="the service manager's business"),
    Field("maxOpenFiles", INT, 1000000, "max-open-files", note="the soft limit is raised to the hard one"),
    Field("kernelMemcgNotification", BOOL, False, "kernel-memcg-notification", note=_LATER),
    Field(
        "protectKernelDefaults",
        BOOL,
        False,
        "protect-kernel-defaults",
        "protect_kernel_defaults",
        "nothing is ever changed in the kernel's settings",
    ),
    Field("seccompDefault", BOOL, False, "seccomp-default", "seccomp_default"),
    Field("allowedUnsafeSysctls", STRINGS, None, "allowed-unsafe-sysctls", "allowed_unsafe_sysctls"),
    Field("userNamespaces.idsPerPod", INT, 65536, to="ids_per_pod"),
]

_EVICTIONS = [
    Field("evictionHard", THRESHOLDS, None, "eviction-hard", f"{_EVICTION}hard"),
    Field("evictionSoft", THRESHOLDS, None, "eviction-soft", f"{_EVICTION}soft"),
    Field(
        "evictionSoftGracePeriod",
        GRACE_PERIODS,
        None,
        "eviction-soft-grace-period",
        f"{_EVICTION}soft_grace_period",
    ),
    Field(
        "evictionPressureTransitionPeriod",
        DURATION,
        "5m0s",
        "eviction-pressure-transition-period",
        f"{_EVICTION}pressure_transition_period",
    ),
    Field(
        "evictionMaxPodGracePeriod",
        INT,
        0,
        "eviction-max-pod-grace-period",
        f"{_EVICTION}max_pod_grace_period",
    ),
    Field("evictionMinimumReclaim", MAP, None, "eviction-minimum-reclaim", f"{_EVICTION}minimum_reclaim"),
    Field("mergeDefaultEvictionSettings", BOOL, False, note="carried out when the thresholds are read"),
    Field(
        "localStorageCapacityIsolation",
        BOOL,
        True,
        "local-storage-capacity-isolation",
        f"{_EVICTION}local_storage_capacity_isolation",
    ),
    Field("volumeStatsAggPeriod", DURATION, "1m0s", "volume-stats-agg-period", "volume_stats_period"),
    Field(
        "imageMinimumGCAge", DURATION, "2m0s", "minimum-image-ttl-duration", f"{_GARBAGE}image_minimum_age"
    ),
    Field("imageMaximumGCAge", DURATION, "0s", to=f"{_GARBAGE}image_maximum_age"),
    Field(
        "imageGCHighThresholdPercent", INT, 85, "image-gc-high-threshold", f"{_GARBAGE}image_high_threshold"
    ),
    Field("imageGCLowThresholdPercent", INT, 80, "image-gc-low-threshold", f"{_GARBAGE}image_low_threshold"),
    Field("containerLogMaxSize", STRING, "10Mi", "container-log-max-size", f"{_GARBAGE}log_max_size"),
    Field("containerLogMaxFiles", INT, 5, "container-log-max-files", f"{_GARBAGE}log_max_files"),
    Field("containerLogMaxWorkers", INT, 1, note="rotation doesn't wait for anything"),
    Field("containerLogMonitorInterval", DURATION, "10s", to=f"{_GARBAGE}log_monitor_interval"),
]

_SHUTDOWN = [
    Field("shutdownGracePeriod", DURATION, "0s", to="resources.shutdown.grace_period"),
    Field(
        "shutdownGracePeriodCriticalPods", DURATION, "0s", to="resources.shutdown.grace_period_critical_pods"
    ),
    Field(
        "shutdownGracePeriodByPodPriority", OBJECTS, to="resources.shutdown.by_priority", plain=_by_priority
    ),
    Field("crashLoopBackOff.maxContainerRestartPeriod", DURATION, "5m0s", to="backoff_max"),
]

_RUNTIME_CALLS = [
    Field("containerRuntimeEndpoint", STRING, "", "container-runtime-endpoint", "container_runtime_endpoint"),
    Field("imageServiceEndpoint", STRING, "", "image-service-endpoint", "image_service_endpoint"),
    Field("runtimeRequestTimeout", DURATION, "2m0s", "runtime-request-timeout", "runtime_request_timeout"),
    Field("registryPullQPS", INT, 5, "registry-qps", note="there is no rate limit"),
    Field("registryBurst", INT, 10, "registry-burst", note="see registryPullQPS"),
    Field(
        "serializeImagePulls",
        BOOL,
        False,
        "serialize-image-pulls",
        "serialize_pulls",
        "upstream's default is true",
    ),
    Field("maxParallelImagePulls", INT, None, to="max_parallel_pulls"),
    Field(
        "imagePullCredentialsVerificationPolicy",
        STRING,
        "NeverVerifyPreloadedImages",
        to="pull_verification",
    ),
    Field("preloadedImagesVerificationAllowlist", STRINGS, to="pull_allowlist"),
    Field("volumePluginDir", STRING, "", "volume-plugin-dir", note="FlexVolume is not supported"),
    Field("configMapAndSecretChangeDetectionStrategy", STRING, "Watch", note="files are watched"),
]

_API = [
    Field("eventRecordQPS", INT, 50, "event-qps", note=NO_API),
    Field("eventBurst", INT, 100, "event-burst", note=NO_API),
    Field("nodeStatusUpdateFrequency", DURATION, "10s", "node-status-update-frequency", note=_NODE),
    Field("nodeStatusReportFrequency", DURATION, "5m0s", note=_NODE),
    Field("nodeLeaseDurationSeconds", INT, 40, note=_NODE),
    Field("nodeStatusMaxImages", INT, 50, "node-status-max-images", note=_NODE),
    Field("contentType", STRING, "application/vnd.kubernetes.protobuf", "kube-api-content-type", note=NO_API),
    Field("kubeAPIQPS", INT, 50, "kube-api-qps", note=NO_API),
    Field("kubeAPIBurst", INT, 100, "kube-api-burst", note=NO_API),
    Field("enableControllerAttachDetach", BOOL, True, "enable-controller-attach-detach", note=NO_API),
    Field("providerID", STRING, "", "provider-id", note=_NODE),
    Field("registerWithTaints", TAINTS, None, "register-with-taints", note=_NODE),
    Field("registerNode", BOOL, True, "register-node", note=_NODE),
    Field("showHiddenMetricsForVersion", STRING, "", note="there are no hidden metrics"),
    Field("featureGates", BOOL_MAP, None, "feature-gates", note="only MemoryQoS does something"),
    Field("logging", OBJECT, note="--log-level sets what is logged"),
    Field("tracing", OBJECT, note=_LATER),
]

FIELDS: tuple[Field, ...] = (
    *_SERVER,
    *_SOURCES,
    *_NETWORK,
    *_RESOURCES,
    *_EVICTIONS,
    *_SHUTDOWN,
    *_RUNTIME_CALLS,
    *_API,
)
BY_PATH: dict[str, Field] = {field.path: field for field in FIELDS}
BY_FLAG: dict[str, Field] = {field.flag: field for field in FIELDS if field.flag}
PARENTS: frozenset[str] = frozenset(
    field.path[:end] for field in FIELDS for end in range(len(field.path)) if field.path[end] == "."
)
"""Paths that hold other fields."""

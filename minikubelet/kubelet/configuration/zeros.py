"""What a file says by saying nothing: kubeadm writes ``0s`` or ``""`` into fields, and means the default."""

from __future__ import annotations

from typing import Any

from minikubelet.kubelet.configuration.kinds import seconds
from minikubelet.kubelet.configuration.table import BY_PATH

UNSET = frozenset(
    (
        *("syncFrequency", "fileCheckFrequency", "httpCheckFrequency", "address"),
        *("authentication.webhook.cacheTTL", "authorization.mode"),
        *("authorization.webhook.cacheAuthorizedTTL", "authorization.webhook.cacheUnauthorizedTTL"),
        *("registryBurst", "eventBurst", "healthzBindAddress", "streamingConnectionIdleTimeout"),
        *("nodeStatusReportFrequency", "nodeStatusUpdateFrequency", "nodeLeaseDurationSeconds"),
        *("imageMinimumGCAge", "volumeStatsAggPeriod", "cgroupDriver", "cpuManagerPolicy"),
        *("cpuManagerReconcilePeriod", "memoryManagerPolicy", "topologyManagerPolicy"),
        *("topologyManagerScope", "runtimeRequestTimeout", "hairpinMode", "maxPods", "maxOpenFiles"),
        *("contentType", "kubeAPIBurst", "evictionPressureTransitionPeriod", "containerLogMaxSize"),
        *("configMapAndSecretChangeDetectionStrategy", "volumePluginDir", "memoryReservationPolicy"),
        *("containerRuntimeEndpoint", "podLogsDir", "imagePullCredentialsVerificationPolicy"),
    )
)
"""Fields whose zero stands for the default (upstream's config/v1beta1/defaults.go). ``port`` is none of
them: 0 is no port here."""


def is_unset(path: str, value: Any) -> bool:
    """Whether a file's value of a field is no value."""
    if path not in UNSET:
        return False
    return seconds(value) == 0 if BY_PATH[path].kind.name == "duration" else value in ("", 0)

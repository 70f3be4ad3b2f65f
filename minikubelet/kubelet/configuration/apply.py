"""Settings carried over to :class:`KubeletConfig`: what is supported is set, all else is named."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.kubelet import sysctls
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.configuration.document import API_VERSION, KIND, Settings
from minikubelet.kubelet.configuration.kinds import go_duration, seconds
from minikubelet.kubelet.configuration.table import BY_PATH, FIELDS, Field
from minikubelet.kubelet.resource_config import DEFAULT_EVICTION_HARD

HIDDEN = "<hidden>"


@dataclass
class Outcome:
    """What came of applying settings."""

    warnings: list[str] = field(default_factory=list)
    """One line a field that is known but does nothing here."""


def apply(settings: Settings, config: KubeletConfig) -> Outcome:
    """Set ``config`` in place, and its ``effective`` for /configz. Raises NodeError INVALID_ARGUMENT."""
    outcome = Outcome()
    for path, value in settings.values.items():
        row = BY_PATH[path]
        where = f"{settings.origin[path]}: {path}"
        if row.only and value not in row.only:
            raise invalid(where, f"{value!r} is refused: {row.note}")
        if row.to:
            _assign(config, row, value, where)
        elif value != row.default and path not in _CARRIED_OUT_BELOW:
            outcome.warnings.append(f"{where} has no effect: {row.note}")
    _evictions(settings, config)
    _feature_gates(settings, config, outcome)
    _validate(config)
    _check_limits(settings, config)
    config.effective = _effective(settings)
    return outcome


_CARRIED_OUT_BELOW = ("mergeDefaultEvictionSettings", "featureGates")


def _assign(config: KubeletConfig, row: Field, value: Any, where: str) -> None:
    *parents, name = row.to.split(".")
    target: Any = config
    for each in parents:
        target = getattr(target, each)
    try:
        setattr(target, name, (row.plain or row.kind.plain)(value))
    except ValueError as exc:
        raise invalid(where, str(exc)) from None


def _evictions(settings: Settings, config: KubeletConfig) -> None:
    """Thresholds that are given replace the defaults altogether, unless they are to be merged with them."""
    if settings.values.get("mergeDefaultEvictionSettings") and "evictionHard" in settings.values:
        config.resources.eviction.hard = {**DEFAULT_EVICTION_HARD, **config.resources.eviction.hard}


def _feature_gates(settings: Settings, config: KubeletConfig, outcome: Outcome) -> None:
    for gate, wanted in settings.values.get("featureGates", {}).items():
        if gate == "MemoryQoS":
            config.resources.cgroups.memory_qos = wanted
        else:
            outcome.warnings.append(f"{settings.origin['featureGates']}: featureGates.{gate} has no effect")


def _validate(config: KubeletConfig) -> None:
    """What no type can say. Raises NodeError with the field's path."""
    server = config.server
    try:
        sysctls.check_patterns(config.allowed_unsafe_sysctls)
    except ValueError as exc:
        raise invalid("allowedUnsafeSysctls", str(exc)) from None
    for path, port in (
        ("port", server.port),
        ("readOnlyPort", server.read_only_port),
        ("healthzPort", server.healthz_port),
    ):
        if not 0 <= port <= 65535:
            raise invalid(path, f"{port} is not a port")
    for path, address in (("address", server.address), ("healthzBindAddress", server.healthz_bind_address)):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise invalid(path, f"{address!r} is not an IP address") from None
    if server.tls_min_version not in ("", "VersionTLS12", "VersionTLS13"):
        raise invalid("tlsMinVersion", f"{server.tls_min_version!r}: VersionTLS12 or VersionTLS13")
    if server.system_log_query and not server.system_log_handler:
        raise invalid("enableSystemLogQuery", "enableSystemLogHandler is required for it")
    if bool(server.tls_cert_file) != bool(server.tls_private_key_file):
        raise invalid("tlsCertFile", "tlsCertFile and tlsPrivateKeyFile belong together")
    if config.static_pod_url and not config.static_pod_url.startswith(("http://", "https://")):
        raise invalid("staticPodURL", f"{config.static_pod_url!r} is not an http or https URL")
    for path, period in (
        ("fileCheckFrequency", config.file_check_frequency),
        ("httpCheckFrequency", config.http_check_frequency),
    ):
        if period <= 0:
            raise invalid(path, "must be more than 0s")
    if not 1 <= config.backoff_max <= 300:
        raise invalid("crashLoopBackOff.maxContainerRestartPeriod", "must be between 1s and 300s")
    config.backoff_initial = min(config.backoff_initial, config.backoff_max)


def _check_limits(settings: Settings, config: KubeletConfig) -> None:
    """Raises NodeError that names everything out of bounds, and where it was said."""
    from minikubelet.kubelet.configuration import limits  # it takes half the kubelet: not for every --help

    told = []
    for path, why in limits.problems(config):
        given = next((name for name in settings.origin if path == name or path.startswith(f"{name}.")), "")
        told.append(f"{settings.origin[given]}: {path}: {why}" if given else f"{path}: {why}")
    if told:
        raise NodeError(Code.INVALID_ARGUMENT, "; ".join(told))


def shown(config: KubeletConfig) -> dict[str, Any]:
    """The whole KubeletConfiguration in force, in upstream's form, as /configz shows it."""
    whole = dict(config.effective or _effective(Settings()))
    whole["staticPodPath"] = config.manifests
    whole["containerRuntimeEndpoint"] = config.container_runtime_endpoint
    whole["imageServiceEndpoint"] = config.image_service_endpoint
    whole["evictionHard"] = dict(config.resources.eviction.hard)
    whole["clusterDomain"] = config.cluster_domain
    whole["podLogsDir"] = config.log_dir
    whole["port"], whole["healthzPort"] = config.server.port, config.server.healthz_port
    return whole


def _effective(settings: Settings) -> dict[str, Any]:
    """Values and defaults as a file would have them; the headers of a URL are secrets."""
    whole: dict[str, Any] = {"kind": KIND, "apiVersion": API_VERSION}
    for row in FIELDS:
        value = settings.values.get(row.path, row.default)
        if row.path == "staticPodURLHeader" and value:
            value = {name: [HIDDEN] for name in value}
        elif row.kind.name == "duration" and value is not None:
            value = go_duration(seconds(value))
        if value is not None:
            _put(whole, row.path.split("."), value)
    return whole


def _put(target: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        target = target.setdefault(name, {})
    target[path[-1]] = value

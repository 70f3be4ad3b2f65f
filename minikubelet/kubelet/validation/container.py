"""One container: ports, mounts, probes, hooks, restart rules, and what modules beside this one check."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Container, Probe
from minikubelet.kubelet.objects.containers import (
    ContainerPort,
    ContainerRestartRule,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    VolumeMount,
)
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.validation.checker import PORT_NAME, Checker
from minikubelet.kubelet.validation.environment import validate_environment
from minikubelet.kubelet.validation.resources import validate_resize_policy, validate_resources
from minikubelet.kubelet.validation.security import validate_security

_HEADER = re.compile(r"[-A-Za-z0-9]+\Z")
_RULES, _RULE_VALUES = 20, 255
"""How many restart rules, and exit codes in one."""
_SIGNALS = re.compile(
    r"SIG(ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS"
    r"|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|RTMIN(\+([1-9]|1[0-5]))?"
    r"|RTMAX(-([1-9]|1[0-4]))?)\Z"
)


@dataclass(frozen=True)
class Volumes:
    """Names of the pod's volumes by what they may be used for."""

    all: frozenset[str]
    claims: frozenset[str]
    """For volumeDevices."""
    empty_dirs: frozenset[str]
    """For files of variables."""


def volumes_of(spec: PodSpec) -> Volumes:
    """The volumes that containers may use."""
    claims = [v.name for v in spec.volumes if v.persistent_volume_claim or v.ephemeral]
    # A volume without a source is an emptyDir.
    plain = [
        v.name for v in spec.volumes if not any(getattr(v, n) for n in v.__struct_fields__ if n != "name")
    ]
    empty = [v.name for v in spec.volumes if v.empty_dir is not None]
    return Volumes(frozenset(v.name for v in spec.volumes), frozenset(claims), frozenset(empty + plain))


def validate_container(
    check: Checker, at: Path, container: Container, spec: PodSpec, volumes: Volumes
) -> None:
    """Check one container at ``at`` of a pod; ``volumes`` are those its mounts may use."""
    check.dns_label((*at, "name"), container.name)
    if check.required((*at, "image"), container.image) and container.image != container.image.strip():
        check.invalid((*at, "image"), container.image, "must not have leading or trailing whitespace")
    policies = ("Always", "IfNotPresent", "Never")
    check.one_of((*at, "imagePullPolicy"), container.image_pull_policy, policies)
    message_policies = ("File", "FallbackToLogsOnError")
    check.one_of((*at, "terminationMessagePolicy"), container.termination_message_policy, message_policies)
    if container.restart_policy is not None:
        check.one_of((*at, "restartPolicy"), container.restart_policy, ("Always", "OnFailure", "Never"))
    _ports(check, (*at, "ports"), container.ports)
    _restart_rules(check, at, container)
    validate_environment(check, at, container, set(volumes.empty_dirs))
    validate_resources(check, (*at, "resources"), container.resources)
    validate_resize_policy(check, (*at, "resizePolicy"), container.resize_policy, spec.restart_policy)
    _volume_mounts(check, (*at, "volumeMounts"), container, volumes)
    _volume_devices(check, (*at, "volumeDevices"), container, volumes)
    for name, probe in _probes(container):
        _probe(check, (*at, name), name, probe, container)
    if container.lifecycle is not None:
        _lifecycle(check, (*at, "lifecycle"), container.lifecycle, container, spec)
    validate_security(check, (*at, "securityContext"), container, spec)


def _probes(container: Container) -> Iterator[tuple[str, Probe]]:
    found = (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    )
    yield from ((name, probe) for name, probe in found if probe is not None)


def validate_init_only(check: Checker, at: Path, container: Container) -> None:
    """Check what only sidecars among the init containers may have."""
    if is_sidecar(container):
        return
    for index, policy in enumerate(container.resize_policy):
        if policy.restart_policy == "RestartContainer":
            why = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            check.invalid((*at, "resizePolicy", index, "restartPolicy"), policy.restart_policy, why)
    for name, _ in _probes(container):
        check.add((*at, name), "Forbidden: may not be set for init containers without restartPolicy=Always")
    if container.lifecycle is not None:
        check.add(
            (*at, "lifecycle"), "Forbidden: may not be set for init containers without restartPolicy=Always"
        )


def _ports(check: Checker, at: Path, ports: list[ContainerPort]) -> None:
    check.unique(at, [port.name for port in ports])
    for index, port in enumerate(ports):
        path: Path = (*at, index)
        if not port.container_port:
            check.required((*path, "containerPort"), None)
        else:
            check.port((*path, "containerPort"), port.container_port)
        if port.host_port:
            check.port((*path, "hostPort"), port.host_port)
        check.one_of((*path, "protocol"), port.protocol, ("SCTP", "TCP", "UDP"))
        if port.name and (len(port.name) > 15 or not PORT_NAME.match(port.name)):
            check.invalid(
                (*path, "name"),
                port.name,
                "must be no more than 15 characters: lower case "
                "alphanumeric or '-', with at least one letter",
            )
        if port.host_ip:
            try:
                ipaddress.ip_address(port.host_ip)
            except ValueError:
                check.invalid((*path, "hostIP"), port.host_ip, "must be a valid IP address")


def validate_host_ports(check: Checker, spec: PodSpec) -> None:
    """Check that no host port is asked for twice, and that ports on the host's network are what they say."""
    taken: set[tuple[str, str, int]] = set()
    for index, container in enumerate(spec.containers):
        at: Path = ("spec", "containers", index)
        _host_ports(check, at, container, taken)
        for place, port in enumerate(container.ports):
            if spec.host_network and port.host_port != port.container_port:
                why = "must match `containerPort` when `hostNetwork` is true"
                check.invalid((*at, "ports", place, "hostPort"), port.host_port, why)
    for index, container in enumerate(spec.init_containers):
        _host_ports(check, ("spec", "initContainers", index), container, set())  # they run one by one


def _host_ports(check: Checker, at: Path, container: Container, taken: set[tuple[str, str, int]]) -> None:
    for place, port in enumerate(container.ports):
        key = (port.protocol, port.host_ip, port.host_port)
        if port.host_port and key in taken:
            shown = f"{port.protocol}/{port.host_ip}/{port.host_port}"
            check.add((*at, "ports", place, "hostPort"), f'Duplicate value: "{shown}"')
        taken.add(key)


def _restart_rules(check: Checker, at: Path, container: Container) -> None:
    """KEP-5307."""
    rules = container.restart_policy_rules
    if rules and container.restart_policy is None:
        why = "Required value: must specify restartPolicy when restart rules are used"
        check.add((*at, "restartPolicy"), why)
    if len(rules) > _RULES:
        check.add((*at, "restartPolicyRules"), f"Too many: {len(rules)}: must have at most {_RULES} items")
    for index, rule in enumerate(rules):
        _restart_rule(check, (*at, "restartPolicyRules", index), rule)


def _restart_rule(check: Checker, at: Path, rule: ContainerRestartRule) -> None:
    check.one_of((*at, "action"), rule.action, ("Restart", "RestartAllContainers"))
    if rule.exit_codes is None:
        check.add((*at, "exitCodes"), "Required value: must be specified")
        return
    check.one_of((*at, "exitCodes", "operator"), rule.exit_codes.operator, ("In", "NotIn"))
    values = rule.exit_codes.values
    if len(values) > _RULE_VALUES:
        why = f"Too many: {len(values)}: must have at most {_RULE_VALUES} items"
        check.add((*at, "exitCodes", "values"), why)


def _volume_mounts(check: Checker, at: Path, container: Container, volumes: Volumes) -> None:
    paths: set[str] = set()
    for index, mount in enumerate(container.volume_mounts):
        path: Path = (*at, index)
        if check.required((*path, "name"), mount.name) and mount.name not in volumes.all:
            check.add((*path, "name"), f'Not found: "{mount.name}"')
        if check.required((*path, "mountPath"), mount.mount_path) and mount.mount_path in paths:
            check.invalid((*path, "mountPath"), mount.mount_path, "must be unique")
        paths.add(mount.mount_path)
        for name, sub_path in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
            if sub_path.startswith("/"):
                check.invalid((*path, name), sub_path, "must be a relative path")
            if ".." in sub_path.split("/"):
                check.invalid((*path, name), sub_path, "must not contain '..'")
        if mount.sub_path and mount.sub_path_expr:
            check.invalid(
                (*path, "subPathExpr"), mount.sub_path_expr, "subPathExpr and subPath are mutually exclusive"
            )
        _mount_kind(check, path, mount, container)


def _mount_kind(check: Checker, path: Path, mount: VolumeMount, container: Container) -> None:
    if mount.mount_propagation is not None:
        kinds = ("Bidirectional", "HostToContainer", "None")
        check.one_of((*path, "mountPropagation"), mount.mount_propagation, kinds)
        privileged = container.security_context and container.security_context.privileged
        if mount.mount_propagation == "Bidirectional" and not privileged:
            why = "Forbidden: Bidirectional mount propagation is available only to privileged containers"
            check.add((*path, "mountPropagation"), why)
    if mount.recursive_read_only is not None:
        where: Path = (*path, "recursiveReadOnly")
        check.one_of(where, mount.recursive_read_only, ("Disabled", "Enabled", "IfPossible"))
        if mount.recursive_read_only in ("Enabled", "IfPossible"):
            if not mount.read_only:
                check.add(where, "Forbidden: may only be specified when readOnly is true")
            if mount.mount_propagation not in (None, "None"):
                why = "Forbidden: may only be specified when mountPropagation is None or not specified"
                check.add(where, why)


def _volume_devices(check: Checker, at: Path, container: Container, volumes: Volumes) -> None:
    mounts = {mount.name for mount in container.volume_mounts}
    paths = {mount.mount_path for mount in container.volume_mounts}
    names: set[str] = set()
    for index, device in enumerate(container.volume_devices):
        path: Path = (*at, index)
        if device.name not in volumes.all:
            check.add((*path, "name"), f'Not found: "{device.name}"')
        elif device.name not in volumes.claims:
            why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            check.invalid((*path, "name"), device.name, why)
        if device.name in mounts or device.name in names:
            check.invalid((*path, "name"), device.name, "must be unique, and not in volumeMounts")
        names.add(device.name)
        where: Path = (*path, "devicePath")
        if check.required(where, device.device_path):
            if ".." in device.device_path.split("/"):
                check.invalid(where, device.device_path, "can not contain backsteps ('..')")
            elif device.device_path in paths:
                check.invalid(where, device.device_path, "must be unique, and not in volumeMounts")
        paths.add(device.device_path)


def _probe(check: Checker, at: Path, name: str, probe: Probe, container: Container) -> None:
    for field, value, least in (
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ):
        check.at_least((*at, field), value, least)
    if name != "readinessProbe" and probe.success_threshold != 1:
        check.invalid((*at, "successThreshold"), probe.success_threshold, "must be 1")
    grace = probe.termination_grace_period_seconds
    if grace is not None:
        if name == "readinessProbe":
            check.invalid(
                (*at, "terminationGracePeriodSeconds"), grace, "must not be set for readinessProbes"
            )
        elif grace < 1:
            check.invalid((*at, "terminationGracePeriodSeconds"), grace, "must be greater than 0")
    handlers = [
        each for each in (probe.exec, probe.http_get, probe.tcp_socket, probe.grpc) if each is not None
    ]
    _exactly_one(check, at, len(handlers))
    if probe.exec is not None:
        check.required((*at, "exec", "command"), probe.exec.command)
    if probe.http_get is not None:
        _http(check, (*at, "httpGet"), probe.http_get, container)
    if probe.tcp_socket is not None:
        _port_reference(check, (*at, "tcpSocket", "port"), probe.tcp_socket.port, container)
    if probe.grpc is not None:
        check.port((*at, "grpc", "port"), probe.grpc.port)


def _exactly_one(check: Checker, at: Path, handlers: int) -> None:
    if not handlers:
        check.add(at, "Required value: must specify a handler type")
    elif handlers > 1:
        check.add(at, "Forbidden: may not specify more than 1 handler type")


def _http(check: Checker, at: Path, action: HTTPGetAction, container: Container) -> None:
    _port_reference(check, (*at, "port"), action.port, container)
    check.one_of((*at, "scheme"), action.scheme, ("HTTP", "HTTPS"))
    for index, header in enumerate(action.http_headers):
        if not _HEADER.match(header.name):
            why = "a valid HTTP header must consist of alphanumeric characters or '-'"
            check.invalid((*at, "httpHeaders", index, "name"), header.name, why)


def _port_reference(check: Checker, at: Path, port: int | str | None, container: Container) -> None:
    if port is None:
        check.required(at, None)
    elif isinstance(port, int):
        check.port(at, port)
    elif len(port) > 15 or not PORT_NAME.match(port):
        check.invalid(at, port, "must be a port number or the name of a port")


def _lifecycle(check: Checker, at: Path, lifecycle: Lifecycle, container: Container, spec: PodSpec) -> None:
    for name, hook in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if hook is not None:
            _hook(check, (*at, name), hook, container, spec)
    if lifecycle.stop_signal is not None:
        where: Path = (*at, "stopSignal")
        if spec.os is None:
            check.add(where, "Forbidden: may not be set for containers with empty `spec.os.name`")
        elif not _SIGNALS.match(lifecycle.stop_signal):
            check.add(where, f'Unsupported value: "{lifecycle.stop_signal}"')


def _hook(check: Checker, at: Path, hook: LifecycleHandler, container: Container, spec: PodSpec) -> None:
    handlers = [each for each in (hook.exec, hook.http_get, hook.tcp_socket, hook.sleep) if each is not None]
    _exactly_one(check, at, len(handlers))
    if hook.exec is not None:
        check.required((*at, "exec", "command"), hook.exec.command)
    if hook.http_get is not None:
        _http(check, (*at, "httpGet"), hook.http_get, container)
    if hook.tcp_socket is not None:
        _port_reference(check, (*at, "tcpSocket", "port"), hook.tcp_socket.port, container)
    grace = spec.termination_grace_period_seconds
    if hook.sleep is not None and grace is not None and not 0 <= hook.sleep.seconds <= grace:
        why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        check.invalid((*at, "sleep"), hook.sleep.seconds, why)

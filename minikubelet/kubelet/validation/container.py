"""One container: ports, environment, resources, mounts, probes, hooks, security."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.environment import is_pod_field
from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Container, Probe
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.containers import (
    ContainerPort,
    HTTPGetAction,
    LifecycleHandler,
    ResourceRequirements,
)
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.validation.checker import PORT_NAME, Checker, check_id


def validate_container(check: Checker, at: Path, container: Container, volumes: set[str]) -> None:
    """Check one container at ``at``; ``volumes`` are the names its mounts may use."""
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
    _environment(check, at, container)
    _resources(check, (*at, "resources"), container.resources)
    _volume_mounts(check, (*at, "volumeMounts"), container, volumes)
    for name, probe in _probes(container):
        _probe(check, (*at, name), name, probe, container)
    if container.lifecycle is not None:
        for name, hook in (
            ("postStart", container.lifecycle.post_start),
            ("preStop", container.lifecycle.pre_stop),
        ):
            if hook is not None:
                _hook(check, (*at, "lifecycle", name), hook, container)
    _security(check, (*at, "securityContext"), container)


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
    """Check that no host port is asked for twice."""
    taken: set[tuple[str, str, int]] = set()
    for index, container in enumerate(spec.containers):
        for place, port in enumerate(container.ports):
            key = (port.protocol, port.host_ip, port.host_port)
            if not port.host_port:
                continue
            if key in taken:
                shown = f"{port.protocol}/{port.host_ip}/{port.host_port}"
                check.add(
                    ("spec", "containers", index, "ports", place, "hostPort"), f'Duplicate value: "{shown}"'
                )
            taken.add(key)


def _environment(check: Checker, at: Path, container: Container) -> None:
    for index, variable in enumerate(container.env):
        path: Path = (*at, "env", index)
        if check.required((*path, "name"), variable.name) and (
            "=" in variable.name or not variable.name.isprintable()
        ):
            check.invalid((*path, "name"), variable.name, "a valid environment variable name has no '='")
        source = variable.value_from
        if source is None:
            continue
        given = [name for name in source.__struct_fields__ if getattr(source, name) is not None]
        if len(given) != 1:
            check.add((*path, "valueFrom"), "Invalid value: must specify exactly one source")
        if variable.value:
            check.add((*path, "valueFrom"), "Invalid value: may not be specified when `value` is not empty")
        if source.field_ref is not None and not is_pod_field(source.field_ref.field_path):
            where: Path = (*path, "valueFrom", "fieldRef", "fieldPath")
            check.invalid(where, source.field_ref.field_path, "not a field that can be used here")


def _resources(check: Checker, at: Path, resources: ResourceRequirements) -> None:
    for group in ("limits", "requests"):
        amounts: dict[str, Quantity] = getattr(resources, group)
        for name, amount in amounts.items():
            limit = resources.limits.get(name)
            if group == "requests" and limit == amount:
                continue  # a default taken from the limit, which was looked at already
            try:
                if parse(amount) < 0:
                    check.invalid((*at, group, name), amount, "must be greater than or equal to 0")
            except ValueError as exc:
                check.invalid((*at, group, name), amount, str(exc))
                continue
            if group == "requests" and limit is not None:
                _below(check, (*at, group), name, amount, limit)
    if resources.claims:
        check.add((*at, "claims"), "Forbidden: static pods may not reference resourceclaims")


def _below(check: Checker, at: Path, name: str, amount: Quantity, limit: Quantity) -> None:
    try:
        over = parse(amount) > parse(limit)
    except ValueError:
        return
    if over:
        check.invalid(at, str(amount), f"must be less than or equal to {name} limit of {limit}")


def _volume_mounts(check: Checker, at: Path, container: Container, volumes: set[str]) -> None:
    paths: set[str] = set()
    for index, mount in enumerate(container.volume_mounts):
        path: Path = (*at, index)
        if check.required((*path, "name"), mount.name) and mount.name not in volumes:
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
        if mount.mount_propagation is not None:
            kinds = ("Bidirectional", "HostToContainer", "None")
            check.one_of((*path, "mountPropagation"), mount.mount_propagation, kinds)
            privileged = container.security_context and container.security_context.privileged
            if mount.mount_propagation == "Bidirectional" and not privileged:
                check.add(
                    (*path, "mountPropagation"),
                    "Forbidden: Bidirectional mount propagation is available only to privileged containers",
                )
    for index, device in enumerate(container.volume_devices):
        if device.name not in volumes:
            check.add((*at[:-1], "volumeDevices", index, "name"), f'Not found: "{device.name}"')


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


def _port_reference(check: Checker, at: Path, port: int | str | None, container: Container) -> None:
    if port is None:
        check.required(at, None)
    elif isinstance(port, int):
        check.port(at, port)
    elif not port.isdigit() and (len(port) > 15 or not PORT_NAME.match(port)):
        check.invalid(at, port, "must be a port number or the name of a port")


def _hook(check: Checker, at: Path, hook: LifecycleHandler, container: Container) -> None:
    handlers = [each for each in (hook.exec, hook.http_get, hook.tcp_socket, hook.sleep) if each is not None]
    _exactly_one(check, at, len(handlers))
    if hook.exec is not None:
        check.required((*at, "exec", "command"), hook.exec.command)
    if hook.http_get is not None:
        _http(check, (*at, "httpGet"), hook.http_get, container)
    if hook.tcp_socket is not None:
        check.add((*at, "tcpSocket"), "Forbidden: tcpSocket hooks are deprecated and do nothing")
    if hook.sleep is not None and hook.sleep.seconds < 0:
        check.invalid((*at, "sleep", "seconds"), hook.sleep.seconds, "must be greater than or equal to 0")


def _security(check: Checker, at: Path, container: Container) -> None:
    context = container.security_context
    if context is None:
        return
    check_id(check, (*at, "runAsUser"), context.run_as_user)
    check_id(check, (*at, "runAsGroup"), context.run_as_group)
    if context.allow_privilege_escalation is False:
        added = context.capabilities.add if context.capabilities else []
        if context.privileged:
            check.invalid(
                at, False, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            )
        if "CAP_SYS_ADMIN" in added or "SYS_ADMIN" in added:
            check.invalid(
                at,
                False,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            )
    if context.proc_mount is not None:
        check.one_of((*at, "procMount"), context.proc_mount, ("Default", "Unmasked"))
    for name, profile in (
        ("seccompProfile", context.seccomp_profile),
        ("appArmorProfile", context.app_armor_profile),
    ):
        if profile is None:
            continue
        check.one_of((*at, name, "type"), profile.type, ("Localhost", "RuntimeDefault", "Unconfined"))
        local = profile.localhost_profile or ""
        if profile.type == "Localhost":
            check.required((*at, name, "localhostProfile"), local)
        if local.startswith("/") or ".." in local.split("/"):
            check.invalid((*at, name, "localhostProfile"), local, "must be a relative path without '..'")

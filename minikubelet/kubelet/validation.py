"""Checks of a pod before it is run, in upstream's words (pkg/apis/core/validation)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.environment import is_pod_field
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import Path, dotted
from minikubelet.kubelet.objects import Container, Pod, Probe
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.containers import (
    ContainerPort,
    HTTPGetAction,
    LifecycleHandler,
    ResourceRequirements,
)
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.objects.volumes import Volume

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_PORT_NAME = re.compile(r"(?!.*--)(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*\Z")

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character"
)


@dataclass
class Problem(ManifestError):
    """A ManifestError that knows its path, so that the line can be found."""

    path: Path = ()


class _Checker:
    """Collects problems under a path."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, path: Path, message: str) -> None:
        self.problems.append(Problem(message, field=dotted(path), path=path))

    def required(self, path: Path, value: object) -> bool:
        if value in ("", None, [], {}):
            self.add(path, "Required value")
            return False
        return True

    def invalid(self, path: Path, value: object, why: str) -> None:
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        self.add(path, f"Invalid value: {shown}: {why}")

    def one_of(self, path: Path, value: str, allowed: Iterable[str]) -> None:
        choices = list(allowed)
        if value not in choices:
            words = ", ".join(f'"{each}"' for each in choices)
            self.add(path, f'Unsupported value: "{value}": supported values: {words}')

    def dns_label(self, path: Path, value: str) -> bool:
        if not self.required(path, value):
            return False
        if len(value) > 63:
            self.invalid(path, value, "must be no more than 63 bytes")
        elif not _LABEL.match(value):
            self.invalid(path, value, _LABEL_RULE)
        else:
            return True
        return False

    def unique(self, path: Path, values: Iterable[str]) -> None:
        """``values`` are the names of the items of the list at ``path``."""
        seen: set[str] = set()
        for index, value in enumerate(values):
            if value and value in seen:
                self.add((*path, index, "name"), f'Duplicate value: "{value}"')
            seen.add(value)

    def at_least(self, path: Path, value: int, least: int) -> None:
        if value < least:
            self.invalid(path, value, f"must be greater than or equal to {least}")

    def port(self, path: Path, value: int) -> None:
        if not 1 <= value <= 65535:
            self.invalid(path, value, "must be between 1 and 65535, inclusive")


def validate_pod(pod: Pod) -> list[Problem]:
    """Everything that is wrong with a pod after defaults; empty if it can be run."""
    check = _Checker()
    _metadata(check, pod)
    _spec(check, pod.spec)
    return check.problems


def _metadata(check: _Checker, pod: Pod) -> None:
    meta = pod.metadata
    path: Path = ("metadata", "name")
    if check.required(path, meta.name):
        if len(meta.name) > 253:
            check.invalid(path, meta.name, "must be no more than 253 bytes")
        elif not _SUBDOMAIN.match(meta.name):
            check.invalid(path, meta.name, _SUBDOMAIN_RULE)
    check.dns_label(("metadata", "namespace"), meta.namespace)
    if not re.match(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,252}\Z", meta.uid):
        check.invalid(("metadata", "uid"), meta.uid, "must be letters, digits, '-', '_' or '.'")
    for key, value in meta.labels.items():
        _qualified(check, ("metadata", "labels"), key)
        if len(value) > 63 or (value and not _QUALIFIED.match(value)):
            check.invalid(
                ("metadata", "labels", key),
                value,
                "a valid label must be an empty string or consist "
                "of at most 63 alphanumeric characters, '-', '_' or '.'",
            )
    for key in meta.annotations:
        _qualified(check, ("metadata", "annotations"), key.lower())


def _qualified(check: _Checker, path: Path, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if len(name) > 63 or not _QUALIFIED.match(name) or (slash and not _SUBDOMAIN.match(prefix)):
        check.invalid(path, key, "name part must consist of alphanumeric characters, '-', '_' or '.'")


def _spec(check: _Checker, spec: PodSpec) -> None:
    at: Path = ("spec",)
    volumes = {volume.name for volume in spec.volumes}
    _volumes(check, spec.volumes)
    check.required((*at, "containers"), spec.containers)
    check.unique((*at, "containers"), [each.name for each in spec.containers])
    check.unique((*at, "initContainers"), [each.name for each in spec.init_containers])
    both = {each.name for each in spec.containers} & {each.name for each in spec.init_containers}
    for index, container in enumerate(spec.init_containers):
        path: Path = (*at, "initContainers", index)
        if container.name in both:
            check.add((*path, "name"), f'Duplicate value: "{container.name}"')
        _container(check, path, container, volumes)
        _init_only(check, path, container)
    for index, container in enumerate(spec.containers):
        _container(check, (*at, "containers", index), container, volumes)
    _host_ports(check, spec)
    check.one_of((*at, "restartPolicy"), spec.restart_policy, ("Always", "OnFailure", "Never"))
    dns = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    check.one_of((*at, "dnsPolicy"), spec.dns_policy, dns)
    if spec.dns_policy == "None" and not (spec.dns_config and spec.dns_config.nameservers):
        check.add(
            (*at, "dnsConfig", "nameservers"),
            "Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
        )
    check.at_least((*at, "terminationGracePeriodSeconds"), spec.termination_grace_period_seconds or 0, 0)
    if spec.active_deadline_seconds is not None:
        check.at_least((*at, "activeDeadlineSeconds"), spec.active_deadline_seconds, 1)
    for name, value in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if value:
            check.dns_label((*at, name), value)
    if spec.hostname_override is not None and not _SUBDOMAIN.match(spec.hostname_override):
        check.invalid((*at, "hostnameOverride"), spec.hostname_override, _SUBDOMAIN_RULE)
    if spec.host_pid and spec.share_process_namespace:
        check.invalid(
            (*at, "shareProcessNamespace"), True, "ShareProcessNamespace and HostPID cannot both be enabled"
        )
    _dns_config(check, spec)
    _aliases(check, spec)
    _pod_security(check, spec)
    _not_here(check, spec)


def _dns_config(check: _Checker, spec: PodSpec) -> None:
    """These lines end up in a file of the pod: nothing may break out of its own."""
    if spec.dns_config is None:
        return
    at: Path = ("spec", "dnsConfig")
    for index, server in enumerate(spec.dns_config.nameservers):
        _address(check, (*at, "nameservers", index), server)
    for index, domain in enumerate(spec.dns_config.searches):
        bare = domain.removesuffix(".").replace("_", "a")
        if len(domain) > 254 or (domain != "." and not _SUBDOMAIN.match(bare)):
            check.invalid((*at, "searches", index), domain, _SUBDOMAIN_RULE)
    for index, option in enumerate(spec.dns_config.options):
        text = option.name + (option.value or "")
        if not option.name or not text.isascii() or not text.isprintable() or " " in text:
            check.invalid((*at, "options", index, "name"), option.name, "must be a word")


def _address(check: _Checker, path: Path, value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        check.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def _aliases(check: _Checker, spec: PodSpec) -> None:
    for index, alias in enumerate(spec.host_aliases):
        path: Path = ("spec", "hostAliases", index)
        _address(check, (*path, "ip"), alias.ip)
        for place, name in enumerate(alias.hostnames):
            if len(name) > 253 or not _SUBDOMAIN.match(name):
                check.invalid((*path, "hostnames", place), name, _SUBDOMAIN_RULE)


def _pod_security(check: _Checker, spec: PodSpec) -> None:
    context = spec.security_context
    if context is None:
        return
    at: Path = ("spec", "securityContext")
    for index, sysctl in enumerate(context.sysctls):
        if len(sysctl.name) > 253 or not _SYSCTL.match(sysctl.name):
            check.invalid((*at, "sysctls", index, "name"), sysctl.name, "not a sysctl's name")
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        value = getattr(
            context, {"runAsUser": "run_as_user", "runAsGroup": "run_as_group"}.get(name, "fs_group")
        )
        _id(check, (*at, name), value)


def _id(check: _Checker, path: Path, value: int | None) -> None:
    if value is not None and not 0 <= value <= 2**31 - 1:
        check.invalid(path, value, "must be between 0 and 2147483647, inclusive")


def _not_here(check: _Checker, spec: PodSpec) -> None:
    """What a node without an API server or without the mechanism must refuse rather than ignore."""
    at: Path = ("spec",)
    if spec.resource_claims:
        check.add((*at, "resourceClaims"), "Forbidden: static pods may not reference resourceclaims")
    if spec.ephemeral_containers:
        check.add((*at, "ephemeralContainers"), "Forbidden: cannot be set on create")
    if spec.host_users is False:
        check.add((*at, "hostUsers"), "Forbidden: user namespaces are not supported by minikubelet yet")
    if spec.runtime_class_name:
        check.add((*at, "runtimeClassName"), "Forbidden: static pods may not reference runtime classes")
    if spec.os is not None and spec.os.name != "linux":
        check.add((*at, "os", "name"), f'Invalid value: "{spec.os.name}": this node runs linux')


# --- containers ----------------------------------------------------------------------------------------


def _container(check: _Checker, at: Path, container: Container, volumes: set[str]) -> None:
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


def _init_only(check: _Checker, at: Path, container: Container) -> None:
    if is_sidecar(container):
        return
    for name, _ in _probes(container):
        check.add((*at, name), "Forbidden: may not be set for init containers without restartPolicy=Always")
    if container.lifecycle is not None:
        check.add(
            (*at, "lifecycle"), "Forbidden: may not be set for init containers without restartPolicy=Always"
        )


def _ports(check: _Checker, at: Path, ports: list[ContainerPort]) -> None:
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
        if port.name and (len(port.name) > 15 or not _PORT_NAME.match(port.name)):
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


def _host_ports(check: _Checker, spec: PodSpec) -> None:
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


def _environment(check: _Checker, at: Path, container: Container) -> None:
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


def _resources(check: _Checker, at: Path, resources: ResourceRequirements) -> None:
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


def _below(check: _Checker, at: Path, name: str, amount: Quantity, limit: Quantity) -> None:
    try:
        over = parse(amount) > parse(limit)
    except ValueError:
        return
    if over:
        check.invalid(at, str(amount), f"must be less than or equal to {name} limit of {limit}")


def _volume_mounts(check: _Checker, at: Path, container: Container, volumes: set[str]) -> None:
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


def _probe(check: _Checker, at: Path, name: str, probe: Probe, container: Container) -> None:
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


def _exactly_one(check: _Checker, at: Path, handlers: int) -> None:
    if not handlers:
        check.add(at, "Required value: must specify a handler type")
    elif handlers > 1:
        check.add(at, "Forbidden: may not specify more than 1 handler type")


def _http(check: _Checker, at: Path, action: HTTPGetAction, container: Container) -> None:
    _port_reference(check, (*at, "port"), action.port, container)
    check.one_of((*at, "scheme"), action.scheme, ("HTTP", "HTTPS"))


def _port_reference(check: _Checker, at: Path, port: int | str | None, container: Container) -> None:
    if port is None:
        check.required(at, None)
    elif isinstance(port, int):
        check.port(at, port)
    elif not port.isdigit() and (len(port) > 15 or not _PORT_NAME.match(port)):
        check.invalid(at, port, "must be a port number or the name of a port")


def _hook(check: _Checker, at: Path, hook: LifecycleHandler, container: Container) -> None:
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


def _security(check: _Checker, at: Path, container: Container) -> None:
    context = container.security_context
    if context is None:
        return
    _id(check, (*at, "runAsUser"), context.run_as_user)
    _id(check, (*at, "runAsGroup"), context.run_as_group)
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


# --- volumes -------------------------------------------------------------------------------------------


def _volumes(check: _Checker, volumes: list[Volume]) -> None:
    at: Path = ("spec", "volumes")
    check.unique(at, [volume.name for volume in volumes])
    for index, volume in enumerate(volumes):
        check.dns_label((*at, index, "name"), volume.name)
        sources = [n for n in volume.__struct_fields__ if n != "name" and getattr(volume, n) is not None]
        if len(sources) > 1:
            check.add((*at, index), "Forbidden: may not specify more than 1 volume type")
        if volume.host_path is not None:
            path: Path = (*at, index, "hostPath", "path")
            if check.required(path, volume.host_path.path) and ".." in volume.host_path.path.split("/"):
                check.invalid(path, volume.host_path.path, "must not contain '..'")


# --- warnings ------------------------------------------------------------------------------------------

_IGNORED = {
    "affinity": "affinity",
    "node_selector": "nodeSelector",
    "topology_spread_constraints": "topologySpreadConstraints",
    "scheduling_gates": "schedulingGates",
    "service_account_name": "serviceAccountName",
    "image_pull_secrets": "imagePullSecrets",
    "overhead": "overhead",
    "resources": "resources",
}


def warnings_for(pod: Pod) -> list[Problem]:
    """Known fields that have no effect on a node by itself, or none yet."""
    found = []
    for attribute, name in _IGNORED.items():
        if getattr(pod.spec, attribute):
            path: Path = ("spec", name)
            found.append(Problem("has no effect on this node", field=dotted(path), path=path))
    return found

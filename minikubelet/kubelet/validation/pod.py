"""The pod as a whole: metadata, scheduling-free spec fields, volumes, what this node refuses."""

from __future__ import annotations

import ipaddress
import re

from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.objects.volumes import Volume
from minikubelet.kubelet.validation.checker import (
    SUBDOMAIN,
    SUBDOMAIN_RULE,
    Checker,
    Problem,
)
from minikubelet.kubelet.validation.container import (
    validate_container,
    validate_host_ports,
    validate_init_only,
    volumes_of,
)
from minikubelet.kubelet.validation.profiles import validate_profile_annotations
from minikubelet.kubelet.validation.resources import validate_overhead, validate_pod_resources
from minikubelet.kubelet.validation.scheduling import label_value, qualified, validate_scheduling
from minikubelet.kubelet.validation.security import validate_pod_security
from minikubelet.kubelet.validation.volume import validate_volume

_MAX_INT32 = 2**31 - 1
_LONGEST_HOSTNAME = 64
_ANNOTATIONS = 256 << 10
"""Bytes of keys and values together."""
_DNS_SERVERS, _DNS_SEARCHES, _DNS_SEARCH_LETTERS = 3, 32, 2048


def validate_pod(pod: Pod) -> list[Problem]:
    """Everything that is wrong with a pod after defaults; empty if it can be run."""
    check = Checker()
    _metadata(check, pod)
    _spec(check, pod.spec)
    validate_pod_resources(check, pod)
    validate_overhead(check, pod.spec.overhead)
    return check.problems


def _metadata(check: Checker, pod: Pod) -> None:
    meta = pod.metadata
    path: Path = ("metadata", "name")
    if not meta.name and meta.generate_name:
        check.add(path, "Required value: from generateName only an API server makes one")
    elif check.required(path, meta.name):
        if len(meta.name) > 253:
            check.invalid(path, meta.name, "must be no more than 253 bytes")
        elif not SUBDOMAIN.match(meta.name):
            check.invalid(path, meta.name, SUBDOMAIN_RULE)
    check.dns_label(("metadata", "namespace"), meta.namespace)
    if not re.match(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,252}\Z", meta.uid):
        check.invalid(("metadata", "uid"), meta.uid, "must be letters, digits, '-', '_' or '.'")
    for key, value in meta.labels.items():
        qualified(check, ("metadata", "labels"), key)
        label_value(check, ("metadata", "labels", key), value)
    for key in meta.annotations:
        qualified(check, ("metadata", "annotations"), key.lower())
    if sum(len(key.encode()) + len(value.encode()) for key, value in meta.annotations.items()) > _ANNOTATIONS:
        check.add(("metadata", "annotations"), f"Too long: may not be more than {_ANNOTATIONS} bytes")
    validate_profile_annotations(check, pod)


def _spec(check: Checker, spec: PodSpec) -> None:
    at: Path = ("spec",)
    volumes = volumes_of(spec)
    _volumes(check, spec.volumes)
    check.required((*at, "containers"), spec.containers)
    check.unique((*at, "containers"), [each.name for each in spec.containers])
    check.unique((*at, "initContainers"), [each.name for each in spec.init_containers])
    both = {each.name for each in spec.containers} & {each.name for each in spec.init_containers}
    for index, container in enumerate(spec.init_containers):
        path: Path = (*at, "initContainers", index)
        if container.name in both:
            check.add((*path, "name"), f'Duplicate value: "{container.name}"')
        validate_container(check, path, container, spec, volumes)
        validate_init_only(check, path, container)
    for index, container in enumerate(spec.containers):
        validate_container(check, (*at, "containers", index), container, spec, volumes)
    validate_host_ports(check, spec)
    check.one_of((*at, "restartPolicy"), spec.restart_policy, ("Always", "OnFailure", "Never"))
    dns = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    check.one_of((*at, "dnsPolicy"), spec.dns_policy, dns)
    if spec.dns_policy == "None" and not (spec.dns_config and spec.dns_config.nameservers):
        check.add(
            (*at, "dnsConfig", "nameservers"),
            "Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
        )
    if spec.active_deadline_seconds is not None and not 1 <= spec.active_deadline_seconds <= _MAX_INT32:
        why = f"must be between 1 and {_MAX_INT32}, inclusive"
        check.invalid((*at, "activeDeadlineSeconds"), spec.active_deadline_seconds, why)
    for name, value in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if value:
            check.dns_label((*at, name), value)
    _hostname(check, spec)
    if spec.host_pid and spec.share_process_namespace:
        check.invalid(
            (*at, "shareProcessNamespace"), True, "ShareProcessNamespace and HostPID cannot both be enabled"
        )
    _dns_config(check, spec)
    _aliases(check, spec)
    validate_pod_security(check, spec)
    validate_scheduling(check, spec)
    _host_users(check, spec)
    _not_here(check, spec)


def _dns_config(check: Checker, spec: PodSpec) -> None:
    """These lines end up in a file of the pod: nothing may break out of its own."""
    if spec.dns_config is None:
        return
    at: Path = ("spec", "dnsConfig")
    for name, values, most in (
        ("nameservers", spec.dns_config.nameservers, _DNS_SERVERS),
        ("searches", spec.dns_config.searches, _DNS_SEARCHES),
    ):
        if len(values) > most:
            check.add((*at, name), f"Invalid value: must not have more than {most} {name}")
    if len(" ".join(spec.dns_config.searches)) > _DNS_SEARCH_LETTERS:
        why = f"Invalid value: must not have more than {_DNS_SEARCH_LETTERS} characters (including spaces)"
        check.add((*at, "searches"), why)
    for index, server in enumerate(spec.dns_config.nameservers):
        _address(check, (*at, "nameservers", index), server)
    for index, domain in enumerate(spec.dns_config.searches):
        bare = domain.removesuffix(".").replace("_", "a")
        if domain != "." and (len(bare) > 253 or not SUBDOMAIN.match(bare)):
            check.invalid((*at, "searches", index), domain, SUBDOMAIN_RULE)
    for index, option in enumerate(spec.dns_config.options):
        text = option.name + (option.value or "")
        if not option.name or not text.isascii() or not text.isprintable() or " " in text:
            check.invalid((*at, "options", index, "name"), option.name, "must be a word")


def _address(check: Checker, path: Path, value: str) -> None:
    try:
        if "%" in value:
            raise ValueError("zones are no part of an address")
        address = ipaddress.ip_address(value)
    except ValueError:
        check.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        return
    if address.version == 6 and address.ipv4_mapped is not None:
        check.invalid(path, value, "must not be an IPv4-mapped IPv6 address")


def _aliases(check: Checker, spec: PodSpec) -> None:
    for index, alias in enumerate(spec.host_aliases):
        path: Path = ("spec", "hostAliases", index)
        _address(check, (*path, "ip"), alias.ip)
        for place, name in enumerate(alias.hostnames):
            if len(name) > 253 or not SUBDOMAIN.match(name):
                check.invalid((*path, "hostnames", place), name, SUBDOMAIN_RULE)


def _hostname(check: Checker, spec: PodSpec) -> None:
    """KEP-4762."""
    name = spec.hostname_override
    if name is None:
        return
    at: Path = ("spec", "hostnameOverride")
    for field, other in (
        ("setHostnameAsFQDN", spec.set_hostname_as_fqdn),
        ("hostNetwork", spec.host_network),
    ):
        if other:
            check.add(at, f"Forbidden: may not be specified when {field} is true")
    if len(name) > _LONGEST_HOSTNAME:
        check.add(at, f"Too long: may not be more than {_LONGEST_HOSTNAME} bytes")
    if not SUBDOMAIN.match(name):
        check.invalid(at, name, SUBDOMAIN_RULE)


def _host_users(check: Checker, spec: PodSpec) -> None:
    """A user namespace of its own goes with namespaces of its own only (KEP-127)."""
    if spec.host_users is not False:
        return
    at: Path = ("spec",)
    for name, value in (
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ):
        if value:
            check.add((*at, name), "Forbidden: when `hostUsers` is false")
    for group, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            if container.volume_devices:
                path: Path = (*at, group, index, "volumeDevices")
                check.add(path, "Forbidden: when `hostUsers` is false")


def _not_here(check: Checker, spec: PodSpec) -> None:
    """What a node without an API server or without the mechanism must refuse rather than ignore."""
    at: Path = ("spec",)
    if spec.resource_claims:
        check.add((*at, "resourceClaims"), "Forbidden: static pods may not reference resourceclaims")
    if spec.ephemeral_containers:
        check.add((*at, "ephemeralContainers"), "Forbidden: cannot be set on create")
    if spec.os is not None:
        check.one_of((*at, "os", "name"), spec.os.name, ("linux", "windows"))


def _volumes(check: Checker, volumes: list[Volume]) -> None:
    at: Path = ("spec", "volumes")
    check.unique(at, [volume.name for volume in volumes])
    for index, volume in enumerate(volumes):
        check.dns_label((*at, index, "name"), volume.name)
        sources = [n for n in volume.__struct_fields__ if n != "name" and getattr(volume, n) is not None]
        if len(sources) > 1:
            check.add((*at, index), "Forbidden: may not specify more than 1 volume type")
        validate_volume(check, (*at, index), volume)
        if volume.host_path is not None:
            path: Path = (*at, index, "hostPath", "path")
            if check.required(path, volume.host_path.path) and ".." in volume.host_path.path.split("/"):
                check.invalid(path, volume.host_path.path, "must not contain '..'")

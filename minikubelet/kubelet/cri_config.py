"""From a pod to CRI's sandbox and container configurations (pkg/kubelet/kuberuntime)."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import podfiles
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.dns import pod_dns
from minikubelet.kubelet.environment import ContainerConfigError, expand
from minikubelet.kubelet.images import LocalImage
from minikubelet.kubelet.labels import OWNER, container_annotations, container_labels, pod_labels
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import VolumeMount
from minikubelet.kubelet.objects.podspec import PodSecurityContext
from minikubelet.kubelet.resources import linux_resources, overhead_resources, sandbox_resources
from minikubelet.kubelet.security import container_security, sandbox_security

_PROTOCOLS = {"TCP": api.TCP, "UDP": api.UDP, "SCTP": api.SCTP}
_PROPAGATION = {
    None: api.PROPAGATION_PRIVATE,
    "None": api.PROPAGATION_PRIVATE,
    "HostToContainer": api.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": api.PROPAGATION_BIDIRECTIONAL,
}
HOSTS_PATH = "/etc/hosts"


def sandbox_config(
    pod: Pod, config: KubeletConfig, attempt: int, cgroup_parent: str | None = None
) -> api.PodSandboxConfig:
    """The sandbox of a pod. Raises OSError if the node's resolv.conf can't be read."""
    meta = pod.metadata
    context = pod.spec.security_context or PodSecurityContext()
    return api.PodSandboxConfig(
        metadata=api.PodSandboxMetadata(
            name=meta.name, namespace=meta.namespace, uid=meta.uid, attempt=attempt
        ),
        hostname="" if pod.spec.host_network else _kernel_hostname(pod, config),
        log_directory=podfiles.log_directory(config, pod),
        dns_config=pod_dns(pod, config),
        port_mappings=[] if pod.spec.host_network else _port_mappings(pod),
        labels=pod_labels(pod),
        annotations={**meta.annotations, OWNER: config.root},
        linux=api.LinuxPodSandboxConfig(
            cgroup_parent=config.cgroup_parent if cgroup_parent is None else cgroup_parent,
            security_context=sandbox_security(pod),
            sysctls={each.name: each.value for each in context.sysctls},
            overhead=overhead_resources(pod),
            resources=sandbox_resources(pod),
        ),
    )


def _kernel_hostname(pod: Pod, config: KubeletConfig) -> str:
    name, domain = podfiles.hostname(pod), podfiles.domain(pod, config.cluster_domain)
    if not (pod.spec.set_hostname_as_fqdn and domain):
        return name
    full = f"{name}.{domain}"
    if len(full) > 64:
        raise ContainerConfigError(f"the FQDN {full} is too long ({len(full)} of at most 64 characters)")
    return full


def _port_mappings(pod: Pod) -> list[api.PortMapping]:
    everyone = [*pod.spec.containers, *(c for c in pod.spec.init_containers if c.restart_policy == "Always")]
    return [
        api.PortMapping(
            protocol=_PROTOCOLS[port.protocol or "TCP"],
            container_port=port.container_port,
            host_port=port.host_port,
            host_ip=port.host_ip,
        )
        for container in everyone
        for port in container.ports
        if port.host_port
    ]


@dataclass
class Surroundings:
    """What a container's configuration needs beside its spec."""

    config: KubeletConfig
    image: LocalImage
    attempt: int
    environment: Mapping[str, str]
    volumes: Mapping[str, str]
    """Host path by volume name."""
    image_volumes: Mapping[str, str] = field(default_factory=dict)
    """Image reference by name of an image volume."""
    hosts_file: str = ""
    """Host path of the managed hosts file; empty: none."""


def container_config(pod: Pod, container: Container, around: Surroundings) -> api.ContainerConfig:
    """The configuration of one container; makes its log folder and termination file.

    Raises ContainerConfigError and OSError.
    """
    env = around.environment
    security = container_security(
        pod, container, around.image.uid, around.image.user, around.config.seccomp_default
    )
    os.makedirs(
        os.path.join(podfiles.log_directory(around.config, pod), container.name), 0o755, exist_ok=True
    )
    return api.ContainerConfig(
        metadata=api.ContainerMetadata(name=container.name, attempt=around.attempt),
        image=api.ImageSpec(image=around.image.ref, user_specified_image=container.image),
        command=[expand(word, env) for word in container.command],
        args=[expand(word, env) for word in container.args],
        working_dir=container.working_dir,
        envs=[api.KeyValue(key=key, value=value.encode()) for key, value in env.items()],
        mounts=_mounts(pod, container, around),
        devices=[
            api.Device(
                container_path=device.device_path, host_path=around.volumes[device.name], permissions="mrw"
            )
            for device in container.volume_devices
            if device.name in around.volumes
        ],
        labels=container_labels(pod, container),
        annotations=container_annotations(pod, container, around.attempt),
        log_path=podfiles.log_path(container.name, around.attempt),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        stop_signal=_stop_signal(container),
        linux=api.LinuxContainerConfig(
            resources=linux_resources(pod, container, around.config.resources.cgroups),
            security_context=security,
        ),
    )


def _stop_signal(container: Container) -> api.Signal:
    name = container.lifecycle.stop_signal if container.lifecycle else None
    if not name:
        return api.SIGNAL_RUNTIME_DEFAULT
    word = name.replace("SIGRTMIN+", "SIGRTMINPLUS").replace("SIGRTMAX-", "SIGRTMAXMINUS")
    try:
        return cast(api.Signal, api.Signal.Value(f"SIGNAL_{word}"))
    except ValueError:
        raise ContainerConfigError(f"unknown stop signal {name}") from None


def _mounts(pod: Pod, container: Container, around: Surroundings) -> list[api.Mount]:
    mounts = [_mount(mount, around) for mount in container.volume_mounts]
    taken = {posixpath.normpath(mount.container_path) for mount in mounts}
    if around.hosts_file and HOSTS_PATH not in taken:
        mounts.append(api.Mount(container_path=HOSTS_PATH, host_path=around.hosts_file))
    if container.termination_message_path:
        path = podfiles.make_termination_file(around.config, pod, container)
        mounts.append(api.Mount(container_path=container.termination_message_path, host_path=path))
    return mounts


def _mount(mount: VolumeMount, around: Surroundings) -> api.Mount:
    path = mount.mount_path if mount.mount_path.startswith("/") else f"/{mount.mount_path}"
    sub_path = expand_sub_path(mount.sub_path_expr, around.environment) or mount.sub_path
    if mount.name in around.image_volumes:
        return api.Mount(
            container_path=path,
            readonly=True,
            image=api.ImageSpec(image=around.image_volumes[mount.name]),
            image_sub_path=sub_path,
        )
    if mount.name not in around.volumes:
        raise ContainerConfigError(f'cannot find volume "{mount.name}" to mount into container')
    source = around.volumes[mount.name]
    if sub_path:
        source = open_sub_path(source, sub_path)
    return api.Mount(
        container_path=path,
        host_path=source,
        readonly=mount.read_only,
        propagation=_PROPAGATION[mount.mount_propagation],
        recursive_read_only=mount.recursive_read_only == "Enabled",
    )


def expand_sub_path(text: str, environment: Mapping[str, str]) -> str:
    """A subPathExpr with its variables; an unknown one is an error."""
    if not text:
        return ""
    full = expand(text, environment)
    if "$(" in full:
        raise ContainerConfigError(f"missing value for subPathExpr {text!r}")
    return full


def open_sub_path(volume: str, sub_path: str) -> str:
    """The host path of a subPath, made as a folder if absent; no step may be a link or leave the volume."""
    parts = [part for part in sub_path.split("/") if part not in ("", ".")]
    if sub_path.startswith("/") or ".." in parts:
        raise ContainerConfigError(f"subPath {sub_path!r} must be inside the volume")
    fd = os.open(volume, os.O_PATH | os.O_CLOEXEC)
    try:
        for part in parts:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                step = os.open(part, flags, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(part, 0o750, dir_fd=fd)
                step = os.open(part, flags, dir_fd=fd)
            os.close(fd)
            fd = step
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                raise ContainerConfigError(f"subPath {sub_path!r} goes through a symbolic link")
    except OSError as exc:
        raise ContainerConfigError(f"subPath {sub_path!r}: {exc.strerror}") from None
    finally:
        os.close(fd)
    return os.path.join(volume, *parts)

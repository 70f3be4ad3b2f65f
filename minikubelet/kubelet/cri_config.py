"""From a pod to CRI's sandbox and container configurations (pkg/kubelet/kuberuntime)."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import podfiles
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.dns import pod_dns
from minikubelet.kubelet.environment import ContainerConfigError
from minikubelet.kubelet.expansion import expand, names
from minikubelet.kubelet.images import LocalImage
from minikubelet.kubelet.labels import OWNER, container_annotations, container_labels, pod_labels
from minikubelet.kubelet.objects import Container, Pod, Volume
from minikubelet.kubelet.objects.containers import VolumeMount
from minikubelet.kubelet.objects.podspec import PodSecurityContext
from minikubelet.kubelet.resources import linux_resources, overhead_resources, sandbox_resources
from minikubelet.kubelet.runtime_features import Features
from minikubelet.kubelet.security import (
    container_security,
    namespace_options,
    sandbox_security,
    wants_strict_groups,
)
from minikubelet.kubelet.volumes import subpath
from minikubelet.kubelet.volumes.subpath import SubPath

log = logging.getLogger(__name__)

_PROTOCOLS = {"TCP": api.TCP, "UDP": api.UDP, "SCTP": api.SCTP}
_PROPAGATION = {
    None: api.PROPAGATION_PRIVATE,
    "None": api.PROPAGATION_PRIVATE,
    "HostToContainer": api.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": api.PROPAGATION_BIDIRECTIONAL,
}
HOSTS_PATH = "/etc/hosts"


def sandbox_config(
    pod: Pod,
    config: KubeletConfig,
    attempt: int,
    cgroup_parent: str | None = None,
    users: api.UserNamespace | None = None,
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
            security_context=sandbox_security(pod, users),
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
    features: Features = field(default_factory=Features)
    """What the runtime can."""
    users: api.UserNamespace | None = None
    """The pod's user namespace, if it has one of its own."""
    target: str = ""
    """ID of the container whose PID namespace it shares; empty: none."""
    hosts_file: str = ""
    """Host path of the managed hosts file; empty: none."""


def needs_features(pod: Pod, container: Container) -> bool:
    """Whether it matters for a container what the runtime can."""
    return wants_strict_groups(pod) or any(mount.recursive_read_only for mount in container.volume_mounts)


def container_config(pod: Pod, container: Container, around: Surroundings) -> api.ContainerConfig:
    """The configuration of one container; makes its log folder and termination file.

    Raises ContainerConfigError and OSError.
    """
    env = around.environment
    if wants_strict_groups(pod) and not around.features.strict_groups:
        raise ContainerConfigError("SupplementalGroupsPolicy=Strict is not supported in this node")
    security = container_security(
        pod, container, around.image.uid, around.image.user, around.config.seccomp_default
    )
    security.namespace_options.CopyFrom(namespace_options(pod, around.users))
    if around.target:
        security.namespace_options.pid = api.TARGET
        security.namespace_options.target_id = around.target
    os.makedirs(
        os.path.join(podfiles.log_directory(around.config, pod), container.name), 0o755, exist_ok=True
    )
    return api.ContainerConfig(
        metadata=api.ContainerMetadata(name=container.name, attempt=around.attempt),
        image=api.ImageSpec(image=around.image.ref, user_specified_image=container.image),
        command=[expand(word, env) for word in container.command],
        args=[expand(word, env) for word in container.args],
        working_dir=container.working_dir,
        envs=[api.KeyValue(key=key, value=_bytes(value)) for key, value in env.items()],
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
            resources=linux_resources(pod, container, around.config.resources),
            security_context=security,
        ),
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


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
    fixed = {volume.name for volume in pod.spec.volumes if _is_read_only(volume)}
    mounts = [
        _mount(mount, around, SubPath(around.config.pod_dir(pod.uid), mount.name, container.name, index))
        for index, mount in enumerate(container.volume_mounts)
    ]
    taken = {posixpath.normpath(mount.container_path) for mount in mounts}
    if around.hosts_file and HOSTS_PATH not in taken:
        mounts.append(api.Mount(container_path=HOSTS_PATH, host_path=around.hosts_file))
    if container.termination_message_path:
        path = podfiles.make_termination_file(around.config, pod, container)
        where = podfiles.absolute(container.termination_message_path)
        mounts.append(api.Mount(container_path=where, host_path=path))
    for mount, asked in zip(mounts, container.volume_mounts, strict=False):
        mount.readonly = mount.readonly or asked.name in fixed
    if around.users is not None:
        for mount in mounts:
            mount.uidMappings.extend(around.users.uids)
            mount.gidMappings.extend(around.users.gids)
    return mounts


def _is_read_only(volume: Volume) -> bool:
    """Whether no container may write to the volume, whatever its mount says."""
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.read_only
    made = (volume.config_map, volume.secret, volume.downward_api, volume.projected)
    return any(each is not None for each in made)


def _mount(mount: VolumeMount, around: Surroundings, place: SubPath) -> api.Mount:
    path = podfiles.absolute(mount.mount_path)
    sub_path = expand_sub_path(mount.sub_path_expr, around.environment) or mount.sub_path
    if mount.name in around.image_volumes:
        return api.Mount(
            container_path=path,
            readonly=True,
            image=api.ImageSpec(image=around.image_volumes[mount.name]),
            image_sub_path=sub_path,
        )
    if mount.name not in around.volumes:
        raise ContainerConfigError(
            f'cannot find volume "{mount.name}" to mount into container "{place.container}"'
        )
    source = around.volumes[mount.name]
    if sub_path:
        source = open_sub_path(place, source, sub_path)
    return api.Mount(
        container_path=path,
        host_path=source,
        readonly=mount.read_only,
        propagation=_PROPAGATION[mount.mount_propagation],
        recursive_read_only=_recursive_read_only(mount, around.features.recursive_read_only),
    )


def expand_sub_path(text: str, environment: Mapping[str, str]) -> str:
    """A subPathExpr with its variables; one that is unknown or empty is an error.

    With an empty one the container would be shown what lies above its own folder.
    """
    if missing := sorted(name for name in names(text) if not environment.get(name)):
        raise ContainerConfigError(f"missing value for {', '.join(missing)}")
    return expand(text, environment)


def open_sub_path(place: SubPath, source: str, path: str) -> str:
    """The host path that shows a part of a volume.

    Raises ContainerConfigError without details: they could tell of the host's files.
    """
    if path.startswith("/"):
        raise ContainerConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ContainerConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    try:
        return subpath.prepare(place, source, path)
    except OSError as exc:
        log.warning("subPath %s of volume %s, container %s: %s", path, place.volume, place.container, exc)
        what = "create subPath directory" if isinstance(exc, subpath.CantMake) else "prepare subPath"
        raise ContainerConfigError(
            f'failed to {what} for volumeMount "{place.volume}" of container "{place.container}"'
        ) from None


def _recursive_read_only(mount: VolumeMount, supported: bool) -> bool:
    """KEP-3857. Raises ContainerConfigError."""
    mode = mount.recursive_read_only
    if mode in (None, "Disabled"):
        return False
    why = ""
    if not mount.read_only:
        why = "it is not read-only"
    elif mount.mount_propagation not in (None, "None"):
        why = f'it is not compatible with propagation "{mount.mount_propagation}"'
    elif not supported and mode == "Enabled":
        why = "it is not supported by the runtime"
    if why:
        raise ContainerConfigError(
            f'failed to resolve recursive read-only mode: volume "{mount.name}" requested recursive '
            f"read-only mode, but {why}"
        )
    return supported

"""Sandboxes and containers as NRI describes them to plugins."""

from __future__ import annotations

from minikubelet.criapi import nri_pb2 as nri
from minikubelet.nri import scheduling
from minikubelet.runtime import container_spec
from minikubelet.runtime.models import (
    Container,
    ContainerState,
    LinuxResources,
    Sandbox,
    SecurityProfile,
)
from minikubelet.wire.messages import Device, Mount, StartContainer

_STATES = {
    ContainerState.CREATED: nri.CONTAINER_CREATED,
    ContainerState.RUNNING: nri.CONTAINER_RUNNING,
    ContainerState.EXITED: nri.CONTAINER_STOPPED,
    ContainerState.UNKNOWN: nri.CONTAINER_UNKNOWN,
}
_PROFILES = {
    "RuntimeDefault": nri.SecurityProfile.RUNTIME_DEFAULT,
    "Unconfined": nri.SecurityProfile.UNCONFINED,
    "Localhost": nri.SecurityProfile.LOCALHOST,
}


def sandbox_message(sandbox: Sandbox) -> nri.PodSandbox:
    """A pod."""
    config, status = sandbox.config, sandbox.status
    return nri.PodSandbox(
        id=sandbox.id,
        name=config.metadata.name,
        uid=config.metadata.uid,
        namespace=config.metadata.namespace,
        labels=config.labels,
        annotations=config.annotations,
        runtime_handler=sandbox.runtime_handler,
        pid=status.pid,
        ips=list(status.ips),
        linux=nri.LinuxPodSandbox(
            pod_overhead=_resources_or_none(status.overhead or config.overhead),
            pod_resources=_resources_or_none(status.resources or config.resources),
            cgroup_parent=config.cgroup_parent,
            cgroups_path=sandbox.cgroup,
            namespaces=_namespaces(sandbox),
        ),
    )


def _namespaces(sandbox: Sandbox) -> list[nri.LinuxNamespace]:
    """The pod's network namespace while pause keeps it; none with the host's."""
    status = sandbox.status
    if sandbox.config.namespaces.network == "node" or status.stopped_at or not status.pid:
        return []
    return [nri.LinuxNamespace(type="network", path=f"/proc/{status.pid}/ns/net")]


def container_message(container: Container, request: StartContainer | None) -> nri.Container:
    """A container; without the request that starts it (it can't be made any more) some parts are missing."""
    config, status, adjusted = container.config, container.status, container.config.adjusted
    annotations = {
        name: value for name, value in config.annotations.items() if name not in adjusted.removed_annotations
    }
    message = nri.Container(
        id=container.id,
        pod_sandbox_id=container.sandbox.id,
        name=config.metadata.name,
        state=_STATES[container.state],
        labels=config.labels,
        annotations={**annotations, **container_spec.oci_annotations(container), **adjusted.annotations},
        pid=status.pid,
        created_at=container.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        status_reason=status.reason,
        status_message=status.message,
        CDI_devices=[nri.CDIDevice(name=name) for name in config.cdi_devices],
        linux=nri.LinuxContainer(
            resources=resources_message(container.resources),
            oom_score_adj=nri.OptionalInt(value=container.resources.oom_score_adj),
            cgroups_path=container.cgroup,
            seccomp_profile=_profile(config.security.seccomp),
        ),
    )
    if status.user is not None:
        message.user.CopyFrom(
            nri.User(uid=status.user.uid, gid=status.user.gid, additional_gids=status.user.groups)
        )
    if request is not None:
        _add_start(message, request)
    return message


def _add_start(message: nri.Container, request: StartContainer) -> None:
    process = request.process
    message.args.extend(_text(item) for item in process.args)
    message.env.extend(_text(item) for item in process.env)
    message.mounts.extend(_mount(mount) for mount in request.mounts)
    message.linux.devices.extend(_device(device) for device in request.devices)
    message.linux.sysctl.update(request.sysctls)
    if process.scheduler is not None:
        message.linux.scheduler.CopyFrom(scheduling.scheduler_message(process.scheduler))
    if process.io_priority is not None:
        message.linux.io_priority.CopyFrom(scheduling.io_priority_message(process.io_priority))
    message.rlimits.extend(
        nri.POSIXRlimit(type=limit.name, hard=limit.hard, soft=limit.soft) for limit in process.rlimits
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # protobuf strings are UTF-8


def _mount(mount: Mount) -> nri.Mount:
    options = [*mount.flags, mount.propagation]
    if mount.kind == "bind":
        options.insert(0, "rbind")
    if mount.data:
        options += mount.data.split(",")
    return nri.Mount(destination=mount.target, type=mount.kind, source=mount.source, options=options)


def _device(device: Device) -> nri.LinuxDevice:
    return nri.LinuxDevice(
        path=device.path,
        type=device.kind,
        major=device.major,
        minor=device.minor,
        file_mode=nri.OptionalFileMode(value=device.mode),
        uid=nri.OptionalUInt32(value=device.uid),
        gid=nri.OptionalUInt32(value=device.gid),
    )


def _profile(profile: SecurityProfile | None) -> nri.SecurityProfile | None:
    if profile is None:
        return None
    return nri.SecurityProfile(profile_type=_PROFILES[profile.kind], localhost_ref=profile.localhost_ref)


def _resources_or_none(resources: LinuxResources | None) -> nri.LinuxResources | None:
    return None if resources is None else resources_message(resources)


def resources_message(resources: LinuxResources) -> nri.LinuxResources:
    """CRI's resources; what is 0 there isn't set."""
    message = nri.LinuxResources(unified=resources.unified)
    if resources.memory_limit:
        message.memory.limit.value = resources.memory_limit
    if resources.memory_swap_limit:
        message.memory.swap.value = resources.memory_swap_limit
    if resources.cpu_shares:
        message.cpu.shares.value = resources.cpu_shares
    if resources.cpu_quota:
        message.cpu.quota.value = resources.cpu_quota
    if resources.cpu_period:
        message.cpu.period.value = resources.cpu_period
    message.cpu.cpus = resources.cpuset_cpus
    message.cpu.mems = resources.cpuset_mems
    for limit in resources.hugepages:
        message.hugepage_limits.add(page_size=limit.page_size, limit=limit.limit)
    return message

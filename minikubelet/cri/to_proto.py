"""The runtime's sandboxes and containers as CRI messages."""

from __future__ import annotations

from collections.abc import Iterable

from minikubelet.base.clock import now_ns
from minikubelet.cri import enums
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.events import Event, EventKind
from minikubelet.runtime.models import (
    Container,
    ContainerState,
    IDMap,
    ImageSpec,
    LinuxResources,
    MountConfig,
    Sandbox,
    SandboxState,
    UserNamespace,
)

SANDBOX_STATE = {
    SandboxState.READY: api.SANDBOX_READY,
    SandboxState.NOT_READY: api.SANDBOX_NOTREADY,
}
CONTAINER_STATE = {
    ContainerState.CREATED: api.CONTAINER_CREATED,
    ContainerState.RUNNING: api.CONTAINER_RUNNING,
    ContainerState.EXITED: api.CONTAINER_EXITED,
    ContainerState.UNKNOWN: api.CONTAINER_UNKNOWN,
}


_EVENT = {
    EventKind.CREATED: api.CONTAINER_CREATED_EVENT,
    EventKind.STARTED: api.CONTAINER_STARTED_EVENT,
    EventKind.STOPPED: api.CONTAINER_STOPPED_EVENT,
    EventKind.DELETED: api.CONTAINER_DELETED_EVENT,
}


def sandbox_metadata(sandbox: Sandbox) -> api.PodSandboxMetadata:
    """PodSandboxMetadata."""
    metadata = sandbox.config.metadata
    return api.PodSandboxMetadata(
        name=metadata.name, uid=metadata.uid, namespace=metadata.namespace, attempt=metadata.attempt
    )


def sandbox_item(sandbox: Sandbox) -> api.PodSandbox:
    """One line of ListPodSandbox."""
    return api.PodSandbox(
        id=sandbox.id,
        metadata=sandbox_metadata(sandbox),
        state=SANDBOX_STATE[sandbox.state],
        created_at=sandbox.created_at,
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.runtime_handler,
    )


def sandbox_status(sandbox: Sandbox) -> api.PodSandboxStatus:
    """PodSandboxStatus. A sandbox that is not ready has no IP any more, as in containerd."""
    spaces = sandbox.config.namespaces
    ips = sandbox.status.ips if sandbox.state is SandboxState.READY else ()
    return api.PodSandboxStatus(
        id=sandbox.id,
        metadata=sandbox_metadata(sandbox),
        state=SANDBOX_STATE[sandbox.state],
        created_at=sandbox.created_at,
        network=api.PodSandboxNetworkStatus(
            ip=ips[0] if ips else "", additional_ips=[api.PodIP(ip=ip) for ip in ips[1:]]
        ),
        linux=api.LinuxPodSandboxStatus(
            namespaces=api.Namespace(
                options=api.NamespaceOption(
                    network=enums.NAMESPACE_NUMBER[spaces.network],
                    pid=enums.NAMESPACE_NUMBER[spaces.pid],
                    ipc=enums.NAMESPACE_NUMBER[spaces.ipc],
                    target_id=spaces.target_id,
                    userns_options=_users(spaces.users),
                )
            )
        ),
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.runtime_handler,
    )


def image_spec(spec: ImageSpec) -> api.ImageSpec:
    """ImageSpec, as it was asked for."""
    return api.ImageSpec(
        image=spec.image,
        annotations=spec.annotations,
        user_specified_image=spec.user_specified_image,
        runtime_handler=spec.runtime_handler,
    )


def container_metadata(container: Container) -> api.ContainerMetadata:
    """ContainerMetadata."""
    metadata = container.config.metadata
    return api.ContainerMetadata(name=metadata.name, attempt=metadata.attempt)


def container_attributes(container: Container) -> api.ContainerAttributes:
    """ContainerAttributes, for measurements."""
    return api.ContainerAttributes(
        id=container.id,
        metadata=container_metadata(container),
        labels=container.config.labels,
        annotations=container.config.annotations,
    )


def container_item(container: Container) -> api.Container:
    """One line of ListContainers."""
    return api.Container(
        id=container.id,
        pod_sandbox_id=container.sandbox.id,
        metadata=container_metadata(container),
        image=image_spec(container.config.image),
        image_ref=container.image_id,
        state=CONTAINER_STATE[container.state],
        created_at=container.created_at,
        labels=container.config.labels,
        annotations=container.config.annotations,
        image_id=container.image_id,
    )


def container_status(container: Container) -> api.ContainerStatus:
    """ContainerStatus."""
    status = container.status
    user = None
    if status.user is not None:
        user = api.ContainerUser(
            linux=api.LinuxContainerUser(
                uid=status.user.uid, gid=status.user.gid, supplemental_groups=status.user.groups
            )
        )
    return api.ContainerStatus(
        id=container.id,
        metadata=container_metadata(container),
        state=CONTAINER_STATE[container.state],
        created_at=container.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        image=image_spec(container.config.image),
        image_ref=container.image_id,
        reason=status.reason,
        message=status.message,
        labels=container.config.labels,
        annotations=container.config.annotations,
        mounts=_mounts(container),
        log_path=container.log_path,
        resources=api.ContainerResources(linux=linux_resources(container.resources)),
        image_id=container.image_id,
        user=user,
        stop_signal=enums.SIGNAL_NUMBER.get(container.stop_signal, api.SIGNAL_RUNTIME_DEFAULT),
    )


def _mounts(container: Container) -> list[api.Mount]:
    """As they were asked for; image volumes tell which image it is (KEP-5365)."""
    images = iter(container.image.volume_ids)
    made = []
    for config in container.config.mounts:
        made.append(mount(config))
        if config.image is not None:
            made[-1].image.image_ref = next(images, "")
    return made


def mount(config: MountConfig) -> api.Mount:
    """Mount, as it was asked for."""
    return api.Mount(
        container_path=config.container_path,
        host_path=config.host_path,
        readonly=config.readonly,
        selinux_relabel=config.selinux_relabel,
        propagation=enums.PROPAGATION_NUMBER[config.propagation],
        recursive_read_only=config.recursive_read_only,
        mount_options=config.options,
        image=None if config.image is None else image_spec(config.image),
        image_sub_path=config.image_sub_path,
        uidMappings=_mappings(config.uid_mappings),
        gidMappings=_mappings(config.gid_mappings),
    )


def _mappings(maps: Iterable[IDMap]) -> list[api.IDMapping]:
    return [
        api.IDMapping(host_id=item.host_id, container_id=item.container_id, length=item.length)
        for item in maps
    ]


def _users(users: UserNamespace | None) -> api.UserNamespace | None:
    """UserNamespace, as it was asked for."""
    if users is None:
        return None
    return api.UserNamespace(
        mode=enums.NAMESPACE_NUMBER[users.mode], uids=_mappings(users.uids), gids=_mappings(users.gids)
    )


def linux_resources(resources: LinuxResources) -> api.LinuxContainerResources:
    """LinuxContainerResources in force."""
    return api.LinuxContainerResources(
        cpu_period=resources.cpu_period,
        cpu_quota=resources.cpu_quota,
        cpu_shares=resources.cpu_shares,
        memory_limit_in_bytes=resources.memory_limit,
        oom_score_adj=resources.oom_score_adj,
        cpuset_cpus=resources.cpuset_cpus,
        cpuset_mems=resources.cpuset_mems,
        hugepage_limits=[
            api.HugepageLimit(page_size=limit.page_size, limit=limit.limit) for limit in resources.hugepages
        ],
        unified=resources.unified,
        memory_swap_limit_in_bytes=resources.memory_swap_limit,
    )


def container_statuses(containers: Iterable[Container]) -> list[api.ContainerStatus]:
    """The newest first: a kubelet with EventedPLEG takes the first of a name for the one that counts."""
    newest_first = sorted(containers, key=lambda each: each.created_at, reverse=True)
    return [container_status(each) for each in newest_first]


def event(source: Event) -> api.ContainerEventResponse:
    """ContainerEventResponse with the pod as it is now."""
    return api.ContainerEventResponse(
        container_id=source.id,
        container_event_type=_EVENT[source.kind],
        created_at=source.created_at or now_ns(),
        pod_sandbox_status=sandbox_status(source.sandbox),
        containers_statuses=container_statuses(source.containers),
    )

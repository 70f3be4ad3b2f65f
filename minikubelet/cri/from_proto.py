"""CRI requests as the runtime's own configuration. Raises INVALID_ARGUMENT naming the field."""

from __future__ import annotations

from minikubelet.base.errors import invalid, unimplemented
from minikubelet.cri import enums
from minikubelet.cri.enums import word
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.models import (
    DNS,
    ContainerConfig,
    ContainerMetadata,
    ContainerSecurity,
    DeviceConfig,
    HugepageLimit,
    IDMap,
    ImageSpec,
    LinuxResources,
    MountConfig,
    Namespaces,
    Port,
    SandboxConfig,
    SandboxMetadata,
    SandboxSecurity,
    SecurityProfile,
    SELinux,
    UserNamespace,
)
from minikubelet.runtime.restore_pod import PodRestore, named

_SECURITY = "config.linux.security_context"


def sandbox_config(message: api.PodSandboxConfig) -> SandboxConfig:
    """PodSandboxConfig."""
    if not message.HasField("metadata"):
        raise invalid("config.metadata", "is missing")
    if message.HasField("windows"):
        raise unimplemented("config.windows: Windows pods")
    linux = message.linux
    security = linux.security_context
    return SandboxConfig(
        metadata=SandboxMetadata(
            name=message.metadata.name,
            uid=message.metadata.uid,
            namespace=message.metadata.namespace,
            attempt=message.metadata.attempt,
        ),
        hostname=message.hostname,
        log_directory=message.log_directory,
        dns=_dns(message.dns_config) if message.HasField("dns_config") else None,
        ports=tuple(_port(number, port) for number, port in enumerate(message.port_mappings)),
        labels=dict(message.labels),
        annotations=dict(message.annotations),
        cgroup_parent=linux.cgroup_parent,
        sysctls=dict(linux.sysctls),
        namespaces=_namespaces(security.namespace_options),
        security=_sandbox_security(security),
        overhead=linux_resources(linux.overhead) if linux.HasField("overhead") else None,
        resources=linux_resources(linux.resources) if linux.HasField("resources") else None,
    )


def _dns(message: api.DNSConfig) -> DNS:
    return DNS(
        servers=tuple(message.servers), searches=tuple(message.searches), options=tuple(message.options)
    )


def _port(number: int, message: api.PortMapping) -> Port:
    return Port(
        protocol=word(f"config.port_mappings[{number}].protocol", enums.PROTOCOL, message.protocol),
        container_port=message.container_port,
        host_port=message.host_port,
        host_ip=message.host_ip,
    )


def _namespaces(message: api.NamespaceOption) -> Namespaces:
    field = f"{_SECURITY}.namespace_options"
    users = None
    if message.HasField("userns_options"):
        options = message.userns_options
        users = UserNamespace(
            mode=word(f"{field}.userns_options.mode", enums.NAMESPACE, options.mode),
            uids=_mappings(options.uids),
            gids=_mappings(options.gids),
        )
    return Namespaces(
        network=word(f"{field}.network", enums.NAMESPACE, message.network),
        pid=word(f"{field}.pid", enums.NAMESPACE, message.pid),
        ipc=word(f"{field}.ipc", enums.NAMESPACE, message.ipc),
        target_id=message.target_id,
        users=users,
    )


def _mappings(messages: object) -> tuple[IDMap, ...]:
    return tuple(
        IDMap(host_id=m.host_id, container_id=m.container_id, length=m.length)
        for m in messages  # type: ignore[attr-defined]
    )


def _sandbox_security(message: api.LinuxSandboxSecurityContext) -> SandboxSecurity:
    return SandboxSecurity(
        run_as_user=message.run_as_user.value if message.HasField("run_as_user") else None,
        run_as_group=message.run_as_group.value if message.HasField("run_as_group") else None,
        readonly_rootfs=message.readonly_rootfs,
        supplemental_groups=tuple(message.supplemental_groups),
        supplemental_policy=word(
            f"{_SECURITY}.supplemental_groups_policy", enums.GROUPS_POLICY, message.supplemental_groups_policy
        ),
        privileged=message.privileged,
        seccomp=_seccomp(message),
        apparmor=_profile(f"{_SECURITY}.apparmor", message.apparmor)
        if message.HasField("apparmor")
        else None,
        selinux=_selinux(message.selinux_options) if message.HasField("selinux_options") else None,
    )


def _seccomp(
    message: api.LinuxSandboxSecurityContext | api.LinuxContainerSecurityContext,
) -> SecurityProfile | None:
    if message.HasField("seccomp"):
        return _profile(f"{_SECURITY}.seccomp", message.seccomp)
    if message.seccomp_profile_path:
        return _legacy_profile(f"{_SECURITY}.seccomp_profile_path", message.seccomp_profile_path)
    return None


def _profile(field: str, message: api.SecurityProfile) -> SecurityProfile:
    kind = word(f"{field}.profile_type", enums.PROFILE, message.profile_type)
    return SecurityProfile(kind=kind, localhost_ref=message.localhost_ref)


def _legacy_profile(field: str, text: str) -> SecurityProfile:
    """The deprecated string form: ``runtime/default``, ``unconfined``, ``localhost/NAME``."""
    if text in ("runtime/default", "docker/default"):
        return SecurityProfile(kind="RuntimeDefault")
    if text == "unconfined":
        return SecurityProfile(kind="Unconfined")
    if text.startswith("localhost/"):
        return SecurityProfile(kind="Localhost", localhost_ref=text.removeprefix("localhost/"))
    raise invalid(field, f"{text!r} is none of runtime/default, unconfined, localhost/NAME")


def _selinux(message: api.SELinuxOption) -> SELinux:
    return SELinux(user=message.user, role=message.role, type=message.type, level=message.level)


def linux_resources(message: api.LinuxContainerResources) -> LinuxResources:
    """LinuxContainerResources."""
    return LinuxResources(
        cpu_period=message.cpu_period,
        cpu_quota=message.cpu_quota,
        cpu_shares=message.cpu_shares,
        memory_limit=message.memory_limit_in_bytes,
        oom_score_adj=message.oom_score_adj,
        cpuset_cpus=message.cpuset_cpus,
        cpuset_mems=message.cpuset_mems,
        hugepages=tuple(
            HugepageLimit(page_size=limit.page_size, limit=limit.limit) for limit in message.hugepage_limits
        ),
        unified=dict(message.unified),
        memory_swap_limit=message.memory_swap_limit_in_bytes,
    )


def image_spec(message: api.ImageSpec) -> ImageSpec:
    """ImageSpec."""
    return ImageSpec(
        image=message.image,
        annotations=dict(message.annotations),
        user_specified_image=message.user_specified_image,
        runtime_handler=message.runtime_handler,
    )


def container_config(message: api.ContainerConfig) -> ContainerConfig:
    """ContainerConfig."""
    if not message.HasField("metadata"):
        raise invalid("config.metadata", "is missing")
    if message.HasField("windows"):
        raise unimplemented("config.windows: Windows containers")
    linux = message.linux
    return ContainerConfig(
        metadata=ContainerMetadata(name=message.metadata.name, attempt=message.metadata.attempt),
        image=image_spec(message.image),
        command=tuple(message.command),
        args=tuple(message.args),
        working_dir=message.working_dir,
        envs=tuple((env.key, env.value) for env in message.envs),
        mounts=tuple(
            _mount(f"config.mounts[{number}]", mount) for number, mount in enumerate(message.mounts)
        ),
        devices=tuple(
            DeviceConfig(
                container_path=device.container_path,
                host_path=device.host_path,
                permissions=device.permissions,
            )
            for device in message.devices
        ),
        cdi_devices=tuple(device.name for device in message.CDI_devices),
        labels=dict(message.labels),
        annotations=dict(message.annotations),
        log_path=message.log_path,
        stdin=message.stdin,
        stdin_once=message.stdin_once,
        tty=message.tty,
        stop_signal=word("config.stop_signal", enums.SIGNAL, message.stop_signal),
        resources=linux_resources(linux.resources),
        namespaces=_namespaces(linux.security_context.namespace_options),
        security=_container_security(linux.security_context),
    )


def pod_restore(message: api.RestorePodRequest) -> PodRestore:
    """RestorePodRequest."""
    if not message.HasField("config"):
        raise invalid("config", "is missing")
    containers = []
    for number, config in enumerate(message.container_configs):
        with named(f"container_configs[{number}]"):
            containers.append(container_config(config))
    return PodRestore(
        checkpoint_path=message.checkpoint_path,
        config=sandbox_config(message.config),
        runtime_handler=message.runtime_handler,
        options=dict(message.options),
        containers=tuple(containers),
    )


def _mount(field: str, message: api.Mount) -> MountConfig:
    return MountConfig(
        container_path=message.container_path,
        host_path=message.host_path,
        readonly=message.readonly,
        selinux_relabel=message.selinux_relabel,
        propagation=word(f"{field}.propagation", enums.PROPAGATION, message.propagation),
        recursive_read_only=message.recursive_read_only,
        uid_mappings=_mappings(message.uidMappings),
        gid_mappings=_mappings(message.gidMappings),
        image=image_spec(message.image) if message.HasField("image") and message.image.image else None,
        image_sub_path=message.image_sub_path,
        options=tuple(message.mount_options),
    )


def _container_security(message: api.LinuxContainerSecurityContext) -> ContainerSecurity:
    capabilities = message.capabilities
    return ContainerSecurity(
        add_capabilities=tuple(capabilities.add_capabilities),
        drop_capabilities=tuple(capabilities.drop_capabilities),
        add_ambient_capabilities=tuple(capabilities.add_ambient_capabilities),
        privileged=message.privileged,
        selinux=_selinux(message.selinux_options) if message.HasField("selinux_options") else None,
        run_as_user=message.run_as_user.value if message.HasField("run_as_user") else None,
        run_as_group=message.run_as_group.value if message.HasField("run_as_group") else None,
        run_as_username=message.run_as_username,
        readonly_rootfs=message.readonly_rootfs,
        supplemental_groups=tuple(message.supplemental_groups),
        supplemental_policy=word(
            f"{_SECURITY}.supplemental_groups_policy", enums.GROUPS_POLICY, message.supplemental_groups_policy
        ),
        no_new_privs=message.no_new_privs,
        masked_paths=tuple(message.masked_paths),
        readonly_paths=tuple(message.readonly_paths),
        seccomp=_seccomp(message),
        apparmor=_apparmor(message),
    )


def _apparmor(message: api.LinuxContainerSecurityContext) -> SecurityProfile | None:
    if message.HasField("apparmor"):
        return _profile(f"{_SECURITY}.apparmor", message.apparmor)
    if message.apparmor_profile:
        return _legacy_profile(f"{_SECURITY}.apparmor_profile", message.apparmor_profile)
    return None

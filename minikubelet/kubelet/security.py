"""Security contexts of pod and container merged and put into CRI's words."""

from __future__ import annotations

import glob
from functools import cache

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.defaults import all_containers
from minikubelet.kubelet.environment import ContainerConfigError
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import (
    AppArmorProfile,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
)
from minikubelet.kubelet.objects.podspec import PodSecurityContext
from minikubelet.linux import apparmor

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SECCOMP_ROOT = "/var/lib/kubelet/seccomp"
"""Localhost profiles are relative to this folder, as upstream's default root."""
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


@cache
def throttles(cpus: str = "/sys/devices/system/cpu") -> tuple[str, ...]:
    """Where the kernel tells how often each CPU was too hot: masked, as it shows what neighbours do."""
    return tuple(sorted(glob.glob(f"{cpus}/cpu[0-9]*/thermal_throttle")))


def namespace_options(pod: Pod, users: api.UserNamespace | None = None) -> api.NamespaceOption:
    """Network, PID, IPC and user namespaces of the pod's containers."""
    spec = pod.spec
    pid = api.POD if spec.share_process_namespace else api.CONTAINER
    return api.NamespaceOption(
        network=api.NODE if spec.host_network else api.POD,
        pid=api.NODE if spec.host_pid else pid,
        ipc=api.NODE if spec.host_ipc else api.POD,
        userns_options=users,
    )


def sandbox_security(pod: Pod, users: api.UserNamespace | None = None) -> api.LinuxSandboxSecurityContext:
    """The sandbox's security context; its seccomp profile is always the runtime's default."""
    context = pod.spec.security_context or PodSecurityContext()
    everyone = [*pod.spec.init_containers, *pod.spec.containers]
    return api.LinuxSandboxSecurityContext(
        namespace_options=namespace_options(pod, users),
        privileged=any(c.security_context and c.security_context.privileged for c in everyone),
        seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
        run_as_user=_int(context.run_as_user),
        run_as_group=_int(context.run_as_group),
        selinux_options=_selinux(context.se_linux_options),
        supplemental_groups=_groups(context),
        supplemental_groups_policy=_groups_policy(context),
    )


def container_security(
    pod: Pod, container: Container, image_uid: int | None, image_user: str, seccomp_default: bool = False
) -> api.LinuxContainerSecurityContext:
    """The container's security context over the pod's; the image's user where neither says one.

    Raises ContainerConfigError if runAsNonRoot can't be held.
    """
    context = pod.spec.security_context or PodSecurityContext()
    own = container.security_context or SecurityContext()
    user = own.run_as_user if own.run_as_user is not None else context.run_as_user
    group = own.run_as_group if own.run_as_group is not None else context.run_as_group
    _check_non_root(pod, container, user, image_uid, image_user)
    name = ""
    if user is None:
        user, name = image_uid, image_user
    unmasked = own.proc_mount == "Unmasked"
    return api.LinuxContainerSecurityContext(
        capabilities=_capabilities(own),
        privileged=bool(own.privileged),
        namespace_options=namespace_options(pod),
        selinux_options=_selinux(own.se_linux_options or context.se_linux_options),
        run_as_user=_int(user),
        run_as_group=_int(group),
        run_as_username=name,
        readonly_rootfs=bool(own.read_only_root_filesystem),
        supplemental_groups=_groups(context),
        supplemental_groups_policy=_groups_policy(context),
        no_new_privs=own.allow_privilege_escalation is False,
        masked_paths=() if unmasked else (*MASKED_PATHS, *throttles()),
        readonly_paths=() if unmasked else READONLY_PATHS,
        seccomp=_seccomp(own.seccomp_profile or context.seccomp_profile, seccomp_default),
        apparmor=_apparmor(_app_armor_profile(pod, container)),
    )


def _check_non_root(
    pod: Pod, container: Container, user: int | None, image_uid: int | None, image_user: str
) -> None:
    context = pod.spec.security_context or PodSecurityContext()
    own = container.security_context or SecurityContext()
    wanted = own.run_as_non_root if own.run_as_non_root is not None else context.run_as_non_root
    if not wanted:
        return
    where = f'(pod: "{pod.title}", container: {container.name})'
    if user is not None:
        if user == 0:
            raise ContainerConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    if image_uid == 0:
        raise ContainerConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if image_uid is None and image_user:
        raise ContainerConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), "
            f"cannot verify user is non-root {where}"
        )


def _int(value: int | None) -> api.Int64Value | None:
    return None if value is None else api.Int64Value(value=value)


def _capabilities(context: SecurityContext) -> api.Capability | None:
    if context.capabilities is None:
        return None
    return api.Capability(
        add_capabilities=context.capabilities.add, drop_capabilities=context.capabilities.drop
    )


def _selinux(options: SELinuxOptions | None) -> api.SELinuxOption | None:
    if options is None:
        return None
    return api.SELinuxOption(user=options.user, role=options.role, type=options.type, level=options.level)


def _groups(context: PodSecurityContext) -> list[int]:
    fs_group = [] if context.fs_group is None else [context.fs_group]
    return [*fs_group, *context.supplemental_groups]


def wants_strict_groups(pod: Pod) -> bool:
    """Whether a pod's processes shall have no groups of the image's /etc/group."""
    context = pod.spec.security_context
    return context is not None and context.supplemental_groups_policy == "Strict"


def _groups_policy(context: PodSecurityContext) -> api.SupplementalGroupsPolicy:
    return api.Strict if context.supplemental_groups_policy == "Strict" else api.Merge


def _seccomp(profile: SeccompProfile | None, seccomp_default: bool) -> api.SecurityProfile:
    kinds = api.SecurityProfile
    if profile is None:
        return kinds(profile_type=kinds.RuntimeDefault if seccomp_default else kinds.Unconfined)
    if profile.type == "Localhost":
        if not profile.localhost_profile:
            raise ContainerConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
        return kinds(
            profile_type=kinds.Localhost, localhost_ref=f"{SECCOMP_ROOT}/{profile.localhost_profile}"
        )
    return kinds(profile_type=kinds.RuntimeDefault if profile.type == "RuntimeDefault" else kinds.Unconfined)


def app_armor_refusal(pod: Pod) -> str:
    """Why a pod can't be confined by AppArmor as it asks; empty if it can, or doesn't ask."""
    profiles = [_app_armor_profile(pod, each) for each in all_containers(pod.spec)]
    if all(profile is None or profile.type == "Unconfined" for profile in profiles):
        return ""
    return "" if apparmor.enabled() else "AppArmor is not enabled on the host"


def _app_armor_profile(pod: Pod, container: Container) -> AppArmorProfile | None:
    """The container's own field, else its annotation, else the pod's field."""
    if container.security_context is not None and container.security_context.app_armor_profile is not None:
        return container.security_context.app_armor_profile
    noted = _from_annotation(pod.metadata.annotations.get(APPARMOR_ANNOTATION + container.name, ""))
    context = pod.spec.security_context
    return noted or (context.app_armor_profile if context is not None else None)


def _apparmor(profile: AppArmorProfile | None) -> api.SecurityProfile | None:
    kinds = api.SecurityProfile
    if profile is None:
        return None
    if profile.type == "Localhost":
        if not profile.localhost_profile:
            raise ContainerConfigError("localhostProfile must be set if appArmorProfile type is Localhost.")
        return kinds(profile_type=kinds.Localhost, localhost_ref=profile.localhost_profile)
    return kinds(profile_type=kinds.RuntimeDefault if profile.type == "RuntimeDefault" else kinds.Unconfined)


def _from_annotation(value: str) -> AppArmorProfile | None:
    if value.startswith("localhost/"):
        return AppArmorProfile(type="Localhost", localhost_profile=value.removeprefix("localhost/"))
    return {
        "": None,
        "runtime/default": AppArmorProfile(type="RuntimeDefault"),
        "unconfined": AppArmorProfile(type="Unconfined"),
    }.get(value)

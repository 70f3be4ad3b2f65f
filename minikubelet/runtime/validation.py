"""What a sandbox or container configuration must be before anything is made for it.

Fields are named as the CRI request names them. Raises INVALID_ARGUMENT, or UNIMPLEMENTED for a wish that
isn't built: it is never dropped silently.
"""

from __future__ import annotations

import re

from minikubelet.base.errors import invalid
from minikubelet.network.pod_network import PortMapping
from minikubelet.network.port_maps import normalise
from minikubelet.runtime import checks, user_namespaces
from minikubelet.runtime.models import (
    ContainerConfig,
    ContainerSecurity,
    DeviceConfig,
    MountConfig,
    Namespaces,
    SandboxConfig,
    SandboxSecurity,
    SecurityProfile,
    SELinux,
)

RUNTIME_HANDLERS = ("", "minikubelet", "runc")
"""Names a RuntimeClass may give; there is one way to run a pod. ``runc`` is what many clusters say."""

_HOSTNAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?\Z")
_SYSCTL = re.compile(r"[a-z0-9_]+(?:\.[A-Za-z0-9_-]+)+\Z")
_SYSCTL_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_PERMISSIONS = re.compile(r"[rwm]{1,3}\Z")
_MOUNT_OPTIONS = ("noexec", "nodev", "nosuid")
_LABEL = re.compile(r"[A-Za-z0-9_.-]{0,255}\Z")
_LEVEL = re.compile(r"[A-Za-z0-9_.,:-]{0,1024}\Z")
_SIGNAL = re.compile(r"SIG[A-Z0-9]+(?:[+-]\d+)?\Z")

_IPC_SYSCTLS = frozenset(
    {
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced",
    }
)  # fmt: skip
"""Kernel parameters of the IPC namespace (ipc_namespaces(7)); with fs.mqueue.* they are all of them."""


def check_handler(field: str, name: str) -> None:
    """A RuntimeClass's handler, of a pod or of an image. Raises INVALID_ARGUMENT for an unknown one."""
    if name not in RUNTIME_HANDLERS:
        known = ", ".join(filter(None, RUNTIME_HANDLERS))
        raise invalid(field, f"no runtime handler {name!r} is configured, only {known}")


def check_sandbox(config: SandboxConfig) -> None:
    """Check a PodSandboxConfig."""
    metadata = config.metadata
    if not metadata.name:
        raise invalid("config.metadata.name", "is missing")
    for name in ("name", "uid", "namespace"):
        checks.plain(f"config.metadata.{name}", getattr(metadata, name), limit=1024)
    if config.hostname and not _HOSTNAME.match(config.hostname):
        raise invalid("config.hostname", f"{config.hostname!r} is not a host name of at most 64 characters")
    if config.log_directory:
        checks.absolute("config.log_directory", config.log_directory)
    _check_dns(config)
    _check_namespaces(config)
    normalise([PortMapping(p.protocol, p.container_port, p.host_port, p.host_ip) for p in config.ports])
    if config.cgroup_parent:
        _check_cgroup_parent(config.cgroup_parent)
    _check_sysctls(config)
    _check_sandbox_security(config.security)


def _check_dns(config: SandboxConfig) -> None:
    if config.dns is None:
        return
    for name in ("servers", "searches"):
        for number, text in enumerate(getattr(config.dns, name)):
            checks.one_word(f"config.dns_config.{name}[{number}]", text)
    for number, text in enumerate(config.dns.options):
        checks.one_word(f"config.dns_config.options[{number}]", text)


def _check_namespaces(config: SandboxConfig) -> None:
    spaces = config.namespaces
    field = "config.linux.security_context.namespace_options"
    checks.one_of(f"{field}.network", spaces.network, ("pod", "node"))
    checks.one_of(f"{field}.ipc", spaces.ipc, ("pod", "node"))
    checks.one_of(f"{field}.pid", spaces.pid, ("pod", "container", "node"))
    if spaces.target_id:
        raise invalid(f"{field}.target_id", "is for containers with pid TARGET")
    if spaces.users is not None:
        user_namespaces.check_options(f"{field}.userns_options", spaces.users)
        user_namespaces.check_sandbox(field, config)


def _check_cgroup_parent(path: str) -> None:
    field = "config.linux.cgroup_parent"
    checks.one_word(field, path)
    checks.inside(field, path)
    if any(len(part) > 255 for part in path.split("/")):
        raise invalid(field, "has an element of more than 255 bytes")
    if not path.strip("/."):
        raise invalid(field, f"{path!r} is the root of the hierarchy")


def _check_sysctls(config: SandboxConfig) -> None:
    for name, value in config.sysctls.items():
        check_sysctl(f"config.linux.sysctls[{name[:100]!r}]", name, value, config.namespaces)


def check_sysctl(field: str, name: str, value: str, namespaces: Namespaces) -> None:
    """A kernel parameter of a namespace of the pod's own, one line of text. Raises INVALID_ARGUMENT."""
    if not _SYSCTL.match(name):
        raise invalid(field, "is not a dotted kernel parameter")
    if not _SYSCTL_VALUE.match(value):
        raise invalid(field, f"value {value!r} has a control character")
    if name.startswith("net."):
        space, mode = "network", namespaces.network
    elif name.startswith("fs.mqueue.") or name in _IPC_SYSCTLS:
        space, mode = "ipc", namespaces.ipc
    else:
        raise invalid(field, "does not belong to a namespace of the pod")
    if mode == "node":
        raise invalid(field, f"can't be set in the host's {space} namespace")


def _check_sandbox_security(security: SandboxSecurity) -> None:
    field = "config.linux.security_context"
    if security.run_as_group is not None and security.run_as_user is None:
        raise invalid(f"{field}.run_as_group", "needs run_as_user")
    _check_ids(field, security)
    _check_profile(f"{field}.seccomp", security.seccomp)
    _check_profile(f"{field}.apparmor", security.apparmor)
    _check_selinux(f"{field}.selinux_options", security.selinux)


def _check_ids(field: str, security: SandboxSecurity | ContainerSecurity) -> None:
    if security.run_as_user is not None:
        checks.user_or_group(f"{field}.run_as_user", security.run_as_user)
    if security.run_as_group is not None:
        checks.user_or_group(f"{field}.run_as_group", security.run_as_group)
    for number, group in enumerate(security.supplemental_groups):
        checks.user_or_group(f"{field}.supplemental_groups[{number}]", group)


def _check_profile(field: str, profile: SecurityProfile | None) -> None:
    if profile is None:
        return
    if profile.kind == "Localhost" and not profile.localhost_ref:
        raise invalid(f"{field}.localhost_ref", "is missing")
    checks.plain(f"{field}.localhost_ref", profile.localhost_ref)


def _check_selinux(field: str, options: SELinux | None) -> None:
    """What no policy could know; the rest is the policy's to judge, where the host has one."""
    for name in ("user", "role", "type", "level") if options is not None else ():
        value = getattr(options, name)
        pattern = _LEVEL if name == "level" else _LABEL
        if not pattern.match(value):
            raise invalid(f"{field}.{name}", f"{value!r} is no part of an SELinux context")


# --- containers --------------------------------------------------------------------------------------


def check_container(config: ContainerConfig, sandbox: SandboxConfig) -> None:
    """Check a ContainerConfig for a container of ``sandbox``."""
    if not config.metadata.name:
        raise invalid("config.metadata.name", "is missing")
    checks.plain("config.metadata.name", config.metadata.name, limit=1024)
    if not config.image.image:
        raise invalid("config.image.image", "is missing")
    checks.plain("config.image.image", config.image.image)
    check_handler("config.image.runtime_handler", config.image.runtime_handler)
    checks.no_nul("config.command", config.command)
    checks.no_nul("config.args", config.args)
    if config.working_dir:
        checks.absolute("config.working_dir", config.working_dir)
    _check_environment(config)
    if config.log_path:
        checks.relative("config.log_path", config.log_path)
        if config.log_path.rpartition("/")[2] in ("", "."):
            raise invalid("config.log_path", f"{config.log_path!r} is a folder")
    for number, mount in enumerate(config.mounts):
        _check_mount(f"config.mounts[{number}]", mount)
    for number, device in enumerate(config.devices):
        _check_device(f"config.devices[{number}]", device)
    if config.stop_signal and not _SIGNAL.match(config.stop_signal):
        raise invalid("config.stop_signal", f"{config.stop_signal!r} is no signal")
    _check_container_namespaces(config, sandbox)
    user_namespaces.check_container(config, sandbox)
    _check_container_security(config.security, sandbox.security)


def _check_environment(config: ContainerConfig) -> None:
    for number, (key, value) in enumerate(config.envs):
        field = f"config.envs[{number}]"
        if not key or "=" in key or "\0" in key:
            raise invalid(f"{field}.key", f"{key!r} is no name of a variable")
        if b"\0" in value:
            raise invalid(f"{field}.value", "has a NUL byte")


def _check_mount(field: str, mount: MountConfig) -> None:
    checks.absolute(f"{field}.container_path", mount.container_path)
    if mount.image is not None:
        checks.plain(f"{field}.image.image", mount.image.image)
        check_handler(f"{field}.image.runtime_handler", mount.image.runtime_handler)
        checks.relative(f"{field}.image_sub_path", mount.image_sub_path)
        if mount.host_path:
            raise invalid(f"{field}.host_path", "and image exclude each other")
        if mount.propagation != "private":
            raise invalid(f"{field}.propagation", "of an image volume can only be PRIVATE")
    else:
        # Its image_sub_path means nothing then: the kubelet sends a subPath, which is in host_path already,
        # as image_sub_path too with every mount of a pod that has an image volume.
        checks.absolute(f"{field}.host_path", mount.host_path)
    for number, option in enumerate(mount.options):
        checks.one_of(f"{field}.mount_options[{number}]", option, _MOUNT_OPTIONS)
    if mount.recursive_read_only:
        # CRI: "If this is set to true: the mount must be readonly, propagation private".
        if not mount.readonly:
            raise invalid(f"{field}.recursive_read_only", "needs readonly")
        if mount.propagation != "private":
            raise invalid(f"{field}.recursive_read_only", "needs propagation PRIVATE")


def _check_device(field: str, device: DeviceConfig) -> None:
    checks.absolute(f"{field}.container_path", device.container_path)
    checks.absolute(f"{field}.host_path", device.host_path)
    if device.permissions and not _PERMISSIONS.match(device.permissions):
        raise invalid(f"{field}.permissions", f"{device.permissions!r} is not made of r, w and m")


def _check_container_namespaces(config: ContainerConfig, sandbox: SandboxConfig) -> None:
    spaces = config.namespaces
    field = "config.linux.security_context.namespace_options"
    checks.one_of(f"{field}.network", spaces.network, ("pod", "node"))
    checks.one_of(f"{field}.ipc", spaces.ipc, ("pod", "node"))
    checks.one_of(f"{field}.pid", spaces.pid, ("pod", "container", "node", "target"))
    for name in ("network", "ipc"):
        if getattr(spaces, name) == "node" and getattr(sandbox.namespaces, name) != "node":
            raise invalid(f"{field}.{name}", "is NODE, but the sandbox has a namespace of its own")
    if spaces.pid == "node" and sandbox.namespaces.pid != "node":
        raise invalid(f"{field}.pid", "is NODE, but the sandbox has a namespace of its own")
    if (spaces.pid == "target") != bool(spaces.target_id):
        raise invalid(f"{field}.target_id", "and pid TARGET need each other")


def _check_container_security(security: ContainerSecurity, sandbox: SandboxSecurity) -> None:
    field = "config.linux.security_context"
    if security.run_as_user is not None and security.run_as_username:
        raise invalid(f"{field}.run_as_username", "and run_as_user exclude each other")
    if security.run_as_group is not None and security.run_as_user is None and not security.run_as_username:
        raise invalid(f"{field}.run_as_group", "needs run_as_user or run_as_username")
    if security.run_as_username:
        checks.one_word(f"{field}.run_as_username", security.run_as_username)
        if ":" in security.run_as_username:
            raise invalid(f"{field}.run_as_username", f"{security.run_as_username!r} has a colon")
    if security.privileged and not sandbox.privileged:
        raise invalid(f"{field}.privileged", "needs a privileged sandbox")
    _check_ids(field, security)
    for name in ("masked_paths", "readonly_paths"):
        for number, path in enumerate(getattr(security, name)):
            checks.absolute(f"{field}.{name}[{number}]", path)
    _check_profile(f"{field}.seccomp", security.seccomp)
    _check_profile(f"{field}.apparmor", security.apparmor)
    _check_selinux(f"{field}.selinux_options", security.selinux)

"""What a request may say of user namespaces (KEP-127); everything else is INVALID_ARGUMENT, the field named.

A pod has none of its own (mode NODE, or no options) or one with one range of user and one of group IDs, both
with the container's root in it. Its containers are in it, whether they repeat the options or leave them out.
"""

from __future__ import annotations

from minikubelet.base.errors import invalid
from minikubelet.runtime import checks
from minikubelet.runtime.models import (
    ContainerConfig,
    ContainerSecurity,
    IDMap,
    MountConfig,
    SandboxConfig,
    SandboxSecurity,
    UserNamespace,
)

_SECURITY = "config.linux.security_context"
_OPTIONS = f"{_SECURITY}.namespace_options.userns_options"
_LAST_ID = 2**32 - 2
"""(uid_t) -1 is no ID but means "none" to system calls."""


def check_options(field: str, users: UserNamespace) -> None:
    """Check a UserNamespace message."""
    checks.one_of(f"{field}.mode", users.mode, ("pod", "node"))
    for name, maps in (("uids", users.uids), ("gids", users.gids)):
        if users.mode == "node":
            if maps:
                raise invalid(f"{field}.{name}", "needs mode POD")
        elif len(maps) != 1:
            raise invalid(f"{field}.{name}", f"has {len(maps)} mappings, there must be one")
        else:
            _check_range(f"{field}.{name}[0]", maps[0])


def _check_range(field: str, item: IDMap) -> None:
    if item.container_id != 0:
        raise invalid(f"{field}.container_id", f"is {item.container_id}: container ID 0 must be mapped")
    if item.host_id == 0:
        raise invalid(f"{field}.host_id", "is 0, the host's root")
    if item.length == 0:
        raise invalid(f"{field}.length", "is 0")
    if item.host_id + item.length - 1 > _LAST_ID:
        raise invalid(f"{field}.length", f"goes beyond the last ID of the host, {_LAST_ID}")


def check_sandbox(field: str, config: SandboxConfig) -> None:
    """Check what goes with a pod's user namespace; its options have been checked."""
    users = config.namespaces.own_users
    if users is None:
        return
    for name in ("network", "pid", "ipc"):
        if getattr(config.namespaces, name) == "node":
            raise invalid(f"{field}.{name}", "is NODE: the host's can't be used in a user namespace")
    _check_ids(config.security, users)


def check_container(config: ContainerConfig, sandbox: SandboxConfig) -> None:
    """Check a container's user namespace, users and ID-mapped mounts against its pod's."""
    users = sandbox.namespaces.own_users
    given = config.namespaces.users
    if given is not None:
        check_options(_OPTIONS, given)
        if config.namespaces.own_users != users:
            raise invalid(_OPTIONS, "is not the sandbox's")
    for number, mount in enumerate(config.mounts):
        _check_mount(f"config.mounts[{number}]", mount, users)
    if users is not None:
        _check_ids(config.security, users)


def _check_mount(field: str, mount: MountConfig, users: UserNamespace | None) -> None:
    if users is not None and mount.propagation == "bidirectional":
        raise invalid(f"{field}.propagation", "is BIDIRECTIONAL: mounts don't leave a user namespace")
    if not mount.uid_mappings and not mount.gid_mappings:
        return
    for name, wanted in (("uids", mount.uid_mappings), ("gids", mount.gid_mappings)):
        cri_name = "uidMappings" if name == "uids" else "gidMappings"
        if users is None:
            raise invalid(f"{field}.{cri_name}", "the pod has no user namespace")
        if wanted != getattr(users, name):
            raise invalid(f"{field}.{cri_name}", f"is not the pod's userns_options.{name}")


def _check_ids(security: SandboxSecurity | ContainerSecurity, users: UserNamespace) -> None:
    uids, gids = users.uids[0].length, users.gids[0].length
    numbers = [("run_as_user", security.run_as_user, uids), ("run_as_group", security.run_as_group, gids)]
    for index, group in enumerate(security.supplemental_groups):
        numbers.append((f"supplemental_groups[{index}]", group, gids))
    for name, number, length in numbers:
        if number is not None and number >= length:
            raise invalid(f"{_SECURITY}.{name}", f"{number} is not mapped in the pod's user namespace")

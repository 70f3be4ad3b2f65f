"""What plugins ask for as the runtime's own types. What can't be carried out is an error naming the field."""

from __future__ import annotations

import os
from typing import Any

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.linux import mounts as kernel_mounts
from minikubelet.nri import scheduling
from minikubelet.runtime import checks
from minikubelet.runtime.models import Adjusted, HugepageLimit, LinuxResources, Namespaces
from minikubelet.runtime.mounts import host_path
from minikubelet.wire.messages import Device, Mount, Rlimit

_NOT_BUILT = ("cgroups_path", "namespaces", "net_devices", "rdt")
_NOT_IN_CGROUP2 = {
    "memory": ("kernel", "kernel_tcp", "swappiness", "disable_oom_killer", "use_hierarchy"),
    "cpu": ("realtime_runtime", "realtime_period"),
}
_RESOURCES_NOT_BUILT = ("blockio_class", "rdt_class", "devices")
_FILESYSTEMS = ("tmpfs", "proc", "sysfs", "mqueue")
_NO_OPTION = ("bind", "rbind", "rw", "dev", "suid", "exec", "atime", "defaults")


def refuse_unknown(adjust: nri.ContainerAdjustment) -> None:
    """Raises UNIMPLEMENTED for an adjustment that can't be carried out, naming its field."""
    if adjust.hooks.ListFields():
        kind = adjust.hooks.ListFields()[0][0].name
        raise _unimplemented(f"adjust.hooks.{kind}", "OCI hooks are not run by minikubelet")
    linux = {descriptor.name for descriptor, _ in adjust.linux.ListFields()}
    for name in (*_NOT_BUILT, "memory_policy"):
        if name in linux:
            raise _unimplemented(f"adjust.linux.{name}")
    refuse_unknown_resources(adjust.linux.resources, "adjust.linux.resources")


def refuse_unknown_resources(resources: nri.LinuxResources, field: str) -> None:
    """The same for resources; the neutral value 0 of what doesn't exist is fine."""
    for part, names in _NOT_IN_CGROUP2.items():
        for name in names:
            if getattr(getattr(resources, part), name).value:
                raise _unimplemented(f"{field}.{part}.{name}", "cgroup v2 has no such setting")
    present = {descriptor.name for descriptor, _ in resources.ListFields()}
    for name in _RESOURCES_NOT_BUILT:
        if name in present:
            raise _unimplemented(f"{field}.{name}")


def _unimplemented(field: str, why: str = "is not implemented by minikubelet") -> NodeError:
    return NodeError(Code.UNIMPLEMENTED, why, field=field)


def adjusted(adjust: nri.ContainerAdjustment, current: LinuxResources, namespaces: Namespaces) -> Adjusted:
    """All plugins' adjustments of a container that has ``current`` resources. Raises NodeError.

    ``namespaces`` are its pod's.
    """
    checks.no_nul("adjust.args", adjust.args)
    env = [entry for entry in adjust.env if not entry.key.startswith("-")]
    for entry in env:
        checks.no_nul("adjust.env", (entry.key, entry.value))
        if not entry.key or "=" in entry.key:
            raise invalid("adjust.env", f"{entry.key!r} is no name of a variable")
    mounts = [entry for entry in adjust.mounts if not entry.destination.startswith("-")]
    devices = [entry for entry in adjust.linux.devices if not entry.path.startswith("-")]
    annotations = {name: value for name, value in adjust.annotations.items() if not name.startswith("-")}
    return Adjusted(
        annotations=annotations,
        removed_annotations=_removed(adjust.annotations),
        args=tuple(adjust.args),
        env=tuple(f"{entry.key}={entry.value}" for entry in env),
        removed_env=_removed(entry.key for entry in adjust.env),
        mounts=tuple(_mount(f"adjust.mounts[{number}]", mount) for number, mount in enumerate(mounts)),
        removed_mounts=_removed(entry.destination for entry in adjust.mounts),
        devices=tuple(
            _device(f"adjust.linux.devices[{number}]", each) for number, each in enumerate(devices)
        ),
        removed_devices=_removed(entry.path for entry in adjust.linux.devices),
        rlimits=tuple(_rlimit(limit) for limit in adjust.rlimits),
        cdi_devices=tuple(device.name for device in adjust.CDI_devices),
        resources=_adjusted_resources(adjust.linux, current),
        seccomp=_seccomp(adjust.linux.seccomp_policy) if adjust.linux.HasField("seccomp_policy") else None,
        sysctls=scheduling.sysctls(adjust.linux.sysctl, namespaces),
        scheduler=scheduling.scheduler(adjust.linux),
        io_priority=scheduling.io_priority(adjust.linux),
    )


def _removed(names: Any) -> tuple[str, ...]:
    return tuple(name[1:] for name in names if name.startswith("-"))


def _mount(field: str, mount: nri.Mount) -> Mount:
    checks.absolute(f"{field}.destination", mount.destination)
    target = "/" + os.path.normpath(mount.destination).strip("/")
    if target == "/":
        raise invalid(f"{field}.destination", "is the root of the container")
    flags, data, propagation = [], [], "rprivate"
    bind = mount.type in ("", "bind", "rbind", "none")
    for option in mount.options:
        if option in kernel_mounts.ATTRIBUTES:
            flags.append(option)
        elif option in kernel_mounts.PROPAGATIONS:
            propagation = option
        elif option in _NO_OPTION:
            bind = bind or option in ("bind", "rbind")
        else:
            data.append(option)
    if bind:
        if data:
            raise _unimplemented(f"{field}.options", f"{data[0]!r} is no option of a bind mount")
        checks.absolute(f"{field}.source", mount.source)
        source = host_path(f"{field}.source", mount.source)
        return Mount(kind="bind", source=source, target=target, flags=flags, propagation=propagation)
    if mount.type not in _FILESYSTEMS:
        raise _unimplemented(f"{field}.type", f"a mount of type {mount.type!r}")
    return Mount(kind=mount.type, target=target, flags=flags, propagation=propagation, data=",".join(data))


def _device(field: str, device: nri.LinuxDevice) -> Device:
    checks.absolute(f"{field}.path", device.path)
    if device.type not in ("b", "c", "u", "p"):
        raise invalid(f"{field}.type", f"{device.type!r} is no type of device")
    return Device(
        path=device.path,
        kind=device.type,
        major=device.major,
        minor=device.minor,
        mode=device.file_mode.value & 0o777 if device.HasField("file_mode") else 0o666,
        uid=device.uid.value,
        gid=device.gid.value,
    )


def _rlimit(limit: nri.POSIXRlimit) -> Rlimit:
    import resource

    if not limit.type.startswith("RLIMIT_") or not hasattr(resource, limit.type):
        raise invalid("adjust.rlimits.type", f"{limit.type!r} is no resource limit")
    if limit.soft > limit.hard:
        raise invalid("adjust.rlimits", f"{limit.type}: soft {limit.soft} is more than hard {limit.hard}")
    return Rlimit(name=limit.type, soft=_signed(limit.soft), hard=_signed(limit.hard))


def _signed(value: int) -> int:
    return -1 if value >= 1 << 63 else value  # RLIM_INFINITY


def _adjusted_resources(
    linux: nri.LinuxContainerAdjustment, current: LinuxResources
) -> LinuxResources | None:
    if not linux.HasField("oom_score_adj") and not linux.resources.ListFields():
        return None
    return changed_resources(
        current, linux.resources, linux.oom_score_adj.value if linux.HasField("oom_score_adj") else None
    )


def changed_resources(
    current: LinuxResources, wanted: nri.LinuxResources, oom_score_adj: int | None = None
) -> LinuxResources:
    """``current`` with what ``wanted`` has. Raises NodeError for impossible values."""
    memory, cpu = wanted.memory, wanted.cpu
    unified = {**current.unified, **wanted.unified}
    if memory.reservation.value:
        unified["memory.low"] = str(memory.reservation.value)  # what OCI runtimes make of it on cgroup v2
    if wanted.HasField("pids"):
        unified["pids.max"] = str(wanted.pids.limit) if wanted.pids.limit > 0 else "max"
    pages = {limit.page_size: limit for limit in current.hugepages}
    for limit in wanted.hugepage_limits:
        pages[limit.page_size] = HugepageLimit(page_size=limit.page_size, limit=limit.limit)
    return LinuxResources(
        cpu_period=_given(cpu, "period", current.cpu_period),
        cpu_quota=_given(cpu, "quota", current.cpu_quota),
        cpu_shares=_given(cpu, "shares", current.cpu_shares),
        memory_limit=_given(memory, "limit", current.memory_limit),
        memory_swap_limit=_given(memory, "swap", current.memory_swap_limit),
        oom_score_adj=current.oom_score_adj if oom_score_adj is None else oom_score_adj,
        cpuset_cpus=cpu.cpus or current.cpuset_cpus,
        cpuset_mems=cpu.mems or current.cpuset_mems,
        hugepages=tuple(pages.values()),
        unified=unified,
    )


def _given(message: Any, name: str, otherwise: int) -> int:
    return int(getattr(message, name).value) if message.HasField(name) else otherwise


def _seccomp(policy: nri.LinuxSeccomp) -> dict[str, Any]:
    """A policy in the words of an OCI profile."""
    result: dict[str, Any] = {
        "defaultAction": policy.default_action,
        "architectures": list(policy.architectures),
        "flags": list(policy.flags),
        "listenerPath": policy.listener_path,
        "listenerMetadata": policy.listener_metadata,
        "syscalls": [_syscall(rule) for rule in policy.syscalls],
    }
    if policy.HasField("default_errno"):
        result["defaultErrnoRet"] = policy.default_errno.value
    return result


def _syscall(rule: nri.LinuxSyscall) -> dict[str, Any]:
    result: dict[str, Any] = {"names": list(rule.names), "action": rule.action}
    if rule.HasField("errno_ret"):
        result["errnoRet"] = rule.errno_ret.value
    if rule.args:
        result["args"] = [
            {"index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": arg.op}
            for arg in rule.args
        ]
    return result

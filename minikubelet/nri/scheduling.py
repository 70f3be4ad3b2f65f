"""Kernel parameters, scheduler and I/O priority that plugins ask for, checked as runc checks them."""

from __future__ import annotations

from collections.abc import Mapping

from minikubelet.base.errors import invalid
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.linux import scheduling
from minikubelet.runtime.models import Namespaces
from minikubelet.runtime.validation import check_sysctl
from minikubelet.wire.messages import Scheduler

_NICE = range(-20, 20)
_IO_LEVELS = range(8)


def sysctls(wanted: Mapping[str, str], namespaces: Namespaces) -> dict[str, str]:
    """Parameters of the pod's own namespaces. Raises INVALID_ARGUMENT for others."""
    kept = {name: value for name, value in wanted.items() if not name.startswith("-")}
    for name, value in kept.items():
        check_sysctl(f"adjust.linux.sysctl[{name[:100]!r}]", name, value, namespaces)
    return kept


def scheduler(linux: nri.LinuxContainerAdjustment) -> Scheduler | None:
    """None where it isn't asked for. Raises INVALID_ARGUMENT."""
    if not linux.HasField("scheduler"):
        return None
    wanted, field = linux.scheduler, "adjust.linux.scheduler"
    name = _name(nri.LinuxSchedulerPolicy, wanted.policy, "SCHED_")
    if name not in scheduling.POLICIES:
        raise invalid(f"{field}.policy", f"{name or wanted.policy} is no policy of Linux")
    if name in ("other", "batch") and wanted.nice not in _NICE:
        raise invalid(f"{field}.nice", f"{wanted.nice} is not in -20..19")
    if wanted.priority and name not in ("fifo", "rr"):
        raise invalid(f"{field}.priority", "needs SCHED_FIFO or SCHED_RR")
    for part in ("runtime", "deadline", "period"):
        if getattr(wanted, part) and name != "deadline":
            raise invalid(f"{field}.{part}", "needs SCHED_DEADLINE")
    flags = 0
    for number in wanted.flags:
        flag = _name(nri.LinuxSchedulerFlag, number, "SCHED_FLAG_")
        if flag not in scheduling.FLAGS:
            raise invalid(f"{field}.flags", f"{number} is no flag")
        flags |= scheduling.FLAGS[flag]
    return Scheduler(
        policy=scheduling.POLICIES[name],
        nice=wanted.nice,
        priority=wanted.priority,
        flags=flags,
        runtime=wanted.runtime,
        deadline=wanted.deadline,
        period=wanted.period,
    )


def io_priority(linux: nri.LinuxContainerAdjustment) -> int | None:
    """The value of ioprio_set(2); None where it isn't asked for. Raises INVALID_ARGUMENT."""
    if not linux.HasField("io_priority"):
        return None
    wanted, field = linux.io_priority, "adjust.linux.io_priority"
    name = _name(nri.IOPrioClass, getattr(wanted, "class"), "IOPRIO_CLASS_")
    if name not in scheduling.IO_CLASSES:
        raise invalid(f"{field}.class", f"{name or getattr(wanted, 'class')} is none of RT, BE and IDLE")
    if wanted.priority not in _IO_LEVELS:
        raise invalid(f"{field}.priority", f"{wanted.priority} is not in 0..7")
    return scheduling.IO_CLASSES[name] << scheduling.IO_CLASS_SHIFT | wanted.priority


def scheduler_message(wanted: Scheduler) -> nri.LinuxScheduler:
    """What is in force, for plugins."""
    policies = {number: name for name, number in scheduling.POLICIES.items()}
    return nri.LinuxScheduler(
        policy=f"SCHED_{policies[wanted.policy].upper()}",
        nice=wanted.nice,
        priority=wanted.priority,
        flags=[f"SCHED_FLAG_{name.upper()}" for name, bit in scheduling.FLAGS.items() if wanted.flags & bit],
        runtime=wanted.runtime,
        deadline=wanted.deadline,
        period=wanted.period,
    )


def io_priority_message(value: int) -> nri.LinuxIOPriority:
    """What is in force, for plugins."""
    classes = {number: name for name, number in scheduling.IO_CLASSES.items()}
    level = value & (1 << scheduling.IO_CLASS_SHIFT) - 1
    name = f"IOPRIO_CLASS_{classes[value >> scheduling.IO_CLASS_SHIFT].upper()}"
    return nri.LinuxIOPriority(**{"class": name, "priority": level})  # type: ignore[arg-type]


def _name(kind: type[object], number: int, prefix: str) -> str:
    """The name of an enumeration's value, lower case and without its prefix; empty: it has none."""
    names = {value: name for name, value in kind.items()}  # type: ignore[attr-defined]
    return str(names.get(number, "")).removeprefix(prefix).lower()

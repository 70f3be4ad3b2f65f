"""CRI resources as cgroup files: what can be enforced, what is refused, what is skipped with a warning."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from minikubelet.base.errors import NodeError, invalid
from minikubelet.linux import capabilities as linux_capabilities
from minikubelet.linux.cgroup import resources as cgroup_resources
from minikubelet.linux.cgroup.cpu import DEFAULT_PERIOD
from minikubelet.linux.cgroup.device import DEFAULT_RULES, DeviceRule, program
from minikubelet.runtime.models import ContainerConfig, LinuxResources
from minikubelet.wire.messages import Device

log = logging.getLogger(__name__)

OOM_SCORE_RANGE = (-1000, 1000)
_FIELD = "config.linux.resources"


@dataclass(frozen=True)
class Enforcement:
    """What the host can enforce and what happens to the rest."""

    controllers: frozenset[str]
    allow_unenforced: bool
    """``--unenforced-limits=allow``."""
    where: str = "cgroup2"

    def files(self, resources: LinuxResources, who: str, field: str = _FIELD) -> dict[str, str]:
        """The cgroup files of ``resources``; warnings name ``who``, errors the request's ``field``.

        Raises INVALID_ARGUMENT for impossible values, FAILED_PRECONDITION for limits this host can't enforce
        (unless allowed).
        """
        if resources == _NOTHING:
            return {}
        plan = self.plan(resources, field)
        if not self.allow_unenforced:
            plan.require()
        for lack in (*plan.limits, *plan.wishes):
            kind = "limit" if lack in plan.limits else "preference"
            _warn_once(f"{kind} {lack.file} is not in force: {lack.reason}")
            log.debug("%s runs without %s=%s", who, lack.file, lack.value)
        return plan.files

    def plan(self, resources: LinuxResources, field: str = _FIELD) -> cgroup_resources.Plan:
        """The cgroup files and what is lacking. Raises INVALID_ARGUMENT for impossible values."""
        low, high = OOM_SCORE_RANGE
        if not low <= resources.oom_score_adj <= high:
            raise invalid(f"{field}.oom_score_adj", f"{resources.oom_score_adj} not in {low}-{high}")
        try:
            return cgroup_resources.plan(_typed(resources), self.controllers, self.where)
        except NodeError as exc:
            named = f"{field}.{exc.field.removeprefix('resources.')}"
            raise NodeError(exc.code, exc.message, field=named) from exc


_NOTHING = LinuxResources()


def _typed(resources: LinuxResources) -> cgroup_resources.Resources:
    return cgroup_resources.Resources(
        memory_limit=resources.memory_limit,
        memory_swap_limit=resources.memory_swap_limit,
        cpu_shares=resources.cpu_shares,
        cpu_quota=resources.cpu_quota,
        cpu_period=resources.cpu_period,
        cpuset_cpus=resources.cpuset_cpus,
        cpuset_mems=resources.cpuset_mems,
        hugepage_limits=tuple((limit.page_size, limit.limit) for limit in resources.hugepages),
        unified=resources.unified,
    )


@functools.lru_cache(maxsize=256)
def _warn_once(text: str) -> None:
    log.warning("%s", text)


@functools.cache
def may_lower_oom_score() -> bool:
    """Whether CAP_SYS_RESOURCE is there to set oom_score_adj below the daemon's own (proc(5))."""
    return "CAP_SYS_RESOURCE" in linux_capabilities.names(linux_capabilities.of_process()["effective"])


def note_oom_score(score: int) -> None:
    """Warn once when a lower oom_score_adj is asked for that this daemon can't set."""
    if score < 0 and not may_lower_oom_score():
        warn_of_oom_scores()


def warn_of_oom_scores() -> None:
    """A lower oom_score_adj is not in force. Once."""
    _warn_once("lower oom_score_adj values are skipped: the daemon has no CAP_SYS_RESOURCE")


def merge(current: LinuxResources, update: LinuxResources) -> LinuxResources:
    """``current`` with what ``update`` specifies (0 and empty: left as it is)."""
    values = {
        name: getattr(update, name) or getattr(current, name)
        for name in LinuxResources.__struct_fields__
        if name not in ("unified", "hugepages")
    }
    pages = {limit.page_size: limit for limit in (*current.hugepages, *update.hugepages)}
    unified = {**current.unified, **update.unified}
    return LinuxResources(**values, hugepages=tuple(pages.values()), unified=unified)


def with_overhead(resources: LinuxResources | None, overhead: LinuxResources | None) -> LinuxResources:
    """What a pod's cgroup gets: its containers' sum and what the runtime class adds for the pod itself.

    Where the containers have no limit, neither has the pod, whatever the overhead is.
    """
    own = resources or _NOTHING
    more = overhead or _NOTHING
    period = own.cpu_period or DEFAULT_PERIOD
    extra_quota = max(0, more.cpu_quota) * period // (more.cpu_period or DEFAULT_PERIOD)
    return msgspec.structs.replace(
        own,
        cpu_shares=own.cpu_shares + more.cpu_shares if own.cpu_shares else 0,
        cpu_quota=_limit(own.cpu_quota, extra_quota),
        memory_limit=_limit(own.memory_limit, more.memory_limit),
        memory_swap_limit=_limit(own.memory_swap_limit, more.memory_swap_limit or more.memory_limit),
    )


def _limit(own: int, more: int) -> int:
    return own + max(0, more) if own > 0 else own


# --- devices -----------------------------------------------------------------------------------------


def device_program(config: ContainerConfig, devices: Sequence[Device]) -> bytes:
    """The eBPF filter for a container that got ``devices``; none for a privileged one."""
    if config.security.privileged:
        return b""
    rules = []
    for device in devices:
        rules.append((device.kind, device.major, device.minor, _access(config, device)))
    return _program(tuple(rules))


def _access(config: ContainerConfig, device: Device) -> str:
    if device.path in config.edits.permissions:
        return config.edits.permissions[device.path]
    for wanted in config.devices:
        path = wanted.container_path.rstrip("/")
        if device.path == path or device.path.startswith(path + "/"):
            return wanted.permissions or "rwm"
    return "rwm"


@functools.lru_cache(maxsize=64)
def _program(rules: Collection[tuple[str, int, int, str]]) -> bytes:
    allowed = [DeviceRule(True, kind, major, minor, access) for kind, major, minor, access in rules]
    return program([*DEFAULT_RULES, *allowed])

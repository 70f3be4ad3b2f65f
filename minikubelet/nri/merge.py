"""The answers of several plugins put together: later ones see what earlier ones changed.

The rules are those of upstream's pkg/adaptation/result.go: a name that begins with ``-`` takes an entry
away, after which it may be set again; anything set twice is a conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikubelet.base.errors import invalid
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.nri.owners import Field, Owners

_MEMORY = {
    "limit": Field.MemLimit,
    "reservation": Field.MemReservation,
    "swap": Field.MemSwapLimit,
    "kernel": Field.MemKernelLimit,
    "kernel_tcp": Field.MemTCPLimit,
    "swappiness": Field.MemSwappiness,
    "disable_oom_killer": Field.MemDisableOomKiller,
    "use_hierarchy": Field.MemUseHierarchy,
}
_CPU = {
    "shares": Field.CPUShares,
    "quota": Field.CPUQuota,
    "period": Field.CPUPeriod,
    "realtime_runtime": Field.CPURealtimeRuntime,
    "realtime_period": Field.CPURealtimePeriod,
    "cpus": Field.CPUSetCPUs,
    "mems": Field.CPUSetMems,
}


_WHOLE: dict[str, int] = {
    "oom_score_adj": Field.OomScoreAdj,
    "seccomp_policy": Field.SeccompPolicy,
    "io_priority": Field.IoPriority,
    "scheduler": Field.LinuxSched,
}
"""Messages below ``linux`` that one plugin sets as a whole."""


class Updates:
    """Changes of existing containers' resources."""

    def __init__(self) -> None:
        self.owners = Owners()
        self.updates: dict[str, nri.ContainerUpdate] = {}

    def add(self, updates: Any, plugin: str, being_made: str = "") -> None:
        """A plugin's. Raises NodeError for conflicts."""
        for update in updates:
            if update.container_id == being_made:
                raise invalid("update.container_id", f"NRI plugin {plugin!r} updates what is being created")
            known = update.container_id in self.updates
            kept = self.updates.setdefault(update.container_id, nri.ContainerUpdate())
            kept.container_id = update.container_id
            kept.ignore_failure = update.ignore_failure and (kept.ignore_failure or not known)
            targets = [kept.linux.resources]
            merge_resources(update.linux.resources, targets, self.owners, update.container_id, plugin)


def merge_resources(
    wanted: nri.LinuxResources,
    targets: list[nri.LinuxResources],
    owners: Owners,
    container_id: str,
    plugin: str,
) -> None:
    """Set in ``targets`` what ``wanted`` has. Raises NodeError for conflicts."""
    for part, fields in (("memory", _MEMORY), ("cpu", _CPU)):
        for descriptor, value in getattr(wanted, part).ListFields():
            owners.claim(container_id, fields[descriptor.name], plugin)
            for target in targets:
                _set(getattr(target, part), descriptor.name, value)
    for limit in wanted.hugepage_limits:
        owners.claim(container_id, Field.HugepageLimits, plugin, limit.page_size)
        for target in targets:
            _replace(target.hugepage_limits, [limit], lambda entry: str(entry.page_size))
    for name, value in wanted.unified.items():
        owners.claim(container_id, Field.CgroupsUnified, plugin, name)
        for target in targets:
            target.unified[name] = value
    if wanted.HasField("pids"):
        owners.claim(container_id, Field.PidsLimit, plugin)
        for target in targets:
            target.pids.CopyFrom(wanted.pids)


def _set(message: Any, name: str, value: Any) -> None:
    if isinstance(value, str):
        setattr(message, name, value)
    else:
        getattr(message, name).CopyFrom(value)


def _replace(
    entries: Any, added: list[Any], key: Callable[[Any], str], gone: frozenset[str] = frozenset()
) -> None:
    """Take out of a repeated field what is replaced or gone, then add."""
    names = {key(entry) for entry in added} | gone
    kept = [entry for entry in entries if key(entry) not in names]
    del entries[:]
    entries.extend([*kept, *added])


class Adjustments(Updates):
    """Changes of a container that is about to be made. ``request`` changes with them, for the next plugin."""

    def __init__(self, request: nri.CreateContainerRequest) -> None:
        super().__init__()
        self._shown = request.container
        self._id = request.container.id
        self.adjust = nri.ContainerAdjustment()

    def apply(self, response: nri.CreateContainerResponse, plugin: str) -> None:
        """A plugin's answer. Raises NodeError for conflicts."""
        wanted = response.adjust
        self._annotations(wanted, plugin)
        self._environment(wanted, plugin)
        shown, kept = self._shown, self.adjust
        self._named(Field.Mounts, wanted.mounts, (shown.mounts, kept.mounts), plugin, "destination")
        linux = wanted.linux
        pair = (shown.linux.devices, kept.linux.devices)
        self._named(Field.Devices, linux.devices, pair, plugin, "path")
        self._single(wanted, plugin)
        self._sysctls(linux.sysctl, plugin)
        for limit in wanted.rlimits:
            self.owners.claim(self._id, Field.Rlimits, plugin, limit.type)
            for rlimits in (shown.rlimits, kept.rlimits):
                _replace(rlimits, [limit], lambda entry: str(entry.type))
        for device in wanted.CDI_devices:
            self.owners.claim(self._id, Field.CdiDevices, plugin, device.name)
            kept.CDI_devices.append(device)
        targets = [shown.linux.resources, kept.linux.resources]
        merge_resources(linux.resources, targets, self.owners, self._id, plugin)
        self.add(response.update, plugin, being_made=self._id)

    def _single(self, wanted: nri.ContainerAdjustment, plugin: str) -> None:
        """What is set as a whole."""
        shown, kept = self._shown, self.adjust
        if args := list(wanted.args):
            if not args[0]:
                self.owners.clear(self._id, Field.Args)
                args = args[1:]
            self.owners.claim(self._id, Field.Args, plugin)
            shown.args[:] = kept.args[:] = args
        for name, field in _WHOLE.items():
            if wanted.linux.HasField(name):
                self.owners.claim(self._id, field, plugin)
                for linux in (shown.linux, kept.linux):
                    getattr(linux, name).CopyFrom(getattr(wanted.linux, name))

    def _sysctls(self, wanted: Any, plugin: str) -> None:
        shown, kept = self._shown.linux.sysctl, self.adjust.linux.sysctl
        for name in self._claim(Field.Sysctl, plugin, list(wanted)):
            shown.pop(name, None)
            kept.pop(name, None)
        for name, value in wanted.items():
            if not name.startswith("-"):
                shown[name] = kept[name] = value

    def _annotations(self, wanted: nri.ContainerAdjustment, plugin: str) -> None:
        removed = {name[1:] for name in wanted.annotations if name.startswith("-")}
        for name in removed:
            self.owners.clear(self._id, Field.Annotations, name)
            self._shown.annotations.pop(name, None)
            self.adjust.annotations.pop(name, None)
            self.adjust.annotations["-" + name] = ""
        for name, value in wanted.annotations.items():
            if not name.startswith("-"):
                self.owners.claim(self._id, Field.Annotations, plugin, name)
                self._shown.annotations[name] = value
                self.adjust.annotations[name] = value

    def _named(self, field: int, wanted: Any, lists: tuple[Any, Any], plugin: str, attribute: str) -> None:
        """Entries known by a name: ``lists`` are what the next plugin sees and what is asked for so far."""
        added = [entry for entry in wanted if not getattr(entry, attribute).startswith("-")]
        marked = [entry for entry in wanted if getattr(entry, attribute).startswith("-")]
        removed = self._claim(field, plugin, [getattr(entry, attribute) for entry in wanted])
        shown, kept = lists

        def key(entry: Any) -> str:
            return str(getattr(entry, attribute))

        _replace(shown, added, key, removed)
        _replace(kept, [*marked, *added], key, removed)

    def _environment(self, wanted: nri.ContainerAdjustment, plugin: str) -> None:
        added = [entry for entry in wanted.env if not entry.key.startswith("-")]
        marked = [entry for entry in wanted.env if entry.key.startswith("-")]
        removed = self._claim(Field.Env, plugin, [entry.key for entry in wanted.env])
        lines = [f"{entry.key}={entry.value}" for entry in added]
        _replace(self._shown.env, lines, lambda line: str(line).partition("=")[0], removed)
        _replace(self.adjust.env, [*marked, *added], lambda entry: str(entry.key), removed)

    def _claim(self, field: int, plugin: str, names: list[str]) -> frozenset[str]:
        """Take note of who sets and removes what; returns what is removed."""
        removed = frozenset(name[1:] for name in names if name.startswith("-"))
        for name in removed:
            self.owners.clear(self._id, field, name)
        for name in names:
            if not name.startswith("-"):
                self.owners.claim(self._id, field, plugin, name)
        return removed

"""What plugins have changed in a container, applied to what its start is made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from minikubelet.linux import seccomp
from minikubelet.runtime.models import Adjusted
from minikubelet.wire.messages import Device, Mount, Process

_NOTHING = Adjusted()


def mounts(made: list[Mount], adjusted: Adjusted) -> list[Mount]:
    """The mounts without those that are removed or replaced, with those that are added."""
    if not adjusted.mounts and not adjusted.removed_mounts:
        return made
    gone = {*adjusted.removed_mounts, *(mount.target for mount in adjusted.mounts)}
    result = [mount for mount in made if mount.target not in gone]
    result += adjusted.mounts
    # A folder comes before what is mounted below it; else the order stays.
    return sorted(result, key=lambda mount: mount.target.rstrip("/").count("/"))


def devices(made: list[Device], adjusted: Adjusted) -> list[Device]:
    """The device nodes, likewise."""
    gone = {*adjusted.removed_devices, *(device.path for device in adjusted.devices)}
    return [device for device in made if device.path not in gone] + list(adjusted.devices)


def process(made: Process, adjusted: Adjusted) -> Process:
    """The container's process, changed in place. Raises NodeError for an unusable seccomp profile."""
    if adjusted == _NOTHING:
        return made
    if adjusted.args:
        made.args = [text.encode("utf-8", "surrogateescape") for text in adjusted.args]
    made.env = _environment(made.env, adjusted)
    made.rlimits = list(adjusted.rlimits)
    made.scheduler = adjusted.scheduler
    made.io_priority = adjusted.io_priority
    if adjusted.seccomp is not None:
        made.seccomp = seccomp.compile_profile(adjusted.seccomp, tuple(made.capabilities.bounding))
    return made


def _environment(made: Sequence[bytes], adjusted: Adjusted) -> list[bytes]:
    lines = [line.encode("utf-8", "surrogateescape") for line in adjusted.env]
    gone = {name.encode("utf-8", "surrogateescape") for name in adjusted.removed_env}
    gone |= {line.partition(b"=")[0] for line in lines}
    return [line for line in made if line.partition(b"=")[0] not in gone] + lines

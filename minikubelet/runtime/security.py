"""Capabilities, system call filters, hidden paths: what a container may do."""

from __future__ import annotations

import functools
import json
import logging
import os
import stat
import threading
from dataclasses import dataclass
from typing import Any

from minikubelet.base.errors import NodeError, invalid, precondition
from minikubelet.linux import apparmor, apparmor_default, seccomp
from minikubelet.linux import capabilities as linux_capabilities
from minikubelet.runtime.models import ContainerSecurity, SecurityProfile
from minikubelet.wire.messages import Capabilities

log = logging.getLogger(__name__)

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
    "CAP_SYS_CHROOT",
)  # fmt: skip
"""What docker, containerd and CRI-O start from."""

_FIELD = "config.linux.security_context"
_PROFILE_LIMIT = 4 << 20


@functools.cache
def host_capabilities() -> tuple[str, ...]:
    """What this daemon can pass on: its own bounding and permitted set, which a privileged container gets."""
    sets = linux_capabilities.of_process()
    return tuple(linux_capabilities.names(sets["bounding"] & sets["permitted"]))


def container_capabilities(security: ContainerSecurity) -> Capabilities:
    """The exact sets. Raises INVALID_ARGUMENT (unknown name), FAILED_PRECONDITION (the host has none)."""
    if security.privileged:
        everything = list(host_capabilities())
        return Capabilities(bounding=everything, permitted=everything, effective=everything)
    chosen = set(DEFAULT_CAPABILITIES)
    add = _names("add_capabilities", security.add_capabilities)
    drop = _names("drop_capabilities", security.drop_capabilities)
    if "ALL" in add:
        chosen = set(host_capabilities())
    if "ALL" in drop:
        chosen = set(host_capabilities()) if "ALL" in add else set()
    chosen |= add - {"ALL"}
    chosen -= drop - {"ALL"}
    ambient = _names("add_ambient_capabilities", security.add_ambient_capabilities)
    if "ALL" in ambient:
        ambient = set(host_capabilities())
    chosen |= ambient
    lacking = sorted(chosen - set(host_capabilities()) - set(DEFAULT_CAPABILITIES))
    if lacking:
        raise precondition(f"{_FIELD}.capabilities: this host's daemon has no {', '.join(lacking)} to give")
    ordered = [name for name in linux_capabilities.NAMES if name in chosen]
    return Capabilities(
        bounding=ordered,
        permitted=ordered,
        effective=ordered,
        ambient=[name for name in linux_capabilities.NAMES if name in ambient],
    )


def _names(kind: str, names: tuple[str, ...]) -> set[str]:
    result = set()
    for number, name in enumerate(names):
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in linux_capabilities.NAMES:
            raise invalid(f"{_FIELD}.capabilities.{kind}[{number}]", f"{name!r} is no capability")
        result.add(full)
    return result


# --- system call filters -----------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _default_filter(capabilities: tuple[str, ...]) -> bytes:
    return seccomp.compile_profile(seccomp.default_profile(), capabilities)


def warm_up() -> None:
    """Compile the default profile for pause and for the usual capabilities: 10 ms a filter, once a daemon.

    Blocks; libseccomp lets other threads run. Without libseccomp the first pod that needs it is told.
    """
    for security in (ContainerSecurity(drop_capabilities=("ALL",)), ContainerSecurity()):
        try:
            _default_filter(tuple(container_capabilities(security).bounding))
        except (NodeError, OSError) as exc:
            log.info("the default seccomp profile can't be compiled ahead: %s", exc)
            return


def seccomp_filter(
    profile: SecurityProfile | None, privileged: bool, capabilities: Capabilities, field: str = _FIELD
) -> bytes:
    """The compiled filter; empty for unconfined. No profile means unconfined (CRI), as does privileged.

    Raises INVALID_ARGUMENT for a Localhost profile that can't be used: never unconfined by mistake
    (CVE-2023-2431).
    """
    if privileged or profile is None or profile.kind == "Unconfined":
        return b""
    granted = tuple(capabilities.bounding)
    if profile.kind == "RuntimeDefault":
        return _default_filter(granted)
    document = _read_profile(f"{field}.seccomp.localhost_ref", profile.localhost_ref)
    try:
        return seccomp.compile_profile(document, granted)
    except NodeError:
        raise
    except (ValueError, TypeError, KeyError, OSError) as exc:
        raise invalid(f"{field}.seccomp.localhost_ref", f"{profile.localhost_ref!r}: {exc}") from exc


def _read_profile(field: str, reference: str) -> dict[str, Any]:
    path = reference.removeprefix("localhost/")
    if not path.startswith("/"):
        raise invalid(field, f"{reference!r} is not an absolute path")
    try:
        data = read_regular(path, _PROFILE_LIMIT)
        document = json.loads(data)
    except (OSError, ValueError, RecursionError) as exc:
        raise invalid(field, f"{path!r} can't be read: {exc}") from exc
    if not isinstance(document, dict):
        raise invalid(field, f"{path!r} is not a JSON object")
    return document


def read_regular(path: str, limit: int) -> bytes:
    """A regular file's content; a FIFO or device is an error, not a hang. Raises OSError, ValueError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


# --- AppArmor ----------------------------------------------------------------------------------------


_apparmor_enabled = functools.cache(apparmor.enabled)
_loading = threading.Lock()


def load_default_profile() -> None:
    """Load the profile of RuntimeDefault in place of what an earlier daemon loaded; blocks.

    Raises FAILED_PRECONDITION with the reason.
    """
    program = apparmor.parser()
    if not program:
        raise precondition(
            "the AppArmor profile of RuntimeDefault can't be loaded: there is no apparmor_parser"
            " (apt-get install apparmor)"
        )
    texts = apparmor_default.texts(apparmor.own_profile())
    for number, text in enumerate(texts, 1):
        try:
            apparmor.load(text, program)
            return
        except OSError as exc:
            raise precondition(f"the AppArmor profile of RuntimeDefault can't be loaded: {exc}") from exc
        except ValueError as exc:
            if number == len(texts):
                raise precondition(f"the AppArmor profile of RuntimeDefault can't be loaded: {exc}") from exc


def warm_up_apparmor() -> None:
    """When the daemon starts, in a thread: have the default profile in the kernel before the first pod."""
    if not _apparmor_enabled():
        return
    with _loading:
        try:
            load_default_profile()
        except NodeError as exc:
            log.warning("containers that don't ask for an AppArmor profile are not confined: %s", exc)


def apparmor_profile(profile: SecurityProfile | None, privileged: bool, field: str = _FIELD) -> str:
    """The profile to change to at exec; empty: leave alone.

    No profile means RuntimeDefault where AppArmor is on, as with containerd (kubernetes#51746).
    Raises FAILED_PRECONDITION for a profile that isn't loaded, or where the host has no AppArmor.
    """
    if not _apparmor_enabled():
        if profile is not None and profile.kind != "Unconfined" and not privileged:
            name = _profile_name(profile)
            raise precondition(
                f"{field}.apparmor: profile {name} was asked for, but this host has no AppArmor"
            )
        return ""
    if privileged or (profile is not None and profile.kind == "Unconfined"):
        return "unconfined"
    if profile is None:
        return _default_if_possible()
    if profile.kind == "RuntimeDefault":
        return _default_profile(f"{field}.apparmor")
    name = _profile_name(profile)
    if not _is_loaded(name):
        raise precondition(f"{field}.apparmor: profile {name!r} is not loaded")
    return name


def _profile_name(profile: SecurityProfile) -> str:
    return profile.localhost_ref.removeprefix("localhost/") or profile.kind


def _is_loaded(name: str) -> bool:
    try:
        return apparmor.loaded(name)
    except OSError as exc:
        raise precondition(f"the list of AppArmor profiles can't be read: {exc}") from exc


def _default_profile(what: str) -> str:
    """The default profile's name; loads it should it be gone. Raises FAILED_PRECONDITION."""
    if not _is_loaded(apparmor_default.NAME):
        with _loading:
            try:
                if not _is_loaded(apparmor_default.NAME):
                    load_default_profile()
            except NodeError as exc:
                raise precondition(f"{what}: {exc.message}") from exc
    return apparmor_default.NAME


def _default_if_possible() -> str:
    """For containers that asked for nothing: a host without the parser runs them unconfined, as ever."""
    if not apparmor.parser() and not _is_loaded(apparmor_default.NAME):
        return ""  # warned of when the daemon started
    return _default_profile("AppArmor")


# --- all together ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hidden:
    """Paths inside the container that are masked or read-only."""

    masked: tuple[str, ...]
    read_only: tuple[str, ...]


MASKED_PATHS = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What a caller gets who names no paths: the kernel's knobs in there are the whole host's."""


def hidden_paths(security: ContainerSecurity, own_users: bool) -> Hidden:
    """CRI's paths, nothing for a privileged container.

    An empty list can't be told from one that was never sent (crictl sends none). With the host's users it
    means the defaults, where containerd 2.3 hides nothing. With the pod's own users the knobs are out of
    reach, and it means none: Kubernetes allows ``procMount: Unmasked`` for such pods only.
    """
    if security.privileged:
        return Hidden((), ())
    if own_users:
        return Hidden(security.masked_paths, security.readonly_paths)
    return Hidden(security.masked_paths or MASKED_PATHS, security.readonly_paths or READONLY_PATHS)

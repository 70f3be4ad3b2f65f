"""Facts about this host that decide what can be offered. Read once at start; nothing is changed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from minikubelet.linux import apparmor, capabilities, selinux
from minikubelet.linux.cgroup import hugetlb
from minikubelet.linux.cgroup.mount import CgroupMount, find_mount


@dataclass(frozen=True)
class Lacking:
    """Something that is not here, and what follows from it."""

    what: str
    consequence: str


@dataclass(frozen=True)
class HostFacts:
    """What this host has."""

    kernel: tuple[int, int]
    """Major and minor number of the kernel's release."""
    release: str
    capabilities: frozenset[str]
    """The daemon's effective capabilities."""
    cgroup: CgroupMount
    apparmor: bool
    selinux: bool
    seccomp: bool
    ipv6: bool
    pressure: bool
    """Whether the kernel keeps pressure stall information."""
    swap: bool
    """Whether swap space is on."""
    user_namespaces: int
    """How many user namespaces may be made; 0: none."""
    filesystems: frozenset[str] = frozenset()
    hugepages: tuple[str, ...] = ()
    lacks: tuple[Lacking, ...] = field(default=())

    @property
    def maps_users(self) -> bool:
        """Whether pods can have user namespaces.

        That takes ID-mapped mounts as layers of an overlay (Linux 5.19) and of tmpfs (6.3), where volumes
        with secrets are.
        """
        return self.user_namespaces > 0 and self.kernel >= (6, 3)

    def has(self, capability: str) -> bool:
        """Whether the daemon holds the capability."""
        return capability in self.capabilities


_NEEDED = {
    "CAP_SYS_ADMIN": "namespaces and mounts can't be made: no pod can run",
    "CAP_NET_ADMIN": "the pod network can't be set up: only pods in the host's network run",
    "CAP_SETUID": "containers can't run as other users",
    "CAP_SETGID": "containers can't run with other groups",
    "CAP_CHOWN": "images can't be unpacked with their owners",
    "CAP_MKNOD": "devices can't be made in containers",
    "CAP_SYS_CHROOT": "containers can't get a root of their own",
    "CAP_KILL": "processes of other users can't be stopped",
    "CAP_SYS_RESOURCE": "oom_score_adj and hard rlimits can't be bettered: such wishes are skipped",
    "CAP_BPF": "device access can't be filtered if CAP_SYS_ADMIN does not imply it (Linux before 5.8)",
}
_CONTROLLERS = {
    "memory": "memory limits are refused, OOM kills and memory use are not seen",
    "cpu": "cpu quotas are refused, cpu requests (shares) have no effect",
    "pids": "limits on the number of processes are refused",
    "cpuset": "pinning to processors is refused",
    "io": "disk statistics and limits are missing",
    "hugetlb": "limits on huge pages are refused",
}


def detect() -> HostFacts:
    """Look at this host. A file that can't be read counts as a feature that is not there."""
    release = os.uname().release
    numbers = re.match(r"(\d+)\.(\d+)", release)
    kernel = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    held = frozenset(capabilities.names(capabilities.of_process()["effective"]))
    cgroup = find_mount()
    facts = HostFacts(
        kernel=kernel,
        release=release,
        capabilities=held,
        cgroup=cgroup,
        apparmor=apparmor.enabled(),
        selinux=selinux.enabled(),
        seccomp=os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
        ipv6=os.path.isdir("/proc/sys/net/ipv6"),
        pressure=os.path.exists("/proc/pressure/cpu"),
        swap=len(_lines("/proc/swaps")) > 1,
        user_namespaces=_number("/proc/sys/user/max_user_namespaces"),
        filesystems=frozenset(line.split()[-1] for line in _lines("/proc/filesystems") if line.split()),
        hugepages=tuple(hugetlb.page_sizes()),
    )
    return HostFacts(**{**facts.__dict__, "lacks": tuple(_lacks(facts))})


def _lacks(facts: HostFacts) -> list[Lacking]:
    lacks = []
    if facts.kernel < (5, 14):
        lacks.append(Lacking(f"kernel {facts.release}", "5.14 or newer is needed (cgroup.kill)"))
    for name, consequence in _NEEDED.items():
        implied = name == "CAP_BPF" and facts.has("CAP_SYS_ADMIN")
        if not facts.has(name) and not implied:
            lacks.append(Lacking(name, consequence))
    if facts.cgroup.mode == "legacy":
        lacks.append(Lacking("cgroup2", "mount it (systemd.unified_cgroup_hierarchy=1): no pod can run"))
    for name, consequence in _CONTROLLERS.items():
        if name not in facts.cgroup.controllers:
            on_v1 = " (it is on cgroup v1)" if name in facts.cgroup.legacy_controllers else ""
            lacks.append(Lacking(f"cgroup2 controller {name}{on_v1}", consequence))
    if "overlay" not in facts.filesystems:
        lacks.append(Lacking("overlay file system", "modprobe overlay: containers have no root file system"))
    if not facts.seccomp:
        lacks.append(Lacking("seccomp filters", "containers that ask for a profile are refused"))
    if not facts.apparmor:
        lacks.append(Lacking("AppArmor", "containers that ask for an AppArmor profile are refused"))
    elif not apparmor.parser():
        lacks.append(
            Lacking(
                "apparmor_parser", "there is no RuntimeDefault AppArmor profile: only Localhost ones confine"
            )
        )
    if not facts.pressure:
        lacks.append(Lacking("pressure stall information", "statistics have no pressure (boot with psi=1)"))
    return lacks


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _number(path: str) -> int:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else 0

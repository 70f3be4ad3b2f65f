"""The preflight: one finding a property of the machine, and what follows from it. Changes nothing."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from minikubelet.cli import text
from minikubelet.linux import apparmor, host, nftables, seccomp

Level = Literal["ok", "warn", "fail"]

_LEAST_SPACE = 2 << 30
_FATAL_CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_KILL")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    what: str
    consequence: str = ""


def all_findings(root: str) -> list[Finding]:
    """Every check, in the order a person reads them; ``root`` is the state folder."""
    facts = host.detect()
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _user,
        lambda: _kernel(facts),
        lambda: _cgroup(facts),
        lambda: _capabilities(facts),
        lambda: _filesystems(facts),
        lambda: _network(facts),
        _libraries,
        lambda: _security(facts),
        lambda: _space(root),
    )
    return [finding for check in checks for finding in check()]


def _user() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding("ok", "running as root")
    else:
        yield Finding(
            "fail", "not root", "the daemon makes namespaces and mounts; what follows may be incomplete"
        )


def _kernel(facts: host.HostFacts) -> Iterator[Finding]:
    if facts.kernel >= (5, 14):
        yield Finding("ok", f"kernel {facts.release}")
    else:
        yield Finding("fail", f"kernel {facts.release}", "5.14 or newer is needed (cgroup.kill)")


def _cgroup(facts: host.HostFacts) -> Iterator[Finding]:
    mount = facts.cgroup
    if mount.mode == "legacy":
        yield Finding("fail", "cgroup2 is not mounted", "boot with systemd.unified_cgroup_hierarchy=1")
        return
    if mount.mode == "unified":
        yield Finding("ok", f"cgroup2 on {mount.path}")
    else:
        yield Finding(
            "warn",
            f"cgroup2 on {mount.path}, hybrid mode",
            "controllers on cgroup v1 are not used: their limits are refused "
            "(or skipped with --unenforced-limits=allow)",
        )
    for name in ("cpu", "memory", "pids", "cpuset", "io", "hugetlb"):
        consequence = _consequence(facts, f"cgroup2 controller {name}")
        if consequence is None:
            yield Finding("ok", f"cgroup2 controller {name}")
        else:
            where = " (it is on cgroup v1)" if name in mount.legacy_controllers else ""
            yield Finding("warn", f"no cgroup2 controller {name}{where}", consequence)


def _consequence(facts: host.HostFacts, what: str) -> str | None:
    """What follows from a lack that :mod:`host` has found; None if it is not lacking."""
    for lack in facts.lacks:
        if lack.what == what or lack.what.startswith(f"{what} "):
            return lack.consequence
    return None


def _capabilities(facts: host.HostFacts) -> Iterator[Finding]:
    lacking = [lack for lack in facts.lacks if lack.what.startswith("CAP_")]
    for lack in lacking:
        level: Level = "fail" if lack.what in _FATAL_CAPABILITIES else "warn"
        yield Finding(level, f"no {lack.what}", lack.consequence)
    if not lacking:
        yield Finding("ok", "all capabilities that are needed")


def _filesystems(facts: host.HostFacts) -> Iterator[Finding]:
    if "overlay" in facts.filesystems or _module("overlay"):
        yield Finding("ok", "overlay file system")
    else:
        yield Finding(
            "fail", "no overlay file system", "containers have no root file system (modprobe overlay)"
        )
    if facts.user_namespaces:
        yield Finding("ok", f"user namespaces (up to {facts.user_namespaces})")
    else:
        yield Finding("warn", "no user namespaces", "pods with hostUsers: false are refused")


def _network(facts: host.HostFacts) -> Iterator[Finding]:
    for module, consequence in (
        ("bridge", "pods have no network, but the host's"),
        ("veth", "pods have no network, but the host's"),
        ("nf_tables", "no masquerading and no host ports"),
    ):
        if _module(module):
            yield Finding("ok", f"kernel module {module}")
        else:
            yield Finding("fail", f"no kernel module {module}", f"{consequence} (modprobe {module})")
    if _read("/proc/sys/net/ipv4/ip_forward") == "1":
        yield Finding("ok", "IPv4 forwarding is on")
    else:
        yield Finding("warn", "IPv4 forwarding is off", "the daemon turns it on when it starts")
    if not facts.ipv6:
        yield Finding("warn", "no IPv6", "pods have IPv4 only")


def _libraries() -> Iterator[Finding]:
    if problem := nftables.available():
        yield Finding("fail", "no libnftables", f"{problem} (apt-get install libnftables1)")
    else:
        yield Finding("ok", "libnftables")
    if seccomp.available():
        yield Finding("ok", "libseccomp")
    else:
        yield Finding(
            "warn",
            "no libseccomp",
            "containers with a seccomp profile are refused (apt-get install libseccomp2)",
        )


def _security(facts: host.HostFacts) -> Iterator[Finding]:
    if facts.seccomp:
        yield Finding("ok", "seccomp filters")
    else:
        yield Finding("warn", "no seccomp filters", "containers that ask for a profile are refused")
    if not facts.apparmor:
        yield Finding("warn", "no AppArmor", "containers that ask for an AppArmor profile are refused")
    elif apparmor.parser():
        yield Finding("ok", "AppArmor")
    else:
        yield Finding(
            "warn",
            "AppArmor is on, but there is no apparmor_parser",
            "only Localhost profiles confine containers (apt-get install apparmor)",
        )
    if facts.selinux:
        yield Finding("ok", "SELinux")


def _space(root: str) -> Iterator[Finding]:
    folder = root
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if free >= _LEAST_SPACE:
        yield Finding("ok", f"{text.size(free)} free for {root}")
    else:
        yield Finding("warn", f"only {text.size(free)} free for {root}", "images may not fit")
    if os.statvfs(folder).f_favail and os.statvfs(folder).f_favail < 100_000:
        yield Finding(
            "warn", f"only {os.statvfs(folder).f_favail} inodes free for {root}", "images may not fit"
        )


def _module(name: str) -> bool:
    """Whether a kernel module is loaded, built in, or can be loaded."""
    if os.path.isdir(f"/sys/module/{name}") or _configured(name):
        return True
    folder = f"/lib/modules/{os.uname().release}"
    for listing in ("modules.dep", "modules.builtin"):
        if f"/{name}.ko" in _read(f"{folder}/{listing}"):
            return True
    return False


_OPTIONS = {
    "bridge": "CONFIG_BRIDGE",
    "veth": "CONFIG_VETH",
    "nf_tables": "CONFIG_NF_TABLES",
    "overlay": "CONFIG_OVERLAY_FS",
}


def _configured(name: str) -> bool:
    """Built in according to the kernel's own configuration; not every kernel shows it."""
    wanted = f"{_OPTIONS[name]}=y"
    try:
        with gzip.open("/proc/config.gz", "rt", encoding="ascii", errors="replace") as file:
            if any(line.strip() == wanted for line in file):
                return True
    except OSError:
        pass
    return wanted in _read(f"/boot/config-{os.uname().release}").splitlines()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""

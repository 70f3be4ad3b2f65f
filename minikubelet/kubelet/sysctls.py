"""Kernel settings that pods may ask for: those of their own namespaces, and of these the safe ones."""

from __future__ import annotations

from collections.abc import Iterable

from minikubelet.kubelet.objects import Pod

SAFE = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
"""Namespaced, and without influence on other pods (pkg/kubelet/sysctl, for kernels since 4.15)."""
_IPC = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_NET = ("net.",)


def normalise(name: str) -> str:
    """The dotted form of a name written with dots or slashes: the first separator decides (sysctl.d(5))."""
    first = next((char for char in name if char in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def namespace_of(name: str) -> str:
    """``ipc``, ``net``, or nothing for what is not known to be namespaced (namespaces(7))."""
    bare = normalise(name)
    if bare == "kernel.sem" or bare.startswith(_IPC):
        return "ipc"
    return "net" if bare.startswith(_NET) else ""


def check_patterns(patterns: Iterable[str]) -> None:
    """Raises ValueError for an allowed sysctl that is not known to be namespaced."""
    for pattern in patterns:
        if not namespace_of(pattern):
            raise ValueError(f"the sysctls {pattern!r} are not known to be namespaced")


def forbidden(pod: Pod, allowed: Iterable[str] = ()) -> str:
    """Why a pod's sysctls are refused; empty if they aren't. ``allowed``: names, or beginnings with ``*``."""
    context = pod.spec.security_context
    for sysctl in context.sysctls if context else []:
        name = normalise(sysctl.name)
        if not any(_matches(name, pattern) for pattern in (*SAFE, *allowed)):
            return f'"{name}" not allowlisted'
        namespace = namespace_of(name)
        if (namespace == "ipc" and pod.spec.host_ipc) or (namespace == "net" and pod.spec.host_network):
            return f'"{name}" not allowed with host {namespace} enabled'
    return ""


def _matches(name: str, pattern: str) -> bool:
    bare = normalise(pattern)
    return name.startswith(bare[:-1]) if bare.endswith("*") else name == bare

"""The files every pod has in its run folder: hosts, hostname, resolv.conf."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from minikubelet.runtime.models import SandboxConfig
from minikubelet.runtime.security import read_regular

log = logging.getLogger(__name__)

_LIMIT = 1 << 20
_HOSTS = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def write_pod_files(run_dir: str, config: SandboxConfig, hostname: str) -> None:
    """Write them into a new folder nobody reads yet. Raises OSError.

    The runtime manages no host names of pods (the kubelet mounts its own /etc/hosts); the host's files are
    copied, as containerd does, so that a container can't write to them.
    """
    _write(f"{run_dir}/hostname", hostname.encode() + b"\n")
    _write(f"{run_dir}/hosts", _host_file("/etc/hosts", _HOSTS))
    dns = config.dns
    if dns is None or not (dns.servers or dns.searches or dns.options):
        _write(f"{run_dir}/resolv.conf", _host_file("/etc/resolv.conf", b""))
        return
    write_resolver(run_dir, dns.servers, dns.searches, dns.options)


def write_resolver(
    run_dir: str, servers: Sequence[str], searches: Sequence[str], options: Sequence[str]
) -> None:
    """Write the pod's resolv.conf. Raises OSError."""
    lines = []
    if searches:
        lines.append("search " + " ".join(searches))
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append("options " + " ".join(options))
    _write(f"{run_dir}/resolv.conf", "\n".join([*lines, ""]).encode())


def _host_file(path: str, default: bytes) -> bytes:
    try:
        return read_regular(path, _LIMIT)
    except (OSError, ValueError) as exc:
        log.debug("%s of the host can't be used: %s", path, exc)
        return default


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.fchmod(fd, 0o644)
        os.write(fd, data)
    finally:
        os.close(fd)


def pod_hostname(config: SandboxConfig) -> str:
    """The pod's host name: the node's with the host's network (its UTS namespace is the host's then), else as
    configured, else the pod's name."""
    if config.namespaces.network == "node":
        return os.uname().nodename
    return config.hostname or config.metadata.name[:63]

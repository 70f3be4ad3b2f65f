"""Files the kubelet keeps for a pod: hosts file, termination messages, log folders."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Sequence

from minikubelet.base import ids
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.linux import renames

MAX_TERMINATION_MESSAGE = 4096
MAX_FALLBACK_MESSAGE = 2048
MAX_FALLBACK_LINES = 80
NODE_HOSTS = "/etc/hosts"
_LOG_FILE = re.compile(r"(\d+)\.log(\.|\Z)")


def absolute(path: str) -> str:
    """A path inside a container as it is mounted: a relative one begins at the root."""
    return path if path.startswith("/") else f"/{path}"


def log_directory(config: KubeletConfig, pod: Pod) -> str:
    """``LOG_DIR/NAMESPACE_NAME_UID``."""
    meta = pod.metadata
    return os.path.join(config.log_dir, f"{meta.namespace}_{meta.name}_{meta.uid}")


def log_path(container: str, attempt: int) -> str:
    """A container's log relative to the pod's log folder."""
    return f"{container}/{attempt}.log"


def last_logged_attempt(config: KubeletConfig, pod: Pod, container: str) -> int:
    """The highest N of the ``N.log`` files; -1 if there is none."""
    try:
        names = os.listdir(os.path.join(log_directory(config, pod), container))
    except (FileNotFoundError, NotADirectoryError):
        return -1
    return max((int(match[1]) for name in names if (match := _LOG_FILE.match(name))), default=-1)


def remove_logs_before(config: KubeletConfig, pod: Pod, container: str, attempt: int) -> None:
    """Delete the logs, rotated ones too, of a container's runs before ``attempt``."""
    folder = os.path.join(log_directory(config, pod), container)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):
            match = _LOG_FILE.match(name)
            if match and int(match[1]) < attempt:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def hostname(pod: Pod) -> str:
    """The host name inside the pod: 63 characters at most, never ending in a dash or dot."""
    name = pod.spec.hostname_override or pod.spec.hostname or pod.metadata.name
    return name[:63].rstrip("-.")


def domain(pod: Pod, cluster_domain: str) -> str:
    """The pod's DNS domain; empty without a subdomain."""
    if not pod.spec.subdomain or pod.spec.hostname_override:
        return ""
    return f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}".rstrip(".")


def write_hosts(config: KubeletConfig, pod: Pod, pod_ips: Sequence[str]) -> str:
    """(Re)write the pod's hosts file in place, so that running containers see it; returns its path.

    Raises OSError, also where the pod shall have the node's file and that can't be read.
    """
    path = os.path.join(config.pod_dir(pod.uid), "etc-hosts")
    if pod.spec.host_network:
        with open(NODE_HOSTS, encoding="utf-8", errors="replace") as file:
            text = "# Kubernetes-managed hosts file (host network).\n" + file.read(1 << 20)
    else:
        text = _hosts(hostname(pod), domain(pod, config.cluster_domain), pod_ips)
    if pod.spec.host_aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in pod.spec.host_aliases:
            text += alias.ip + "\t" + "\t".join(alias.hostnames) + "\n"
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    return path


def _hosts(name: str, domain_name: str, pod_ips: Sequence[str]) -> str:
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    full = f"{name}.{domain_name}\t{name}" if domain_name else name
    return "\n".join([*lines, *(f"{ip}\t{full}" for ip in pod_ips)]) + "\n"


def make_termination_file(config: KubeletConfig, pod: Pod, container: Container) -> str:
    """A new empty file that a container writes its termination message to; returns its path."""
    folder = os.path.join(config.pod_dir(pod.uid), "containers", container.name)
    os.makedirs(folder, mode=0o750, exist_ok=True)
    path = os.path.join(folder, ids.new_id()[:8])
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.fchmod(fd, 0o666)
    finally:
        os.close(fd)
    return path


def read_tail(path: str, limit: int) -> str:
    """The last ``limit`` bytes of a regular file; empty if it can't be read. Follows no link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return ""
        return os.pread(fd, limit, max(0, status.st_size - limit)).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def log_tail(path: str) -> str:
    """The last lines of a CRI log without time stamps, for FallbackToLogsOnError."""
    lines = read_tail(path, 4 * MAX_FALLBACK_MESSAGE).splitlines()[-MAX_FALLBACK_LINES:]
    parts = [line.split(" ", 3) for line in lines]
    text = "".join(p[3] + ("" if p[2].startswith("P") else "\n") for p in parts if len(p) == 4)
    return text[-MAX_FALLBACK_MESSAGE:]


def write_checkpoint(path: str, data: bytes) -> None:
    """Replace a state file in one step; its folder is made if need be. Of no use after a power cut.

    The former one stays beside it and is written to the next time: ext4 without a journal looks at all inodes
    that were deleted lately when it makes a file (docs/performance.md). Raises OSError.
    """
    folder, name = os.path.split(path)
    former = os.path.join(folder, f".{name}.former")
    try:
        fd = _open_former(former)
    except FileNotFoundError:
        os.makedirs(folder, mode=0o750, exist_ok=True)
        fd = _open_former(former)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        # Not O_TRUNC: of a file that was empty for a moment, ext4 begins to write the new content out, too.
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)
    renames.put_in_place(former, path)


def _open_former(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

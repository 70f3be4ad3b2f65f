"""SELinux: whether it is on, contexts, relabelling files.

Sources: selinux(8), lxc_contexts(5) (the policy's contexts for containers), the kernel's
security/selinux/selinuxfs.c (what ``context`` answers).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from dataclasses import dataclass, replace

_ENFORCE = "/sys/fs/selinux/enforce"
_OWN = "/proc/self/attr/current"
_CHECK = "/sys/fs/selinux/context"
_CONFIG = "/etc/selinux"
_ATTRIBUTE = "security.selinux"
_CATEGORIES = 1024
PROTECTED = frozenset(
    [
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib64",
        "/media",
        "/mnt",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/sys",
        "/tmp",
        "/usr",
        "/var",
        "/var/lib",
        "/var/log",
    ]
)
"""Folders of the host that are never relabelled: the host would stop working."""


@dataclass(frozen=True)
class Context:
    """``USER:ROLE:TYPE:LEVEL``; the level may have colons itself."""

    user: str
    role: str
    type: str
    level: str = "s0"

    @classmethod
    def parse(cls, text: str) -> Context:
        """Raises ValueError."""
        parts = text.strip().split(":", 3)
        if len(parts) < 3 or not all(parts):
            raise ValueError(f"{text!r} is no SELinux context")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.user}:{self.role}:{self.type}:{self.level}"


PROCESS = Context("system_u", "system_r", "container_t")
FILE = Context("system_u", "object_r", "container_file_t")
"""What containers have where the policy says nothing else (container-selinux)."""


def enabled(path: str = _ENFORCE, own: str = _OWN) -> bool:
    """Whether this kernel has SELinux on, enforcing or not.

    Before a policy is loaded all contexts would be taken, and mean nothing: this process is called ``kernel``
    then (as libselinux finds it out).
    """
    if not os.path.exists(path):
        return False
    with contextlib.suppress(OSError), open(own, "rb") as file:
        return file.read(4096).strip(b"\0\n") not in (b"", b"kernel")
    return False


def container_contexts(config: str = _CONFIG) -> tuple[Context, Context]:
    """The policy's contexts for processes and files of containers. What can't be read is the default."""
    policy = _settings(f"{config}/config").get("SELINUXTYPE", "targeted")
    found = _settings(f"{config}/{policy}/contexts/lxc_contexts")
    process, file = PROCESS, FILE
    with contextlib.suppress(ValueError):
        process = Context.parse(found.get("process", str(PROCESS)))
    with contextlib.suppress(ValueError):
        file = Context.parse(found.get("file", str(FILE)))
    return process, file


def _settings(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 16).splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip('"') for name, equals, value in pairs if equals}


def own_level(seed: str) -> str:
    """A level with two categories, of half a million pairs: another pod than ``seed`` seldom has the same."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
    first = number % _CATEGORIES
    second = (first + 1 + number // _CATEGORIES % (_CATEGORIES - 1)) % _CATEGORIES
    low, high = sorted((first, second))
    return f"s0:c{low},c{high}"


def changed(context: Context, *, user: str = "", role: str = "", type: str = "", level: str = "") -> Context:
    """``context`` with what is not empty."""
    wanted = {"user": user, "role": role, "type": type, "level": level}
    return replace(context, **{name: value for name, value in wanted.items() if value})


def valid(context: str, path: str = _CHECK) -> bool:
    """Whether the loaded policy knows ``context``. Raises OSError (selinuxfs can't be asked)."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, context.encode() + b"\0")
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            return False
        raise
    finally:
        os.close(fd)
    return True


def relabel(path: str, context: str, attribute: str = _ATTRIBUTE) -> None:
    """Give ``path`` and all below it a label; blocks.

    No link below it is followed, and file systems without labels are left out. Raises OSError; EPERM for a
    folder that the host needs as it is.
    """
    top = os.path.realpath(path)
    if top in PROTECTED:
        raise OSError(errno.EPERM, "is the host's and is not relabelled", top)
    value = context.encode() + b"\0"
    _set(top, attribute, value)
    if not os.path.isdir(top):
        return
    for _, folders, files, fd in os.fwalk(top, onerror=_raise, follow_symlinks=False):
        for name in (*folders, *files):
            _set(f"/proc/self/fd/{fd}/{name}", attribute, value)


def _set(path: str, attribute: str, value: bytes) -> None:
    try:
        os.setxattr(path, attribute, value, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in (errno.ENOTSUP, errno.ENOENT):
            raise


def _raise(error: OSError) -> None:
    if error.errno != errno.ENOENT:
        raise error

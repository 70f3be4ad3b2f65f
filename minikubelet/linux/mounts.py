"""Mounts by descriptor: fsopen(2), open_tree(2), move_mount(2), mount_setattr(2); mount(2) for overlay."""

from __future__ import annotations

import contextlib
import ctypes
import os

from minikubelet.linux import libc
from minikubelet.linux.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, check

MS_RDONLY = 1
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

ATTR_RDONLY = 0x01
ATTR_NOSUID = 0x02
ATTR_NODEV = 0x04
ATTR_NOEXEC = 0x08
ATTR_ATIME_MASK = 0x70
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NOSYMFOLLOW = 0x200000
ATTR_IDMAP = 0x100000

ATTRIBUTES = {
    "ro": ATTR_RDONLY,
    "rro": ATTR_RDONLY,
    "nosuid": ATTR_NOSUID,
    "nodev": ATTR_NODEV,
    "noexec": ATTR_NOEXEC,
    "noatime": ATTR_NOATIME,
    "relatime": 0,
    "strictatime": ATTR_STRICTATIME,
    "nosymfollow": ATTR_NOSYMFOLLOW,
}
"""Attribute bits by mount(8) name."""

PROPAGATIONS = {
    "private": (MS_PRIVATE, False),
    "rprivate": (MS_PRIVATE, True),
    "slave": (MS_SLAVE, False),
    "rslave": (MS_SLAVE, True),
    "shared": (MS_SHARED, False),
    "rshared": (MS_SHARED, True),
}
"""Propagation type and whether it is recursive, by mount(8) name."""

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
DEVPTS_SUPER_MAGIC = 0x1CD1
TMPFS_MAGIC = 0x01021994
CGROUP2_SUPER_MAGIC = 0x63677270

_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_FSOPEN_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_int, _str, _uint = ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
_open_tree = libc.system_call(428, _int, _str, _uint)
_move_mount = libc.system_call(429, _int, _str, _int, _str, _uint)
_fsopen = libc.system_call(430, _str, _uint)
_fsconfig = libc.system_call(431, _int, _uint, _str, _str, _int)
_fsmount = libc.system_call(432, _int, _uint, _uint)
_mount_setattr = libc.system_call(442, _int, _str, _uint, ctypes.POINTER(_MountAttr), ctypes.c_size_t)
_mount = libc.function("mount", _str, _str, _str, ctypes.c_ulong, _str)
_umount2 = libc.function("umount2", _str, _int)
_pivot_root = libc.function("pivot_root", _str, _str)


def clone_tree(path: str, *, recursive: bool = False, dirfd: int = AT_FDCWD) -> int:
    """A detached copy of the mount at ``path``, or at ``dirfd`` itself when empty; gone when closed.

    Needs CAP_SYS_ADMIN; the mount must belong to the caller's mount namespace or, since Linux 6.15, have come
    from fsmount(2) and be attached nowhere.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= 0 if path else AT_EMPTY_PATH
    return check(_open_tree(dirfd, os.fsencode(path), flags), path or f"fd {dirfd}")


def attach(mount_fd: int, target_fd: int, what: str = "") -> None:
    """Attach a detached mount onto what ``target_fd`` (O_PATH) refers to. ``what`` names it in the error."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    check(_move_mount(mount_fd, b"", target_fd, b"", flags), what)


def set_attributes(
    fd: int,
    path: str = "",
    *,
    add: int = 0,
    remove: int = 0,
    propagation: int = 0,
    recursive: bool = False,
) -> None:
    """mount_setattr(2) on ``path`` relative to ``fd``, or on ``fd`` itself when empty. Raises OSError."""
    attributes = _MountAttr(add, remove, propagation, 0)
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    result = _mount_setattr(fd, os.fsencode(path), flags, ctypes.byref(attributes), ctypes.sizeof(attributes))
    check(result, path or f"fd {fd}")


def map_ids(tree: int, userns: int, *, recursive: bool = False) -> None:
    """Show the owners of a detached mount as the user namespace ``userns`` maps them (mount_setattr(2)).

    Raises OSError EINVAL for a file system that has no ID-mapped mounts.
    """
    attributes = _MountAttr(ATTR_IDMAP, 0, 0, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(attributes)
    check(_mount_setattr(tree, b"", flags, ctypes.byref(attributes), size), f"fd {tree}")


def new_filesystem(
    kind: str, options: str = "", attributes: int = 0, source: str = "", label: str = ""
) -> int:
    """A new, detached mount of file system ``kind`` with its own ``options`` (``a=1,b``); a descriptor.

    ``label`` is the SELinux context that all its files have (mount(8), "context"); empty: none.
    Raises OSError whose text is the kernel's own explanation where it gives one.
    """
    context = check(_fsopen(kind.encode(), _FSOPEN_CLOEXEC), kind)
    try:
        _configure(context, kind, "source", source or kind)
        for option in options.split(","):
            if option:
                name, equals, value = option.partition("=")
                _configure(context, kind, name, value if equals else None)
        if label:
            _configure(context, kind, "context", label)
        if _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0) < 0:
            _raise_explained(context, kind)
        return check(_fsmount(context, _FSMOUNT_CLOEXEC, attributes), kind)
    finally:
        os.close(context)


def _configure(context: int, kind: str, name: str, value: str | None) -> None:
    if value is None:
        result = _fsconfig(context, _FSCONFIG_SET_FLAG, os.fsencode(name), None, 0)
    else:
        result = _fsconfig(context, _FSCONFIG_SET_STRING, os.fsencode(name), os.fsencode(value), 0)
    if result < 0:
        _raise_explained(context, f"{kind} option {name}")


def _raise_explained(context: int, what: str) -> None:
    number = ctypes.get_errno()
    messages: list[str] = []
    with contextlib.suppress(OSError):
        while len(messages) < 8 and (text := os.read(context, 4096)):
            messages.append(text.decode(errors="replace").strip().removeprefix("e "))
    raise OSError(number, "; ".join(messages) or os.strerror(number), what)


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """mount(2); ``data`` beyond a page is refused with EINVAL by the kernel."""
    result = _mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(data))
    check(result, target)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    check(_umount2(os.fsencode(target), flags), target)


def pivot_into(new_root_fd: int) -> None:
    """Make ``new_root_fd`` (a mount of this namespace) the root and detach the old one.

    pivot_root(2) with both arguments ``.`` puts the old root on top of the new one, from where it is
    unmounted: no folder for it is needed in the image. The caller has made the old one's mounts slaves or
    private before, so that the unmounting stays here.
    """
    os.fchdir(new_root_fd)
    check(_pivot_root(b".", b"."), "/")
    unmount(".")
    os.chdir("/")


def overlay_filesystem(lowerdirs: list[str], upperdir: str, workdir: str, label: str = "") -> int:
    """A detached overlay of many layers, one ``lowerdir+`` each (Linux 6.5), uppermost first.

    ``label`` as for :func:`new_filesystem`.
    """
    context = check(_fsopen(b"overlay", _FSOPEN_CLOEXEC), "overlay")
    try:
        _configure(context, "overlay", "source", "overlay")
        for folder in lowerdirs:
            _configure(context, "overlay", "lowerdir+", folder)
        for name, value in (
            ("upperdir", upperdir),
            ("workdir", workdir),
            ("index", "off"),
            ("metacopy", "off"),
        ):
            _configure(context, "overlay", name, value)
        if label:
            _configure(context, "overlay", "context", label)
        if _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0) < 0:
            _raise_explained(context, "overlay")
        return check(_fsmount(context, _FSMOUNT_CLOEXEC, 0), "overlay")
    finally:
        os.close(context)

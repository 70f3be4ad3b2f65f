"""The files of a checkpoint: a container's writable layer as an image layer, and everything as one tar."""

from __future__ import annotations

import os
import secrets
import stat
import tarfile

_OPAQUE = "trusted.overlay.opaque"


def write_upper(upper: str, path: str) -> None:
    """An overlay's upper folder as an OCI layer (image-spec, layer.md): what is deleted becomes ``.wh.NAME``.

    Raises OSError.
    """
    with open(path, "xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder, folders, names in os.walk(upper):
            relative = os.path.relpath(folder, upper)
            if relative != "." and _is_opaque(folder):
                tar.addfile(tarfile.TarInfo(f"{relative}/.wh..wh..opq"))
            for name in sorted((*folders, *names)):
                _add(tar, f"{folder}/{name}", os.path.normpath(f"{relative}/{name}"))


def _add(tar: tarfile.TarFile, path: str, name: str) -> None:
    info = os.lstat(path)
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
        folder, _, last = name.rpartition("/")
        tar.addfile(tarfile.TarInfo(f"{folder}/.wh.{last}".lstrip("/")))
    elif not stat.S_ISSOCK(info.st_mode):  # tar has no sockets
        member = tar.gettarinfo(path, name)
        for attribute in os.listxattr(path, follow_symlinks=False):
            if not attribute.startswith("trusted.overlay."):
                value = os.getxattr(path, attribute, follow_symlinks=False)
                key = f"SCHILY.xattr.{attribute}"
                member.pax_headers = {**member.pax_headers, key: value.decode("utf-8", "surrogateescape")}
        if member.isreg():
            with open(path, "rb") as content:
                tar.addfile(member, content)
        else:
            tar.addfile(member)


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def write_archive(folder: str, location: str) -> None:
    """All files of ``folder`` as a tar at ``location``, readable by its owner alone: it holds memory.

    It is whole or not there. Raises OSError.
    """
    part = f"{location}.{secrets.token_hex(4)}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(os.listdir(folder)):
                tar.add(f"{folder}/{name}", name)
        os.rename(part, location)
    except BaseException:
        os.unlink(part)
        raise

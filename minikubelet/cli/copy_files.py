"""Files to and from a container through ``tar`` in it, over exec.

What comes out of a container is not trusted: nothing is written outside of the destination, through a link,
or as anything but a folder or a regular file.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tarfile
from collections.abc import Iterator
from typing import IO

from minikubelet.cli.options import CommandError

_CHUNK = 1 << 20


def pack(source: str, name: str, output: IO[bytes]) -> None:
    """Write a tar stream of ``source`` to ``output``, its entries below ``name``. Raises OSError."""
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.add(source, arcname=name)


def unpack(stream: IO[bytes], source: str, destination: str, *, preserve: bool = True) -> int:
    """Write what ``tar cf - SOURCE`` sent to ``destination``, the copy's own path; returns their number.

    Raises CommandError, OSError.
    """
    count = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                count += 1
                parts = _parts_below(member.name, source)
                if parts is None:
                    _warn(f"{member.name!r} is not below {source!r}")
                    continue
                _write(archive, member, destination, parts, preserve=preserve)
    except tarfile.ReadError as exc:
        if count or "empty file" not in str(exc):
            raise CommandError(f"what came is not a whole archive: {exc}") from None
    return count


def _parts_below(name: str, source: str) -> list[str] | None:
    """The path of an entry below ``source``; None if it isn't there."""
    whole = [part for part in name.split("/") if part not in ("", ".")]
    prefix = [part for part in source.split("/") if part not in ("", ".")]
    if ".." in whole or whole[: len(prefix)] != prefix:
        return None
    return whole[len(prefix) :]


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, destination: str, parts: list[str], *, preserve: bool
) -> None:
    parent, base = os.path.split(destination)
    names = [base, *parts]
    if not (member.isdir() or member.isreg()):
        kind = "a link" if member.issym() or member.islnk() else "a special file"
        _warn(f"{member.name!r} is {kind}")
        return
    try:
        with _folder(parent or ".", names[:-1]) as folder:
            if member.isdir():
                _make_folder(folder, names[-1])
            else:
                _write_file(archive, member, folder, names[-1])
            if preserve:
                os.chmod(names[-1], member.mode & 0o777, dir_fd=folder)
                os.utime(names[-1], (member.mtime, member.mtime), dir_fd=folder, follow_symlinks=False)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, "/".join([parent or ".", *names])) from None


@contextlib.contextmanager
def _folder(start: str, names: list[str]) -> Iterator[int]:
    """A descriptor of ``start/NAMES…``, made where missing; no link below ``start`` is followed."""
    fd = os.open(start, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            _make_folder(fd, name)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _make_folder(fd: int, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=fd)


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    source = archive.extractfile(member)
    assert source is not None  # a regular file has content
    with os.fdopen(os.open(name, flags, 0o644, dir_fd=folder), "wb") as target:
        while piece := source.read(_CHUNK):
            target.write(piece)


def _warn(what: str) -> None:
    print(f"warning: {what}: skipped", file=sys.stderr)

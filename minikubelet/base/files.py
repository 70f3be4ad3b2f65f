"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os


def write_atomic(
    path: str | os.PathLike[str],
    data: bytes,
    *,
    mode: int = 0o600,
    sync: bool = False,
) -> None:
    """Replace ``path`` by ``data`` in one rename(2); never seen half-written.

    With ``sync`` the data survives a power cut (fsync(2) of file and folder). Raises OSError.
    """
    name = os.fspath(path)
    folder = os.path.dirname(name) or "."
    temporary = os.path.join(folder, f".{os.path.basename(name)}.{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

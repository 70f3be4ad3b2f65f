"""Folders of container logs, below the pod's log_directory and nowhere else."""

from __future__ import annotations

import errno
import os
import posixpath

from minikubelet.base.errors import StepError, invalid
from minikubelet.linux import openat2


def make_folder(log_directory: str, log_path: str) -> None:
    """Make the folder of ``log_directory/log_path``. A link below log_directory is an error, not followed.

    Raises INVALID_ARGUMENT, StepError.
    """
    try:
        os.makedirs(log_directory, 0o755, exist_ok=True)
        fd = os.open(log_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise StepError("make the log folder", exc.errno or 0, log_directory) from exc
    try:
        for part in posixpath.dirname(posixpath.normpath(log_path)).split("/"):
            if not part:
                continue
            try:
                os.mkdir(part, 0o755, dir_fd=fd)
            except FileExistsError:
                pass
            child = openat2.open_beneath(fd, part, os.O_PATH | os.O_DIRECTORY)
            os.close(fd)
            fd = child
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR):
            raise invalid("config.log_path", f"{log_path!r} leads through a link or a file") from exc
        raise StepError("make the log folder", exc.errno or 0, log_path) from exc
    finally:
        os.close(fd)

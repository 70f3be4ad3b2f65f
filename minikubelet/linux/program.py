"""execve(2) with bytes as they are: os.execve takes a mapping, which can't say what some environments are."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Sequence

from minikubelet.linux import libc

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_vector = ctypes.POINTER(ctypes.c_char_p)
_execve = libc.function("execve", ctypes.c_char_p, _vector, _vector)


def execute(path: bytes, args: Sequence[bytes], env: Sequence[bytes]) -> None:
    """Become the program ``path``; returns only by OSError."""
    argv = (ctypes.c_char_p * (len(args) + 1))(*args, None)
    environ = (ctypes.c_char_p * (len(env) + 1))(*env, None)
    libc.check(_execve(path, argv, environ), os.fsdecode(path))


def find(name: bytes, search: bytes) -> bytes:
    """The path of program ``name``: itself when it has a slash, else the first executable one in ``search``.

    Raises OSError with a text as upstream runtimes have it, which is what users know and search for.
    """
    shown = os.fsdecode(name)
    if b"/" in name:
        try:
            _check_executable(name)
        except OSError as exc:
            reason = _strerror(exc)
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                reason = f"stat {shown}: {reason}"
            raise OSError(exc.errno, f'exec: "{shown}": {reason}', shown) from None
        return name
    for folder in search.split(b":"):
        path = (folder or b".") + b"/" + name
        try:
            _check_executable(path)
        except OSError:
            continue
        return path
    raise OSError(errno.ENOENT, f'exec: "{shown}": executable file not found in $PATH', shown)


def _check_executable(path: bytes) -> None:
    info = os.stat(path)
    if stat.S_ISDIR(info.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not info.st_mode & 0o111 or not os.access(path, os.X_OK, effective_ids=True):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _strerror(exc: OSError) -> str:
    return os.strerror(exc.errno or 0).lower()

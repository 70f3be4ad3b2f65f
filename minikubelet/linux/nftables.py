"""libnftables through ctypes: run commands in nft(8)'s own language as one atomic transaction.

One context, one caller at a time: the kernel takes a transaction whole or not at all, so several
commands in one :meth:`Nftables.run` take effect together.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
from typing import Any

_LIBRARY = "libnftables.so.1"
_OUTPUT_JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON of nftables/libnftables.h
_ERRNOS = (
    errno.ENOENT,
    errno.EEXIST,
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.EBUSY,
    errno.EINVAL,
    errno.ENOBUFS,
)


class NftablesError(OSError):
    """A transaction that libnftables or the kernel refused; nothing of it took effect."""


def _load() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        message = f"{exc} (install libnftables1: pods' masquerade and host ports need it)"
        raise NftablesError(errno.ENOPKG, message, _LIBRARY) from exc
    lib.nft_ctx_new.argtypes = [ctypes.c_uint32]
    lib.nft_ctx_new.restype = ctypes.c_void_p
    lib.nft_ctx_free.argtypes = [ctypes.c_void_p]
    lib.nft_ctx_free.restype = None
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
    lib.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    lib.nft_ctx_output_set_flags.restype = None
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
        getattr(lib, name).restype = ctypes.c_char_p
    lib.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return lib


class Nftables:
    """A libnftables context in the network namespace of the thread that makes it.

    Raises :class:`NftablesError` when the library is missing. Not for several threads at once.
    """

    def __init__(self) -> None:
        self._lib = _load()
        self._context = self._lib.nft_ctx_new(0)
        if not self._context:
            raise NftablesError(errno.ENOMEM, "nft_ctx_new failed", _LIBRARY)
        self._lib.nft_ctx_buffer_output(self._context)
        self._lib.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> str:
        """Run ``commands`` (lines of nft(8)) as one transaction; returns what nft would print.

        Raises :class:`NftablesError` with libnftables' text.
        """
        return self._run(commands, 0)

    def list(self, what: str) -> list[dict[str, Any]]:
        """``nft -j list WHAT``: the objects of libnftables-json(5), without the metainfo entry."""
        text = self._run(f"list {what}", _OUTPUT_JSON)
        entries: list[dict[str, Any]] = json.loads(text)["nftables"] if text.strip() else []
        return [entry for entry in entries if "metainfo" not in entry]

    def close(self) -> None:
        """Free the context; closing twice is allowed."""
        if self._context:
            self._lib.nft_ctx_free(self._context)
            self._context = None

    def _run(self, commands: str, flags: int) -> str:
        if not self._context:
            raise NftablesError(errno.EBADF, "the context is closed", _LIBRARY)
        self._lib.nft_ctx_output_set_flags(self._context, flags)
        result = self._lib.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = (self._lib.nft_ctx_get_output_buffer(self._context) or b"").decode()
        error = (self._lib.nft_ctx_get_error_buffer(self._context) or b"").decode().strip()
        if result != 0:
            raise NftablesError(_errno_of(error), error or "nft failed without a message", "nftables")
        return output


def _errno_of(text: str) -> int:
    """libnftables hands out text only; the kernel's errno is in it as strerror(3) words."""
    first = text.splitlines()[0] if text else ""
    for number in _ERRNOS:
        if os.strerror(number) in first:
            return number
    return errno.EINVAL


def available() -> str:
    """Empty when libnftables can be loaded, else what is wrong."""
    with contextlib.suppress(NftablesError):
        _load()
        return ""
    return f"{_LIBRARY} can't be loaded: install libnftables1"

"""Serving the API on the local socket."""

from __future__ import annotations

import os
import socket
import stat

from aiohttp import web

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.api.app import make_app
from minikubelet.kubelet.api.backend import Backend

MAX_LINE = 4 << 20
"""Bytes of the request line: no command that exec(2) takes is too long for it, encoded."""
_SHUTDOWN = 1.0
"""Seconds that open watches get when the daemon ends."""


class LocalApi:
    """The API on a unix socket that only its owner may connect to (0600)."""

    def __init__(self, backend: Backend, path: str) -> None:
        self._path = path
        self._runner = web.AppRunner(
            make_app(backend, local=True),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN,
            max_line_size=MAX_LINE,
        )

    async def start(self) -> None:
        """Listen. Raises NodeError ALREADY_EXISTS when somebody else does, OSError."""
        await self._runner.setup()
        listener = _listen(self._path)
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """End all requests and take the socket away."""
        await self._runner.cleanup()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def _listen(path: str) -> socket.socket:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    _take_over(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)  # before listen(2): until then nobody can connect
    except BaseException:
        listener.close()
        raise
    return listener


def _take_over(path: str) -> None:
    """Remove a socket that a process left behind. Raises NodeError when it is alive."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise NodeError(Code.ALREADY_EXISTS, f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
            return
    raise NodeError(Code.ALREADY_EXISTS, f"{path} is in use by another kubelet")

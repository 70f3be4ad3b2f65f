"""The socket that plugins connect to."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat

from minikubelet.base.errors import NodeError, precondition
from minikubelet.nri.manager import Manager

log = logging.getLogger(__name__)


class NriServer:
    """Serves plugins on a unix socket of mode 0600: whoever may use it can change every container."""

    def __init__(self, path: str, manager: Manager) -> None:
        self._path = path
        self._manager = manager
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises NodeError when another process serves there, OSError."""
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        _remove_stale(self._path)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path)
        finally:
            os.umask(mask)
        log.info("NRI plugins are served on %s", self._path)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._manager.serve(reader, writer)
        except Exception:
            log.exception("the connection of an NRI plugin failed")
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        """Let all plugins go and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        self._manager.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        if os.path.exists(self._path):
            os.unlink(self._path)


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise precondition(f"{path} is there and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise _taken(path)


def _taken(path: str) -> NodeError:
    return precondition(f"another process serves {path}")

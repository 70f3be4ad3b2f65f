"""Plugins that register by having a socket in a folder (upstream's pluginmanager, plugins_registry).

Each socket that appears below the folder is asked who it is; whoever takes plugins of that kind takes it or
not, and the plugin is told. It is let go when its socket goes. A silent one is asked again, ever later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from typing import Any, Protocol

import grpc

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import pluginregistration_pb2 as pb
from minikubelet.criapi import services
from minikubelet.linux import inotify

log = logging.getLogger(__name__)

INFO_TIMEOUT = 1.0
NOTIFY_TIMEOUT = 5.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 122.0
"""Seconds between two attempts, doubled each time; all four figures are upstream's."""
_MASK = inotify.CREATE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE | inotify.DELETE_SELF
_MAX_ENTRIES = 10_000


class Taker(Protocol):
    """Who takes plugins of one kind."""

    async def take(self, name: str, endpoint: str, versions: list[str]) -> None:
        """The plugin ``name`` serves at the socket ``endpoint``. Raises NodeError for one not to be had."""

    async def let_go(self, name: str, endpoint: str) -> None:
        """It is gone. Idempotent."""


class PluginWatcher:
    """One folder, with all that is below it. ``takers`` are by what plugins call their kind."""

    def __init__(self, folder: str, takers: Mapping[str, Taker]) -> None:
        self._folder = folder
        self._takers = dict(takers)
        self._notify = inotify.Inotify()
        self._folders: dict[int, str] = {}
        self._sockets: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begin with what is there. Raises OSError."""
        os.makedirs(self._folder, 0o755, exist_ok=True)
        self._look_into(self._folder)
        asyncio.get_running_loop().add_reader(self._notify.fileno(), self._readable)

    async def close(self) -> None:
        """Stop watching; plugins are let go."""
        asyncio.get_running_loop().remove_reader(self._notify.fileno())
        self._notify.close()
        tasks = list(self._sockets.values())
        self._sockets.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the folder ------------------------------------------------------------------------------------

    def _readable(self) -> None:
        for event in self._notify.read():
            if event.mask & inotify.Q_OVERFLOW:
                self._look_into(self._folder)
            folder = self._folders.get(event.watch)
            if folder is None:
                continue
            if event.mask & (inotify.DELETE_SELF | inotify.IGNORED):
                del self._folders[event.watch]
                continue
            path = os.path.join(folder, event.name)
            self._gone(path)  # or another one, of the same name
            if event.mask & (inotify.CREATE | inotify.MOVED_TO):
                self._appeared(path)

    def _look_into(self, folder: str) -> None:
        """Watch a folder, then see what is in it already. Raises OSError."""
        self._folders[self._notify.add(folder, _MASK | inotify.ONLYDIR)] = folder
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= _MAX_ENTRIES:
                    log.error("%s: more than %d entries, the others are left out", folder, _MAX_ENTRIES)
                    break
                self._appeared(entry.path)

    def _appeared(self, path: str) -> None:
        if os.path.basename(path).startswith(".") or path in self._sockets:
            return
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                self._look_into(path)
            elif stat.S_ISSOCK(mode):
                self._sockets[path] = asyncio.create_task(self._keep(path), name=f"plugin {path}")
        except OSError as exc:
            log.warning("plugins: %s", exc)

    def _gone(self, path: str) -> None:
        for each in [each for each in self._sockets if each == path or each.startswith(f"{path}/")]:
            self._sockets.pop(each).cancel()

    # --- one socket ------------------------------------------------------------------------------------

    async def _keep(self, path: str) -> None:
        """Register the plugin, sooner or later, and let it go when this is cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                taker, info = await self._register(path)
                break
            except (NodeError, grpc.aio.AioRpcError) as exc:
                words = exc.details() if isinstance(exc, grpc.aio.AioRpcError) else str(exc)
                log.warning("plugin at %s isn't registered, once more in %.0f s: %s", path, pause, words)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        log.info("plugin %s registered at %s", info.name, path)
        try:
            await asyncio.Event().wait()
        finally:
            await taker.let_go(info.name, info.endpoint)
            log.info("plugin %s at %s has gone", info.name, path)

    async def _register(self, path: str) -> tuple[Taker, pb.PluginInfo]:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
            plugin: Any = services.PLUGIN_REGISTRATION.connect(channel)
            info: pb.PluginInfo = await plugin.GetInfo(pb.InfoRequest(), timeout=INFO_TIMEOUT)
            info.endpoint = info.endpoint or path
            taker = self._takers.get(info.type)
            try:
                if taker is None:
                    message = f"no handler registered for plugin type: {info.type} at socket {path}"
                    raise NodeError(Code.UNIMPLEMENTED, message)
                await taker.take(info.name, info.endpoint, list(info.supported_versions))
            except NodeError as exc:
                status = pb.RegistrationStatus(plugin_registered=False, error=f"{exc}")
                await plugin.NotifyRegistrationStatus(status, timeout=NOTIFY_TIMEOUT)
                raise
            try:
                status = pb.RegistrationStatus(plugin_registered=True)
                await plugin.NotifyRegistrationStatus(status, timeout=NOTIFY_TIMEOUT)
            except BaseException:
                await taker.let_go(info.name, info.endpoint)
                raise
            return taker, info

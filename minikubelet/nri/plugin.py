"""One connected plugin: it registers, is configured, synchronized, and then asked about what happens."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

import minikubelet
from minikubelet.base.errors import Code, NodeError, invalid, precondition
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.nri.multiplex import PLUGIN_SERVICE, RUNTIME_SERVICE, BrokenTrunk, Trunk
from minikubelet.nri.ttrpc import CallFailed, Client, Server

log = logging.getLogger(__name__)

RUNTIME_NAME = "minikubelet"
NRI_VERSION = "v0.12.0"
_NAMES = re.compile(r"[A-Za-z0-9_.+-]{1,256}\Z")
_INDEX = re.compile(r"[0-9]{2}\Z")
_ALL_EVENTS = (1 << (nri.LAST - 1)) - 1
_PIECE = 1 << 20
"""Bytes of pods and containers in one piece of a synchronization; a message holds 4 MiB."""
_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True)
class Timeouts:
    """Seconds."""

    registration: float = 5.0
    request: float = 2.0


class PluginGone(Exception):
    """The plugin has ended, is broken or doesn't answer in time; its connection is closed."""


class Plugin:
    """One connection. ``update`` carries out unsolicited updates and returns those that failed."""

    def __init__(
        self,
        trunk: Trunk,
        timeouts: Timeouts,
        update: Callable[[Plugin, Sequence[nri.ContainerUpdate]], list[nri.ContainerUpdate]],
    ) -> None:
        self.name = "?"
        self.base = ""
        self.index = ""
        self.events = 0
        self.closed = False
        self._trunk = trunk
        self._timeouts = timeouts
        self._update = update
        self._registered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = Client(lambda data: trunk.send(PLUGIN_SERVICE, data), "nri.pkg.api.v1alpha1.Plugin")
        methods = {"RegisterPlugin": self._register, "UpdateContainers": self._update_containers}
        self._server = Server(
            lambda data: trunk.send(RUNTIME_SERVICE, data), "nri.pkg.api.v1alpha1.Runtime", methods
        )
        trunk.receivers = {PLUGIN_SERVICE: self._client.receive, RUNTIME_SERVICE: self._server.receive}

    # --- life ---

    async def read(self) -> None:
        """Read what it sends until it has gone or breaks the protocol."""
        try:
            await self._trunk.run()
        except (BrokenTrunk, OSError) as exc:
            log.warning("NRI plugin %s: %s", self.name, exc)
        finally:
            self.close()

    def close(self) -> None:
        """End the connection; what waits for the plugin goes on."""
        if not self.closed:
            self.closed = True
            self._client.close()
            self._server.close()
            self._trunk.close()
            if not self._registered.done():
                self._registered.set_exception(PluginGone("the connection has ended"))
                self._registered.exception()  # perhaps nobody waits

    async def start(self) -> None:
        """Wait for its registration, then configure it. Raises PluginGone, NodeError."""
        try:
            await asyncio.wait_for(asyncio.shield(self._registered), self._timeouts.registration)
        except TimeoutError:
            seconds = self._timeouts.registration
            raise PluginGone(f"it has not registered within {seconds:g} s") from None
        request = nri.ConfigureRequest(
            runtime_name=RUNTIME_NAME,
            runtime_version=minikubelet.__version__,
            registration_timeout=int(self._timeouts.registration * 1000),
            request_timeout=int(self._timeouts.request * 1000),
            NRI_version=NRI_VERSION,
        )
        events = (await self._call("Configure", request, nri.ConfigureResponse)).events
        if events & ~_ALL_EVENTS:
            raise invalid("events", f"{events & ~_ALL_EVENTS:#x} are no events")
        self.events = events or _ALL_EVENTS

    # --- what it asks ---

    async def _register(self, payload: bytes) -> Message:
        request = nri.RegisterPluginRequest.FromString(payload)
        if not _NAMES.match(request.plugin_name):
            raise invalid("plugin_name", f"{request.plugin_name[:300]!r} is no name of a plugin")
        if not _INDEX.match(request.plugin_idx):
            raise invalid("plugin_idx", f"{request.plugin_idx[:300]!r} is not two digits")
        if self._registered.done():
            raise precondition(f"plugin {self.name!r} has registered already")
        self.base, self.index = request.plugin_name, request.plugin_idx
        self.name = f"{self.index}-{self.base}"
        self._registered.set_result(None)
        return nri.Empty()

    async def _update_containers(self, payload: bytes) -> Message:
        request = nri.UpdateContainersRequest.FromString(payload)
        if not self.events:
            raise precondition("the plugin is not configured")
        if request.evict:
            raise NodeError(Code.UNIMPLEMENTED, "containers are not evicted for plugins", field="evict")
        return nri.UpdateContainersResponse(failed=self._update(self, request.update))

    # --- what it is told ---

    def wants(self, event: int) -> bool:
        """Whether it has subscribed to an event."""
        return bool(self.events >> (event - 1) & 1) and not self.closed

    async def ask(self, method: str, request: Message, answer: type[_M]) -> _M | None:
        """Its answer; None when it has gone. Raises NodeError when it refuses."""
        try:
            return await self._call(method, request, answer)
        except PluginGone as exc:
            log.error("NRI plugin %s is let go: %s", self.name, exc)
            return None

    async def tell(self, method: str, event: int, request: Any) -> None:
        """A plain event. Plugins before v0.12 know these as StateChange only. Raises NodeError."""
        try:
            await self._call(method, request, nri.Empty)
        except PluginGone as exc:
            log.error("NRI plugin %s is let go: %s", self.name, exc)
        except NodeError as exc:
            if exc.code is not Code.UNIMPLEMENTED:
                raise
            change = nri.StateChangeEvent(event=event, pod=request.pod)  # type: ignore[arg-type]
            if "container" in request.DESCRIPTOR.fields_by_name:
                change.container.CopyFrom(request.container)
            await self.ask("StateChange", change, nri.Empty)

    async def _call(self, method: str, request: Message, answer: type[_M]) -> _M:
        """Raises NodeError (it refuses), PluginGone."""
        seconds = self._timeouts.request
        try:
            data = await self._client.call(method, request, seconds)
            return answer.FromString(data)
        except CallFailed as exc:
            known = {code.value for code in Code}
            code = Code(exc.code) if exc.code in known else Code.INTERNAL
            raise NodeError(code, f"NRI plugin {self.name!r} refuses {method}: {str(exc)[:2000]}") from exc
        except TimeoutError:
            self.close()
            raise PluginGone(f"{method} took more than {seconds:g} s") from None
        except DecodeError as exc:
            self.close()
            raise PluginGone(f"{method} was answered with something else") from exc
        except (BrokenTrunk, ValueError) as exc:
            self.close()
            raise PluginGone(f"{method}: {exc}") from exc

    async def synchronize(
        self, pods: list[nri.PodSandbox], containers: list[nri.Container]
    ) -> list[nri.ContainerUpdate]:
        """Tell it what exists; returns the updates it wants. Raises NodeError, PluginGone."""
        pieces = split(pods, containers)
        for piece in pieces[:-1]:
            reply = await self._call("Synchronize", piece, nri.SynchronizeResponse)
            if reply.update or not reply.more:
                self.close()
                raise PluginGone("it doesn't take what exists in pieces")
        reply = await self._call("Synchronize", pieces[-1], nri.SynchronizeResponse)
        return list(reply.update)


def split(
    pods: list[nri.PodSandbox], containers: list[nri.Container], limit: int = _PIECE
) -> list[nri.SynchronizeRequest]:
    """Requests of about ``limit`` bytes; at least one."""
    pieces = [nri.SynchronizeRequest()]
    size = 0
    items: list[nri.PodSandbox | nri.Container] = [*pods, *containers]
    for item in items:
        length = item.ByteSize()
        if size and size + length > limit:
            pieces[-1].more = True
            pieces.append(nri.SynchronizeRequest())
            size = 0
        size += length
        if isinstance(item, nri.Container):
            pieces[-1].containers.append(item)
        else:
            pieces[-1].pods.append(item)
    return pieces

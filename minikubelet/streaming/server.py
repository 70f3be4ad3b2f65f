"""The streaming server: single-use token URLs for exec, attach and port-forward on a loopback port."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from minikubelet.streaming import port_forward, remote_command, spdy_channels, spdy_http, watch, websocket
from minikubelet.streaming.sessions import (
    AttachRequest,
    ExecRequest,
    PortForwardRequest,
    Request,
    SessionOpener,
    Streams,
    TokenCache,
)
from minikubelet.streaming.spdy import Connection

log = logging.getLogger(__name__)

HEADERS_TIMEOUT = 10.0
"""Seconds that a connection has for its request's headers: the port is open to everybody on the machine."""
MAX_WAITING = 256
"""Connections that have sent no request yet; one more, and the oldest goes."""

_PATHS: dict[type[Request], str] = {
    ExecRequest: "exec",
    AttachRequest: "attach",
    PortForwardRequest: "portforward",
}


def _refusal(status: int, text: str) -> web.Response:
    """The last word on this connection: whoever knows no token may not keep it."""
    response = web.Response(status=status, text=text)
    response.force_close()
    return response


class StreamingServer:
    """Turns checked CRI requests into URLs, and serves each URL once."""

    def __init__(self, opener: SessionOpener, address: str = "127.0.0.1", port: int = 0) -> None:
        self._opener = opener
        self._address = address
        self._port = port
        self._tokens = TokenCache()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._waiting: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        app = web.Application()
        app.on_response_prepare.append(_unnamed)
        for method in ("GET", "POST"):
            app.router.add_route(method, "/{kind:exec|attach|portforward}/{token}", self._handle)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            keepalive_timeout=HEADERS_TIMEOUT,
        )
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._greet, self._address, self._port)
        self._port = self._listening.sockets[0].getsockname()[1]

    def _greet(self) -> asyncio.BaseProtocol:
        """A connection has come: aiohttp has it, and it has to send a request soon."""
        assert self._runner is not None and self._runner.server is not None
        protocol = self._runner.server()
        if len(self._waiting) >= MAX_WAITING:
            self._dismiss(next(iter(self._waiting)))
        timer = asyncio.get_running_loop().call_later(HEADERS_TIMEOUT, self._dismiss, protocol)
        self._waiting[protocol] = timer
        return protocol

    def _dismiss(self, protocol: asyncio.BaseProtocol) -> None:
        self._waiting.pop(protocol).cancel()
        transport = getattr(protocol, "transport", None)
        if transport is not None:
            transport.abort()

    async def close(self) -> None:
        """Stop listening and end all sessions."""
        if self._listening is not None:
            self._listening.close()
        for protocol in list(self._waiting):
            self._dismiss(protocol)
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def session_count(self) -> int:
        """Sessions under way."""
        return len(self._sessions)

    def url(self, request: Request) -> str:
        """A URL that works once, within a minute. Raises NodeError RESOURCE_EXHAUSTED."""
        token = self._tokens.insert(request)
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self._port}/{_PATHS[type(request)]}/{token}"

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        if (timer := self._waiting.pop(http.protocol, None)) is not None:
            timer.cancel()
        upgradable = spdy_http.is_spdy(http) or websocket.is_websocket(http)
        if not upgradable:
            return _refusal(400, "unable to upgrade: SPDY/3.1 or WebSocket is required\n")
        request = self._tokens.consume(http.match_info["token"])
        if request is None or _PATHS[type(request)] != http.match_info["kind"]:
            return _refusal(404, "unknown, used or expired streaming token\n")
        if isinstance(request, PortForwardRequest):
            return await self._port_forward(http, request)
        return await self._remote_command(http, request)

    async def _session(self, http: web.Request, work: Awaitable[None], life: watch.Life) -> None:
        """Run a session until it ends, its client goes, nothing moves for too long, or close() is called."""
        transport = http.transport
        task = asyncio.ensure_future(work)
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

        def give_up() -> None:
            task.cancel()
            if transport is not None:
                transport.abort()

        idle = asyncio.create_task(watch.watch_idle(life.last_activity, give_up))
        probe = asyncio.create_task(watch.probe(life.ping))
        try:
            with watch.watch_peer(transport, give_up):
                await asyncio.wait({task})
        finally:
            for other in (idle, probe, task):
                other.cancel()
            await asyncio.gather(task, idle, probe, return_exceptions=True)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a streaming session failed", exc_info=error)

    # --- exec and attach ---------------------------------------------------------------------------

    async def _remote_command(
        self, http: web.Request, request: ExecRequest | AttachRequest
    ) -> web.StreamResponse:
        def open_streams() -> Awaitable[Streams]:
            if isinstance(request, ExecRequest):
                return self._opener.open_exec(request)
            return self._opener.open_attach(request)

        if websocket.is_websocket(http):
            return await self._remote_websocket(http, request, open_streams)
        protocol = spdy_http.negotiate(http, spdy_channels.PROTOCOLS)
        if protocol is None:
            return _refusal(403, "unable to upgrade: no supported stream protocol\n")
        channels = spdy_channels.SpdyChannels(protocol)
        connection = spdy_http.upgrade(http, protocol, channels.add)
        await self._spdy(http, connection, self._remote_spdy(connection, channels, request, open_streams))
        return spdy_http.Hijacked()

    async def _remote_websocket(
        self,
        http: web.Request,
        request: ExecRequest | AttachRequest,
        open_streams: Callable[[], Awaitable[Streams]],
    ) -> web.StreamResponse:
        if not websocket.accepts(http, websocket.PROTOCOLS):
            return _refusal(400, "unable to upgrade: no supported WebSocket protocol\n")
        ws = websocket.new_socket()
        await ws.prepare(http)
        channels = websocket.WebSocketChannels(ws)
        first = (
            websocket.STDOUT if request.stdout else websocket.STDERR if request.stderr else websocket.ERROR
        )
        await channels.announce(first)

        work = remote_command.serve(channels, open_streams)
        await self._session(http, work, watch.Life(lambda: channels.last_activity, ws.ping))
        return ws

    async def _remote_spdy(
        self,
        connection: Connection,
        channels: spdy_channels.SpdyChannels,
        request: ExecRequest | AttachRequest,
        open_streams: Callable[[], Awaitable[Streams]],
    ) -> None:
        wanted = {name for name in ("stdin", "stdout", "stderr") if getattr(request, name)}
        if request.tty:
            wanted.discard("stderr")
        if not await channels.wait_for(connection, wanted, request.tty):
            await channels.close()
            return
        await remote_command.serve(channels, open_streams)

    async def _spdy(self, http: web.Request, connection: Connection, work: Awaitable[None]) -> None:
        try:
            await self._session(http, work, watch.Life(lambda: connection.last_activity, connection.ping))
        finally:
            connection.close()
            http.protocol.transport = None  # the carrier's: it closes it when the client has taken all
            http.protocol.connection_lost(None)

    # --- port-forward --------------------------------------------------------------------------------

    async def _port_forward(self, http: web.Request, request: PortForwardRequest) -> web.StreamResponse:
        async def connect(port: int) -> socket.socket:
            return await self._opener.connect(request.sandbox_id, port)

        forwarder = port_forward.PortForwarder(connect)
        if websocket.is_websocket(http):
            return await self._forward_websocket(http, request, forwarder, connect)
        protocol = spdy_http.negotiate(http, (port_forward.SPDY_PROTOCOL,))
        if protocol is None:
            return _refusal(403, "unable to upgrade: no supported stream protocol\n")
        connection = spdy_http.upgrade(http, protocol, forwarder.add)
        await self._spdy(http, connection, self._forward(connection, forwarder))
        return spdy_http.Hijacked()

    async def _forward(self, connection: Connection, forwarder: port_forward.PortForwarder) -> None:
        try:
            await connection.lost.wait()
        finally:
            await forwarder.finish()

    async def _forward_websocket(
        self,
        http: web.Request,
        request: PortForwardRequest,
        forwarder: port_forward.PortForwarder,
        connect: port_forward.Connect,
    ) -> web.StreamResponse:
        protocols = (port_forward.TUNNEL_PROTOCOL, *port_forward.WEBSOCKET_PROTOCOLS)
        if not websocket.accepts(http, protocols):
            return _refusal(400, "unable to upgrade: no supported WebSocket protocol\n")
        ws = websocket.new_socket(protocols)
        await ws.prepare(http)
        if ws.ws_protocol != port_forward.TUNNEL_PROTOCOL:
            channels = port_forward.WebSocketPorts(ws, request.ports, connect)
            await self._session(http, channels.serve(), watch.Life(lambda: channels.last_activity, ws.ping))
            return ws
        carrier = spdy_http.WebSocketCarrier(ws)
        connection = Connection(carrier, forwarder.add)

        async def session() -> None:
            try:
                await carrier.run(connection)
            finally:
                await forwarder.finish()

        await self._session(http, session(), watch.Life(lambda: connection.last_activity, ws.ping))
        return ws


async def _unnamed(request: web.Request, response: web.StreamResponse) -> None:
    """Nobody needs to know what we run on."""
    response.headers.pop("Server", None)

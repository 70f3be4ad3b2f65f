"""Exec: a WebSocket of the client and one of the runtime's streaming server, message by message."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from aiohttp import WSMsgType, web

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.criapi import api_pb2 as api

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
MAX_MESSAGE = 4 << 20
HEARTBEAT = 30.0
"""Seconds between pings that find vanished peers."""
_CONNECT_TIMEOUT = 10.0


def exec_request(query: dict[str, list[str]], container_id: str) -> api.ExecRequest:
    """The CRI request of a query; both upstream's names (input, output, error) and the API's pass.

    Raises NodeError INVALID_ARGUMENT.
    """
    command = query.get("command", [])
    if not command:
        raise invalid("command", "you must specify at least 1 command for the container")

    def flag(*names: str) -> bool | None:
        values = [query[name][0] for name in names if name in query]
        return values[0].lower() in ("1", "true", "") if values else None

    tty = bool(flag("tty"))
    stdin = bool(flag("stdin", "input"))
    stdout, stderr = flag("stdout", "output"), flag("stderr", "error")
    if stdout is None and stderr is None:
        stdout, stderr = True, not tty
    if not (stdin or stdout or stderr):
        raise invalid("stdout", "you must specify at least 1 of stdin, stdout, stderr")
    return api.ExecRequest(
        container_id=container_id,
        cmd=command,
        tty=tty,
        stdin=stdin,
        stdout=bool(stdout),
        stderr=bool(stderr) and not tty,
    )


def offered(request: web.Request) -> list[str]:
    """The subprotocols that the client offers and that are understood, in its order. Raises NodeError."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise NodeError(Code.INVALID_ARGUMENT, "unable to upgrade: a WebSocket is required")
    names = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    known = [name for name in names if name in PROTOCOLS]
    if not known:
        wanted = ", ".join(PROTOCOLS)
        raise NodeError(
            Code.INVALID_ARGUMENT, f"unable to upgrade: none of the subprotocols {wanted} is offered"
        )
    return known


async def proxy(request: web.Request, url: str, protocols: list[str]) -> web.WebSocketResponse:
    """Connect to ``url`` first, then accept the client with the subprotocol that the runtime chose."""
    url = url.replace("wss://", "https://", 1).replace("ws://", "http://", 1)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
    async with aiohttp.ClientSession(trust_env=False, timeout=timeout) as session:
        try:
            runtime = await session.ws_connect(
                url, protocols=protocols, max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT, compress=0
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise NodeError(Code.UNAVAILABLE, f"the runtime's streaming server: {exc}") from exc
        async with runtime:
            chosen = (runtime.protocol,) if runtime.protocol else ()
            client = web.WebSocketResponse(
                protocols=chosen, max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT, compress=False
            )
            await client.prepare(request)
            await _join(client, runtime)
            return client


async def _join(client: web.WebSocketResponse, runtime: aiohttp.ClientWebSocketResponse) -> None:
    """Pass messages both ways until one side ends; what the runtime has sent until then is passed on."""
    tasks = [asyncio.create_task(_pass(client, runtime)), asyncio.create_task(_pass(runtime, client))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in (client, runtime):
            with contextlib.suppress(ConnectionError, RuntimeError):
                await side.close()


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pass(source: _Socket, target: _Socket) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await target.send_str(message.data)

"""exec, attach, portForward, run and checkpoint: what reaches into containers."""

from __future__ import annotations

import os
import time

from aiohttp import web

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api import find, stream_requests
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.api.upgrade import check_upgrade, hand_on
from minikubelet.kubelet.objects import Pod

_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_CLOSING = "v5.channel.k8s.io"
"""The subprotocol in which a side can say that a stream has ended (KEP-4006)."""
_RUN_PATIENCE = 120.0
"""Seconds for the command of /run, as upstream's runtime request time-out."""


def add_routes(router: web.UrlDispatcher, backend: Backend) -> None:
    """With and without the pod's UID in the path, GET (WebSocket) and POST (SPDY), as upstream has them."""
    handlers = _Streams(backend)
    pods = ("{namespace}/{pod}", "{namespace}/{pod}/{uid}")
    containers = tuple(f"{each}/{{container}}" for each in pods)
    for slash in ("", "/"):
        for path in (each + slash for each in containers):
            for verb, handler in (("exec", handlers.exec), ("attach", handlers.attach)):
                router.add_get(f"/{verb}/{path}", handler, allow_head=False)
                router.add_post(f"/{verb}/{path}", handler)
            router.add_post(f"/run/{path}", handlers.run)
        for path in (each + slash for each in pods):
            router.add_get(f"/portForward/{path}", handlers.port_forward, allow_head=False)
            router.add_post(f"/portForward/{path}", handlers.port_forward)
        router.add_post(f"/checkpoint/{containers[0]}{slash}", handlers.checkpoint)


class _Streams:
    """One method a verb."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _pod(self, request: web.Request) -> Pod:
        """The pod; one whose UID the path has must have that. Raises NodeError NOT_FOUND."""
        names = request.match_info
        pod = find.find_pod(self._backend.pods.pods(), names["namespace"], names["pod"])
        if names.get("uid", pod.uid) != pod.uid:
            words = f'pod "{names["pod"]}" in namespace "{names["namespace"]}" has another UID'
            raise NodeError(Code.NOT_FOUND, words)
        return pod

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """Runs a command."""
        container_id = find.running_id(self._pod(request), request.match_info["container"])
        wish = stream_requests.exec_request(_query(request), container_id)
        check_upgrade(request)
        self._count(request, "exec", _CLOSING)
        return await hand_on(request, await self._backend.runtime.exec(wish), self._backend.idle)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """The streams of a container that runs."""
        pod, name = self._pod(request), request.match_info["container"]
        container_id = find.running_id(pod, name)
        tty = any(each.tty for each in find.containers(pod) if each.name == name)
        wish = stream_requests.attach_request(_query(request), container_id, tty=tty)
        check_upgrade(request)
        self._count(request, "attach", _CLOSING)
        return await hand_on(request, await self._backend.runtime.attach(wish), self._backend.idle)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        """Connections to ports of a pod."""
        pod = self._pod(request)
        facts = self._backend.node
        sandbox = facts.cache.view(pod.uid).sandbox if facts is not None else None
        if sandbox is None or not sandbox.ready:
            words = f'pod "{pod.metadata.name}" is not running'
            raise NodeError(Code.FAILED_PRECONDITION, f"unable to forward ports: {words}")
        check_upgrade(request)
        wish = stream_requests.port_forward_request(_query(request), sandbox.id, _protocols(request))
        self._count(request, "portforward", stream_requests.TUNNEL)
        return await hand_on(request, await self._backend.runtime.port_forward(wish), self._backend.idle)

    def _count(self, request: web.Request, verb: str, protocol: str) -> None:
        """WebSockets with the newest subprotocols are counted, as upstream does."""
        if self._backend.node is not None and protocol in (_protocols(request) or ""):
            self._backend.node.metrics.instruments.websockets.inc((verb,))

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Runs ``cmd``, split at spaces, and answers with what it wrote."""
        command = request.query.get("cmd", "").split(" ")
        if not command[0]:
            raise invalid("cmd", "you must specify a command for the container")
        container_id = find.running_id(self._pod(request), request.match_info["container"])
        done = await self._backend.runtime.exec_sync(container_id, command, _RUN_PATIENCE)
        output = done.stdout + done.stderr
        if done.exit_code:
            words = f"command '{' '.join(command)}' exited with {done.exit_code}: "
            return web.Response(status=500, body=words.encode() + output, headers=_TEXT)
        return web.Response(body=output, headers=_TEXT)

    async def checkpoint(self, request: web.Request) -> web.StreamResponse:
        """Writes a container's state to a file on the node, and answers with its path.

        Whatever the runtime's error is, it answers 500 as upstream's does; but 501 where it can't at all.
        """
        facts = self._backend.node
        pod, name = self._pod(request), request.match_info["container"]
        if facts is None:
            raise NodeError(Code.UNIMPLEMENTED, "checkpoint")
        timeout = request.query.get("timeout", "0")
        if not (timeout.isascii() and timeout.isdigit()) or len(timeout) > 9:
            raise invalid("timeout", f"{timeout[:40]!r} is not a number of seconds")
        container_id = find.running_id(pod, name)
        folder = os.path.join(facts.config.root, "checkpoints")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        full = f"{pod.metadata.name}_{pod.metadata.namespace}"
        location = os.path.join(folder, f"checkpoint-{full}-{name}-{moment}.tar")
        wish = api.CheckpointContainerRequest(
            container_id=container_id, location=location, timeout=int(timeout)
        )
        try:
            await self._backend.runtime.checkpoint_container(wish)
        except NodeError as exc:
            where = f"{pod.metadata.namespace}/{pod.metadata.name}/{name}"
            code = exc.code if exc.code is Code.UNIMPLEMENTED else Code.INTERNAL
            raise NodeError(code, f"checkpointing of {where} failed ({exc})") from None
        return web.json_response({"items": [location]})


def _protocols(request: web.Request) -> str | None:
    """The subprotocols that a WebSocket is asked for with; None: it is none."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return None
    return ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))


def _query(request: web.Request) -> dict[str, list[str]]:
    return {name: request.query.getall(name) for name in request.query}

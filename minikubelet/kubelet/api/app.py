"""The HTTP application: routes, and errors as upstream's kubelet words them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.api import (
    debug,
    ephemeral,
    find,
    manners,
    node_logs,
    node_object,
    node_routes,
    objects,
    streams,
)
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.api.follow import Wakeup, read_log
from minikubelet.kubelet.api.log_query import flag, log_options
from minikubelet.kubelet.objects import Pod

log = logging.getLogger(__name__)

_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


def make_app(
    backend: Backend,
    middlewares: Sequence[Middleware] = (),
    *,
    debugging: bool = True,
    system_logs: bool = True,
    local: bool = False,
) -> web.Application:
    """The application over ``backend``; it knows nothing of the socket it is served on.

    ``debugging``: the handlers that reach into pods, ``system_logs``: the node's own logs, ``local``: what
    only root at this machine may ask for.
    """
    handlers = _Handlers(backend)
    app = _application(middlewares)
    node_routes.add_health(app.router, backend.node)
    for path in ("/pods", "/pods/"):
        app.router.add_get(path, handlers.pods, allow_head=False)
    app.router.add_get("/events", handlers.events)
    app.router.add_get("/objects", handlers.objects)
    if local:
        node_object.add_routes(app.router, backend)
    facts = backend.node
    if facts is not None:
        node_routes.add_routes(app.router, backend, facts)
    if not debugging:
        _add_disabled(app.router)
        return app
    for path in ("", "/"):
        path = "/containerLogs/{namespace}/{pod}/{container}" + path
        app.router.add_get(path, handlers.logs, allow_head=False)
    streams.add_routes(app.router, backend)
    if local:
        ephemeral.add_routes(app.router, backend)
    if facts is not None:
        app.router.add_route("*", "/runningpods", manners.with_slash)
        app.router.add_get("/runningpods/", handlers.running_pods, allow_head=False)
        node_routes.add_configz(app.router, backend, facts)
        server = facts.config.server
        debug.add_routes(app.router, enabled=server.debug_flags_handler)
        if system_logs:
            node_logs.add_routes(app.router, server.node_log_dir, queries=server.system_log_query)
        else:
            app.router.add_route("*", "/logs", manners.with_slash)
            app.router.add_route("*", "/logs/{rest:.*}", _disabled_logs)
    return app


def make_read_only_app(backend: Backend, middlewares: Sequence[Middleware] = ()) -> web.Application:
    """What upstream's read-only port shows: health, pods, statistics and metrics."""
    app = _application(middlewares)
    node_routes.add_health(app.router, backend.node)
    for path in ("/pods", "/pods/"):
        app.router.add_get(path, _Handlers(backend).pods, allow_head=False)
    if backend.node is not None:
        node_routes.add_routes(app.router, backend, backend.node)
    _add_disabled(app.router)
    return app


def make_health_app(backend: Backend) -> web.Application:
    """/healthz alone."""
    app = _application()
    node_routes.add_health(app.router, backend.node)
    return app


def _application(middlewares: Sequence[Middleware] = ()) -> web.Application:
    app = web.Application(middlewares=[*middlewares, manners.manners, _errors], client_max_size=1024)
    app.on_response_prepare.append(manners.headers)
    return app


def _add_disabled(router: web.UrlDispatcher) -> None:
    for first in _DEBUGGING:
        router.add_route("*", f"/{first}", manners.with_slash)
        router.add_route("*", f"/{first}/{{rest:.*}}", _disabled)


async def _disabled(request: web.Request) -> web.StreamResponse:
    return web.Response(status=405, text="Debug endpoints are disabled.\n")


async def _disabled_logs(request: web.Request) -> web.StreamResponse:
    return web.Response(status=405, text="logs endpoint is disabled.\n")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except NodeError as exc:
        return web.Response(status=_STATUS.get(exc.code, 500), text=str(exc))
    except (ConnectionResetError, web.HTTPException):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return web.Response(status=500, text="internal error\n")


_DEBUGGING = (
    *("run", "exec", "attach", "portForward", "containerLogs", "runningpods", "logs"),
    "debug/pprof",
)


class _Handlers:
    """One method a route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def pods(self, request: web.Request) -> web.StreamResponse:
        """A v1 PodList; with ``watch`` one JSON line a change."""
        if flag(request.query, "watch"):
            return await _lines(request, self._backend.pods.watch())
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._backend.pods.pods()}
        return _json(body)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A v1 EventList, oldest first; with ``watch`` these and then what happens, one JSON line each.

        ``history=0`` leaves out the past, ``uid`` picks the events of one pod.
        """
        uid = request.query.get("uid", "")
        if flag(request.query, "watch"):
            history = request.query.get("history", "1") not in ("0", "false")
            return await _lines(request, self._event_changes(uid, history))
        body = {
            "kind": "EventList",
            "apiVersion": "v1",
            "metadata": {},
            "items": self._backend.events.list(uid),
        }
        return _json(body)

    async def objects(self, request: web.Request) -> web.StreamResponse:
        """A v1 List of the ConfigMaps, Secrets (without their values), claims and so on of the manifests."""
        sizes = flag(request.query, "sizes")
        items = [objects.shown(each, sizes=sizes) for each in self._backend.objects()]
        return _json({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _event_changes(self, uid: str, history: bool) -> AsyncIterator[Any]:
        async for event in self._backend.events.watch(history=history):
            if not uid or event.involved_object.uid == uid:
                yield {"type": "ADDED" if event.count == 1 else "MODIFIED", "object": event}

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """A container's log as plain text."""
        options = log_options(request.query)
        pod, container = self._target(request)
        container_id = find.logged_id(pod, container, previous=flag(request.query, "previous"))
        path = (await self._backend.runtime.container_status(container_id)).log_path
        if not path:
            raise NodeError(Code.FAILED_PRECONDITION, f'container "{container}" has no log')

        def is_over() -> bool:
            current = [each for each in self._backend.pods.pods() if each.uid == pod.uid]
            return not current or not find.is_running(current[0], container, container_id)

        watcher: list[asyncio.Task[None]] = []

        def on_wakeup(wakeup: Wakeup) -> None:
            watcher.append(asyncio.create_task(self._wake(pod.uid, wakeup)))

        try:
            return await _text(request, read_log(path, options, is_over, on_wakeup))
        except OSError as exc:
            if isinstance(exc, ConnectionError):
                raise
            raise NodeError(Code.INTERNAL, f"failed to open log file {path!r}: {exc.strerror}") from exc
        finally:
            for task in watcher:
                task.cancel()

    async def _wake(self, uid: str, wakeup: Wakeup) -> None:
        """Wake a log reader with every change of the pod, and when the watch breaks off."""
        try:
            async for change in self._backend.pods.watch():
                if change.object.uid == uid:
                    wakeup.set()
        finally:
            wakeup.set()

    async def running_pods(self, request: web.Request) -> web.StreamResponse:
        """What the runtime runs."""
        assert self._backend.node is not None
        return _json(node_routes.running_pods(self._backend.node))

    def _target(self, request: web.Request) -> tuple[Pod, str]:
        names = request.match_info
        return find.find_pod(self._backend.pods.pods(), names["namespace"], names["pod"]), names["container"]


def _json(body: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


async def _lines(request: web.Request, items: AsyncIterator[Any]) -> web.StreamResponse:
    async def encoded() -> AsyncIterator[bytes]:
        async for item in items:
            yield msgspec.json.encode(item) + b"\n"

    return await _stream(request, encoded(), "application/json")


async def _text(request: web.Request, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    return await _stream(request, pieces, "text/plain")


async def _stream(request: web.Request, pieces: AsyncIterator[bytes], kind: str) -> web.StreamResponse:
    """Sends pieces as they come. An error before the first one still gets a status of its own."""
    response = web.StreamResponse(headers={"Content-Type": kind})
    first = asyncio.ensure_future(anext(pieces, None))
    try:
        # The headers go out at once unless the start fails at once: a follower of a silent log mustn't wait.
        await asyncio.wait({first}, timeout=0.05)
        if first.done() and first.exception() is not None:
            raise first.exception()  # type: ignore[misc]
        await response.prepare(request)
        piece = await first
        while piece is not None:
            await response.write(piece)
            piece = await anext(pieces, None)
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await pieces.aclose()  # type: ignore[attr-defined]
    return response

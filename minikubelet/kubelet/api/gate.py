"""The gate before every path of the API, known or not: who is it, may they, and counting."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from minikubelet.base import clock
from minikubelet.kubelet.api.authenticate import Authenticator, User
from minikubelet.kubelet.metrics.instruments import Instruments

log = logging.getLogger(__name__)

_OPEN = frozenset(
    (
        *("/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"),
        *("/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes", "/metrics/slis"),
    )
)
"""Paths that anybody may GET where anonymous requests are let in at all."""
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log", "checkpoint": "checkpoint"}
_FINER = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}
"""Subresources that are asked for before ``proxy`` is (KEP-2862)."""
_METHODS = frozenset(("OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"))
_LONG = ("exec", "attach", "portForward", "debug")


def may(user: User, method: str, path: str) -> bool:
    """Mode AlwaysAllow: whoever has proven who they are may do everything.

    Nobody else may do anything but read health and metrics.
    """
    return user.known or (method in ("GET", "HEAD") and path in _OPEN)


def first_part(path: str) -> str:
    """``metrics`` of ``/metrics/cadvisor``."""
    return path.strip("/").partition("/")[0]


def subresources(path: str) -> str:
    """Which of the node's subresources a path belongs to, as upstream names them when it refuses somebody."""
    first = first_part(path)
    found = _SUBRESOURCES.get(first, "proxy")
    return f"{_FINER[first]} {found}" if first in _FINER else found


def bucket(path: str) -> str:
    """The label ``path`` of metrics: ``metrics/cadvisor``, else the first part."""
    first, _, rest = path.strip("/").partition("/")
    return f"{first}/{rest.partition('/')[0]}" if first == "metrics" and rest else first


def make_gate(authenticator: Authenticator) -> Middleware:
    """Answers 401 and 403 before anything else is looked at, with upstream's words."""

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        user = authenticator.user(request)
        if user is None:
            return web.Response(status=401, text="Unauthorized")
        if not may(user, request.method, request.path):
            verb = _VERBS.get(request.method, "")
            part = subresources(request.path)
            log.debug("%s may not %s %s", user.name, request.method, request.path)
            words = f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{part}])\n"
            return web.Response(status=403, text=words)
        return await handler(request)

    return gate


def make_counter(instruments: Instruments, server_type: str) -> Middleware:
    """Counts requests and the time they take, by the first part of the path if it is a known one."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        known = request.match_info.http_exception is None
        part = bucket(request.path) if known else "other"
        method = request.method if request.method in _METHODS else "other"
        labels = (method, part, server_type, "true" if part in _LONG else "false")
        instruments.http_requests.inc(labels)
        instruments.http_inflight.inc(labels)
        began = clock.monotonic()
        try:
            return await handler(request)
        finally:
            instruments.http_inflight.inc(labels, -1)
            instruments.http_seconds.observe(clock.monotonic() - began, labels)

    return count

"""/debug/flags/v: how much is logged, changed while the kubelet runs. Profiles as Go's there are none."""

from __future__ import annotations

import logging

from aiohttp import web

from minikubelet.kubelet.api import manners

_MAX_BYTES = 100
_DEBUG_FROM = 4
"""klog's levels (0 to 10) from this on are for finding faults; those below are what is told usually."""


def add_routes(router: web.UrlDispatcher, *, enabled: bool) -> None:
    """PUT with a level as the body, as upstream has it."""
    router.add_route("*", "/debug/flags/v", _set_verbosity if enabled else _disabled)
    router.add_route("*", "/debug/pprof", manners.with_slash)
    router.add_route("*", "/debug/pprof/{rest:.*}", _no_profiles)


async def _set_verbosity(request: web.Request) -> web.StreamResponse:
    if request.method != "PUT":
        return web.Response(status=406, text="unsupported http method\n")
    text = (await request.content.read(_MAX_BYTES)).decode(errors="replace")
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return web.Response(status=400, text=f"{text!r} is not a level, a whole number\n")
    logging.getLogger().setLevel(logging.DEBUG if int(text) >= _DEBUG_FROM else logging.INFO)
    return web.Response(text=f"successfully set klog.logging.verbosity to {int(text)}\n")


async def _no_profiles(request: web.Request) -> web.StreamResponse:
    return web.Response(status=405, text="profiling endpoint is disabled.\n")


async def _disabled(request: web.Request) -> web.StreamResponse:
    return web.Response(status=405, text="flags endpoint is disabled.\n")

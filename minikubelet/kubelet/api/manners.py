"""What no handler sees, answered as upstream's HTTP server does, and headers that all answers have."""

from __future__ import annotations

import html

from aiohttp import web
from aiohttp.typedefs import Handler

from minikubelet.kubelet.api.gate import first_part

_RESOURCES = frozenset(
    (
        *("pods", "stats", "containerLogs", "runningpods", "exec", "attach", "portForward", "run"),
        *("checkpoint", "logs"),
    )
)
"""First parts of paths that upstream routes with go-restful, which has its own words for what is unknown."""


@web.middleware
async def manners(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Unclean paths are redirected, unknown ones and wrong methods answered in upstream's words."""
    path, mark, query = request.raw_path.partition("?")
    if path.startswith("/") and (wanted := clean(path)) != path:
        return _moved(request, wanted + mark + query)
    try:
        return await handler(request)
    except web.HTTPNotFound as exc:
        if exc.text == f"{exc.status}: {exc.reason}":  # nobody has said more
            exc.text = "404: Page Not Found" if _is_resource(request) else "404 page not found\n"
        raise
    except web.HTTPMethodNotAllowed as exc:
        exc.headers["Allow"] = ", ".join(sorted(exc.allowed_methods))
        raise


async def with_slash(request: web.Request) -> web.StreamResponse:
    """For ``/NAME`` where there is only ``/NAME/``."""
    path, mark, query = request.raw_path.partition("?")
    return _moved(request, f"{path}/{mark}{query}")


async def headers(request: web.Request, response: web.StreamResponse) -> None:
    """An ``on_response_prepare``: what it is must not be guessed, and nobody needs to know what we run on."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.pop("Server", None)


def clean(path: str) -> str:
    """A path without empty parts, ``.`` and ``..``; a slash at its end stays."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    slash = "/" if path.endswith("/") and kept else ""
    return f"/{'/'.join(kept)}{slash}"


def _is_resource(request: web.Request) -> bool:
    """Whether there is something below the path's first part, here, that upstream routes with go-restful."""
    first = first_part(request.path)
    routed = (first_part(each.canonical) for each in request.app.router.resources())
    return first in _RESOURCES and first in routed


def _moved(request: web.Request, where: str) -> web.Response:
    text = f'<a href="{html.escape(where)}">Temporary Redirect</a>.\n\n' if request.method == "GET" else ""
    return web.Response(status=307, text=text, content_type="text/html", headers={"Location": where})

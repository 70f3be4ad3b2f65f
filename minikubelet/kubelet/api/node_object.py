"""The node as a v1 Node; on the local socket only. In a cluster the API server has it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.api.backend import Backend


def add_routes(router: web.UrlDispatcher, backend: Backend) -> None:
    """GET /node."""

    async def node(request: web.Request) -> web.StreamResponse:
        if backend.node_object is None:
            raise NodeError(Code.UNIMPLEMENTED, "this API has pods alone")
        return web.Response(
            body=msgspec.json.encode(await backend.node_object()), content_type="application/json"
        )

    router.add_get("/node", node)

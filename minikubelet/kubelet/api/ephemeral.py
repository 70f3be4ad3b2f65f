"""Adding an ephemeral container to a pod; on the local socket only.

Upstream's way is the pod's ``ephemeralcontainers`` subresource of the API server.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.api import find
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.manifests.decode import decode_json
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.objects.containers import EphemeralContainer

MAX_BYTES = 256 * 1024


def add_routes(router: web.UrlDispatcher, backend: Backend) -> None:
    """POST with a core/v1 EphemeralContainer as JSON; 201 once the pod has it, whether it runs yet or not."""

    async def add(request: web.Request) -> web.StreamResponse:
        names = request.match_info
        pod = find.find_pod(backend.pods.pods(), names["namespace"], names["pod"])
        if backend.add_ephemeral is None:
            raise NodeError(Code.UNIMPLEMENTED, "ephemeral containers")
        try:
            container = decode_json(await _body(request), EphemeralContainer)
        except ManifestError as exc:
            raise NodeError(Code.INVALID_ARGUMENT, str(exc)) from None
        backend.add_ephemeral(pod.uid, container)
        return web.Response(status=201, text=f"{container.name}\n")

    router.add_post("/ephemeralContainers/{namespace}/{pod}", add)


async def _body(request: web.Request) -> bytes:
    """The request's body; other requests of this API have next to none. Raises NodeError."""
    try:
        data = await request.content.readexactly(MAX_BYTES + 1)
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    raise NodeError(Code.INVALID_ARGUMENT, f"larger than {len(data) - 1} bytes")

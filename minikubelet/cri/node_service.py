"""minikubelet.v1.ImageStore: pulls with progress, archives in and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from minikubelet.base.errors import invalid
from minikubelet.criapi import node_pb2 as node
from minikubelet.images.models import Credentials, Image, PullEvent, SaveFormat
from minikubelet.images.store import ImageStore

_FORMATS = {
    node.ARCHIVE_FORMAT_OCI_LAYOUT: SaveFormat.OCI,
    node.ARCHIVE_FORMAT_DOCKER: SaveFormat.DOCKER,
}
_STATUS = {"unpacking": "extracting"}
_CHUNK = 1 << 20


class ImageStoreService:
    """Streams; a failure is the stream's gRPC status."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images

    async def Pull(self, request: node.PullRequest) -> AsyncIterator[node.PullProgress]:
        if not request.reference:
            raise invalid("reference", "is missing")
        credentials = _credentials(request.auth) if request.HasField("auth") else None
        queue: asyncio.Queue[PullEvent | None] = asyncio.Queue()
        pull = asyncio.ensure_future(self._images.pull(request.reference, credentials, queue.put_nowait))
        pull.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield node.PullProgress(layer=_layer(event))
            yield node.PullProgress(image_id=(await pull).id)
        finally:
            pull.cancel()

    async def Load(self, request: AsyncIterator[node.LoadChunk]) -> AsyncIterator[node.LoadProgress]:
        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in request:
                yield chunk.data

        images = await self._images.load(chunks())
        for image in images:
            yield node.LoadProgress(message=f"loaded {_name(image)}", loaded=image.repo_tags or [image.id])

    async def Save(self, request: node.SaveRequest) -> AsyncIterator[node.SaveChunk]:
        if not request.references:
            raise invalid("references", "is empty")
        if request.format not in _FORMATS:
            raise invalid("format", f"{request.format} is no value of this enumeration")
        async for data in self._images.save(tuple(request.references), _FORMATS[request.format]):
            for start in range(0, len(data), _CHUNK):
                yield node.SaveChunk(data=data[start : start + _CHUNK])


def _credentials(auth: node.RegistryAuth) -> Credentials:
    return Credentials(
        username=auth.username,
        password=auth.password,
        auth=auth.auth,
        server_address=auth.server_address,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )


def _layer(event: PullEvent) -> node.LayerProgress:
    return node.LayerProgress(
        digest=event.layer,
        offset=event.offset,
        total=event.total,
        status=_STATUS.get(event.status, event.status),
    )


def _name(image: Image) -> str:
    return ", ".join(image.repo_tags) or image.id

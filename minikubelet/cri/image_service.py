"""runtime.v1.ImageService over the image store."""

from __future__ import annotations

from collections.abc import AsyncIterator

from minikubelet.base.clock import now_ns
from minikubelet.base.errors import invalid
from minikubelet.cri import info
from minikubelet.criapi import api_pb2 as api
from minikubelet.images.models import Credentials, Image
from minikubelet.images.store import ImageStore
from minikubelet.linux.users import number
from minikubelet.runtime import checks
from minikubelet.runtime.validation import check_handler

_CHUNK = 200


def reference(field: str, spec: api.ImageSpec) -> str:
    """What an ImageSpec names. Raises INVALID_ARGUMENT."""
    if not spec.image:
        raise invalid(f"{field}.image", "is missing")
    checks.plain(f"{field}.image", spec.image)
    check_handler(f"{field}.runtime_handler", spec.runtime_handler)
    return spec.image


def to_proto(image: Image) -> api.Image:
    """Image; the user is a number in ``uid`` or a name in ``username``."""
    user = image.config.user.partition(":")[0]
    uid = number(user)
    return api.Image(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size,
        uid=None if uid is None else api.Int64Value(value=uid),
        username=user if uid is None else "",
        spec=api.ImageSpec(image=image.id),
        pinned=image.pinned,
    )


class ImageService:
    """One method a call; each takes the request and returns the response."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images

    def _list(self, message: api.ImageFilter) -> list[Image]:
        wanted = message.image.image
        if not wanted:
            return self._images.list()
        found = self._images.find(wanted)
        return [] if found is None else [found]

    async def ListImages(self, request: api.ListImagesRequest) -> api.ListImagesResponse:
        return api.ListImagesResponse(images=[to_proto(image) for image in self._list(request.filter)])

    async def StreamImages(self, request: api.StreamImagesRequest) -> AsyncIterator[api.StreamImagesResponse]:
        found = self._list(request.filter)
        for start in range(0, len(found), _CHUNK):
            yield api.StreamImagesResponse(
                images=[to_proto(image) for image in found[start : start + _CHUNK]]
            )

    async def ImageStatus(self, request: api.ImageStatusRequest) -> api.ImageStatusResponse:
        """An image that isn't here is an answer without one, no error (CRI)."""
        image = self._images.find(reference("image", request.image))
        if image is None:
            return api.ImageStatusResponse()
        return api.ImageStatusResponse(
            image=to_proto(image), info=info.image(image) if request.verbose else None
        )

    async def PullImage(self, request: api.PullImageRequest) -> api.PullImageResponse:
        auth = request.auth
        credentials = None
        if request.HasField("auth"):
            credentials = Credentials(
                username=auth.username,
                password=auth.password,
                auth=auth.auth,
                server_address=auth.server_address,
                identity_token=auth.identity_token,
                registry_token=auth.registry_token,
            )
        image = await self._images.pull(reference("image", request.image), credentials)
        return api.PullImageResponse(image_ref=image.id)

    async def RemoveImage(self, request: api.RemoveImageRequest) -> api.RemoveImageResponse:
        await self._images.remove(reference("image", request.image))
        return api.RemoveImageResponse()

    async def ImageFsInfo(self, request: api.ImageFsInfoRequest) -> api.ImageFsInfoResponse:
        usage = self._images.usage()
        return api.ImageFsInfoResponse(
            image_filesystems=[
                api.FilesystemUsage(
                    timestamp=now_ns(),
                    fs_id=api.FilesystemIdentifier(mountpoint=usage.path),
                    used_bytes=api.UInt64Value(value=usage.bytes),
                    inodes_used=api.UInt64Value(value=usage.inodes),
                )
            ],
            container_filesystems=[
                api.FilesystemUsage(
                    timestamp=now_ns(),
                    fs_id=api.FilesystemIdentifier(mountpoint=usage.path),
                    used_bytes=api.UInt64Value(value=usage.bytes),
                    inodes_used=api.UInt64Value(value=usage.inodes),
                )
            ],
        )

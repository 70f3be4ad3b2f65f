"""The image service of the fake runtime."""

from __future__ import annotations

import itertools

import grpc

from minikubelet.criapi import api_pb2 as api


class CriError(Exception):
    """A call that fails with a gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class FakeImages:
    """A store, and a registry to pull from."""

    def __init__(self) -> None:
        self.images: dict[str, api.Image] = {}
        self.registry: dict[str, api.Image | str] = {}
        """What can be pulled; a text is the error that the pull fails with."""
        self.private: dict[str, set[str]] = {}
        """Images that only these users may pull."""
        self.image_fs = "/"
        """Where the images are."""
        self._image_numbers = itertools.count(1)

    def add_image(self, name: str, *, user: str = "", uid: int | None = None, here: bool = True) -> api.Image:
        """Make an image: in the store, or (``here=False``) only to be pulled."""
        image = api.Image(
            id=f"sha256:{next(self._image_numbers):064x}", repo_tags=[name], size=1000, username=user
        )
        if uid is not None:
            image.uid.value = uid
        self.registry[name] = image
        if here:
            self.images[name] = image
        return image

    async def _ImageStatus(self, request: api.ImageStatusRequest) -> api.ImageStatusResponse:
        name = request.image.image
        found = self.images.get(name) or next((i for i in self.images.values() if i.id == name), None)
        return api.ImageStatusResponse(image=found)

    async def _ListImages(self, request: api.ListImagesRequest) -> api.ListImagesResponse:
        return api.ListImagesResponse(images=list(self.images.values()))

    async def _RemoveImage(self, request: api.RemoveImageRequest) -> api.RemoveImageResponse:
        for name in [name for name, image in self.images.items() if image.id == request.image.image]:
            del self.images[name]
        return api.RemoveImageResponse()

    async def _ImageFsInfo(self, request: api.ImageFsInfoRequest) -> api.ImageFsInfoResponse:
        usage = api.FilesystemUsage(fs_id=api.FilesystemIdentifier(mountpoint=self.image_fs))
        return api.ImageFsInfoResponse(image_filesystems=[usage], container_filesystems=[usage])

    async def _PullImage(self, request: api.PullImageRequest) -> api.PullImageResponse:
        name = request.image.image
        image = self.registry.get(name, f"{name}: not found")
        if name in self.private and request.auth.username not in self.private[name]:
            image = f"{name}: access denied"
        if isinstance(image, str):
            raise CriError(grpc.StatusCode.UNKNOWN, image)
        self.images[name] = image
        return api.PullImageResponse(image_ref=image.id)

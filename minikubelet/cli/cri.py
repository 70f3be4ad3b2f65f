"""The CRI socket from the command line: blocking gRPC, errors in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace, TracebackType
from typing import Any

import grpc

from minikubelet.base.errors import Code, NodeError
from minikubelet.cli.api_client import connect, not_running
from minikubelet.cli.options import CommandError
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import node_pb2 as node
from minikubelet.criapi import services

_TIMEOUT = 30.0
_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),
)


class CriClient:
    """The runtime's image services. Methods raise CommandError and NodeError."""

    def __init__(self, endpoint: str) -> None:
        self._path = endpoint.removeprefix("unix://")
        self._channel = grpc.insecure_channel(f"unix:{self._path}", options=_OPTIONS)
        self._runtime: SimpleNamespace = services.RUNTIME.connect(self._channel)
        self._images: SimpleNamespace = services.IMAGE.connect(self._channel)
        self._store: SimpleNamespace = services.IMAGE_STORE.connect(self._channel)

    def __enter__(self) -> CriClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: object, tb: TracebackType | None) -> None:
        self._channel.close()

    def version(self) -> Any:
        """runtime.v1.VersionResponse."""
        return self._call(self._runtime.Version, api.VersionRequest(version="v1"))

    def list_images(self) -> list[Any]:
        """runtime.v1.Image of all images."""
        return list(self._call(self._images.ListImages, api.ListImagesRequest()).images)

    def image(self, reference: str) -> Any | None:
        """runtime.v1.Image of a reference or ID, if there."""
        request = api.ImageStatusRequest(image=api.ImageSpec(image=reference))
        reply = self._call(self._images.ImageStatus, request)
        return reply.image if reply.HasField("image") else None

    def remove_image(self, reference: str) -> None:
        """Removes the image; idempotent."""
        self._call(self._images.RemoveImage, api.RemoveImageRequest(image=api.ImageSpec(image=reference)))

    def pull(self, request: node.PullRequest) -> Iterator[Any]:
        """minikubelet.v1.PullProgress until the image is there."""
        return self._stream(self._store.Pull(request))

    def load(self, chunks: Iterable[bytes]) -> Iterator[Any]:
        """minikubelet.v1.LoadProgress."""
        return self._stream(self._store.Load(node.LoadChunk(data=chunk) for chunk in chunks))

    def save(self, request: node.SaveRequest) -> Iterator[bytes]:
        """A tar in pieces."""
        for chunk in self._stream(self._store.Save(request)):
            yield chunk.data

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=_TIMEOUT)
        except grpc.RpcError as exc:
            raise self._explain(exc) from None

    def _stream(self, call: Any) -> Iterator[Any]:
        try:
            yield from call
        except grpc.RpcError as exc:
            raise self._explain(exc) from None
        finally:
            call.cancel()

    def _is_served(self) -> bool:
        try:
            connect(self._path).close()
        except CommandError:
            return False
        return True

    def _explain(self, exc: Any) -> NodeError:
        code, details = exc.code(), exc.details() or ""
        # A registry that can't be reached is UNAVAILABLE, too: only the socket itself tells them apart.
        if code is grpc.StatusCode.UNAVAILABLE and not self._is_served():
            return not_running(self._path)
        if code is grpc.StatusCode.UNIMPLEMENTED and "unknown service" in details.lower():
            return CommandError(f"{self._path} is another runtime's: it doesn't offer this ({details})")
        known = {each.value: each for each in Code}
        return NodeError(known.get(code.value[0], Code.INTERNAL), details or code.name)

"""Loading image archives over the CRI socket, once as long as a file stays the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from minikubelet.base.errors import Code, NodeError
from minikubelet.base.files import write_atomic
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import node_pb2 as node
from minikubelet.criapi import services

_CHUNK = 1 << 20


async def load(endpoint: str, path: str, root: str) -> list[str]:
    """Load the archive at ``path``; lines for people. Notes in ``root`` what it held, to do it once.

    Raises OSError, NodeError.
    """
    note = os.path.join(root, "loaded", hashlib.sha256(path.encode()).hexdigest()[:16] + ".json")
    status = os.stat(path)
    signature = [path, status.st_size, status.st_mtime_ns, status.st_ino]
    target = f"unix:{endpoint.removeprefix('unix://')}"
    async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            names = await _already(channel, note, signature)
            if names:
                return [f"image {name} is there" for name in names]
            store = services.IMAGE_STORE.connect(channel)
            loaded: list[str] = []
            async for reply in store.Load(_chunks(path)):
                loaded += reply.loaded
        except grpc.aio.AioRpcError as exc:
            known = {code.value: code for code in Code}
            code = known.get(exc.code().value[0], Code.INTERNAL)
            raise NodeError(code, f"{path}: {exc.details()}") from None
    os.makedirs(os.path.dirname(note), mode=0o700, exist_ok=True)
    write_atomic(note, json.dumps({"file": signature, "images": loaded}).encode())
    return [f"image {name} loaded from {path}" for name in loaded]


async def _already(channel: Any, note: str, signature: list[object]) -> list[str]:
    """The images of a file that was loaded before, if all of them are still there."""
    try:
        with open(note, encoding="utf-8") as file:
            noted = json.load(file)
        if noted["file"] != signature:
            return []
        names = [str(name) for name in noted["images"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
    images = services.IMAGE.connect(channel)
    for name in names:
        reply = await images.ImageStatus(api.ImageStatusRequest(image=api.ImageSpec(image=name)))
        if not reply.HasField("image"):
            return []
    return names


async def _chunks(path: str) -> AsyncIterator[node.LoadChunk]:
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            yield node.LoadChunk(data=data)

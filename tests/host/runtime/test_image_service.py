"""The image service as a CRI client sees it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from tests.host.node import Node
from tests.host.runtime.client import Client
from tests.images.build import Layer, build_image
from tests.registry import Auth, Fault, Registry


@pytest.fixture
async def images(client: Client) -> AsyncIterator[SimpleNamespace]:
    yield services.IMAGE.connect(client.channel)


async def used(images: SimpleNamespace) -> api.FilesystemUsage:
    info = await images.ImageFsInfo(api.ImageFsInfoRequest())
    (usage,) = info.image_filesystems
    (beside,) = info.container_filesystems
    assert beside.fs_id == usage.fs_id
    found: api.FilesystemUsage = usage
    return found


async def test_image_fs_info_follows_the_images(
    images: SimpleNamespace, node: Node, registry: Registry
) -> None:
    before = await used(images)
    assert before.fs_id.mountpoint == node.config.root and os.path.isdir(node.config.root)
    assert before.timestamp <= time.time_ns()
    content = os.urandom(1 << 20)
    layer = Layer().file("a", content).file("b", content).directory("c")
    spec = api.ImageSpec(image=registry.add("fsinfo:1", build_image([layer], {})))
    await images.PullImage(api.PullImageRequest(image=spec))
    after = await used(images)
    # Two megabytes unpacked, more than one compressed.
    assert (3 << 20) <= after.used_bytes.value - before.used_bytes.value < (6 << 20)
    assert 3 <= after.inodes_used.value - before.inodes_used.value < 12
    await images.RemoveImage(api.RemoveImageRequest(image=spec))
    gone = await used(images)
    assert (gone.used_bytes, gone.inodes_used) == (before.used_bytes, before.inodes_used)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, grpc.StatusCode.UNAUTHENTICATED),
        (403, grpc.StatusCode.PERMISSION_DENIED),
        (404, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_errors_name_registry_reference_and_status(
    images: SimpleNamespace, status: int, code: grpc.StatusCode
) -> None:
    with Registry() as registry:
        registry.fail(Fault("*", status=status, times=None))
        name = registry.add("team/app:1", build_image([], {}))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await images.PullImage(api.PullImageRequest(image=api.ImageSpec(image=name)))
    assert caught.value.code() is code
    text = caught.value.details() or ""
    assert f"pull {name}: " in text and f"registry {registry.address}: " in text and str(status) in text


async def test_credentials_of_a_request_are_in_no_log(images: SimpleNamespace, node: Node) -> None:
    with Registry(auth=Auth("basic", "user", "right")) as registry:
        name = registry.add("team/app:1", build_image([], {}))
        auth = api.AuthConfig(username="user", password="wrong-pa55word")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await images.PullImage(api.PullImageRequest(image=api.ImageSpec(image=name), auth=auth))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "wrong-pa55word" not in (caught.value.details() or "") + node.log()

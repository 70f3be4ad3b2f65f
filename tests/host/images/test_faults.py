"""Registries that fail: what is retried, what is resumed, and how it is told."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from pathlib import Path

import pytest

import tests.registry as registry_module
from minikubelet.base.errors import Code, NodeError
from minikubelet.images import patience, transport
from minikubelet.images.store import ImageStore
from tests.host.images.conftest import Stores
from tests.images import catalog
from tests.images.build import Format, Image, Layer, Manifest, build_image
from tests.registry import Fault, Registry

PLAIN = Format(compression="")


def large(size: int = 8 << 20) -> Image:
    return build_image([Layer().file("data", random.Random(1).randbytes(size))], {}, PLAIN)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("*", status=429, headers={"Retry-After": "1"}, times=2),
        Fault("*", status=429, times=2),
        Fault("*", status=500, times=2),
        Fault("*", status=502, times=2),
        Fault("*", status=503, times=2),
        Fault("*", reset=True, times=2),
        Fault("*/blobs/*", status=503, times=2),
        Fault("*/blobs/*", reset=True, times=2),
        Fault("*/blobs/*", cut_after=0, times=2),
        Fault("*/manifests/*", cut_after=10, times=2),
    ],
    ids=lambda fault: f"{fault.path} {fault.status or ('reset' if fault.reset else 'cut')}",
)
async def test_passing_faults_are_survived(store: ImageStore, own_registry: Registry, fault: Fault) -> None:
    own_registry.fail(Fault(**vars(fault)))
    image = catalog.busybox()
    assert (await store.pull(own_registry.add("app:1", image))).id == image.id


async def test_cut_layer_is_resumed(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    image = large()
    layer = image.layers[0]
    own_registry.fail(Fault(f"*/blobs/{layer}", cut_after=5 << 20))
    await store.pull(own_registry.add("large:1", image))
    first, second = own_registry.matching("GET", f"*/blobs/{layer}")
    assert "range" not in first.headers
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 4 << 20 <= start <= 5 << 20


async def test_many_cuts(store: ImageStore, own_registry: Registry) -> None:
    image = large()
    own_registry.fail(Fault(f"*/blobs/{image.layers[0]}", cut_after=1 << 20, times=6))
    assert (await store.pull(own_registry.add("large:1", image))).id == image.id


async def test_server_that_ignores_ranges(store: ImageStore, own_registry: Registry) -> None:
    image = large()
    path = f"*/blobs/{image.layers[0]}"
    own_registry.fail(Fault(path, cut_after=5 << 20), Fault(path, ignore_range=True))
    assert (await store.pull(own_registry.add("large:1", image))).id == image.id


async def test_stalled_download_goes_on_elsewhere(
    store: ImageStore, own_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "STALL_SECONDS", 0.5)
    image = large()
    own_registry.fail(Fault(f"*/blobs/{image.layers[0]}", delay=3))
    assert (await store.pull(own_registry.add("large:1", image))).id == image.id


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_lasting_faults_end_in_one_clear_error(
    stores: Stores, own_registry: Registry, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(patience, "OBJECT_SECONDS", 3.0)
    reference = own_registry.add("app:1", catalog.busybox())
    own_registry.fail(Fault("*/blobs/*", status=status, times=None))
    store = await stores.start()
    with pytest.raises(NodeError) as caught:
        await store.pull(reference)
    assert caught.value.code is (Code.RESOURCE_EXHAUSTED if status == 429 else Code.UNAVAILABLE)
    assert caught.value.message.count(reference) == 1
    assert own_registry.address in caught.value.message and str(status) in caught.value.message
    assert stores.is_empty()
    own_registry.heal()
    await store.pull(reference)


@pytest.mark.parametrize(("path", "code"), [("*/manifests/*", Code.NOT_FOUND), ("*/blobs/*", Code.NOT_FOUND)])
async def test_missing_objects_are_not_retried(
    stores: Stores, own_registry: Registry, path: str, code: Code
) -> None:
    own_registry.fail(Fault(path, status=404, times=None))
    reference = own_registry.add("app:1", build_image([Layer().file("a", b"x")], {}))
    store = await stores.start()
    with pytest.raises(NodeError, match="404") as caught:
        await store.pull(reference)
    assert caught.value.code is code
    assert own_registry.count("GET", path) <= 2
    assert stores.is_empty()


async def test_long_retry_after_is_not_waited_for(store: ImageStore, own_registry: Registry) -> None:
    own_registry.fail(Fault("*", status=429, headers={"Retry-After": "3600"}, times=None))
    with pytest.raises(NodeError, match="429") as caught:
        await store.pull(own_registry.add("app:1", catalog.busybox()))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert own_registry.count() == 1


async def test_nobody_there(store: ImageStore) -> None:
    with pytest.raises(NodeError, match=r"127\.0\.0\.1:1: can't connect: Connection refused") as caught:
        await store.pull("127.0.0.1:1/app:1")
    assert caught.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize("what", ["layer", "config"])
async def test_corrupted_content_is_refused_and_kept_nowhere(
    stores: Stores, own_registry: Registry, what: str
) -> None:
    image = large(1 << 20)
    digest = image.layers[0] if what == "layer" else image.id
    own_registry.fail(Fault(f"*/blobs/{digest}", corrupt=True, times=None))
    store = await stores.start()
    with pytest.raises(NodeError, match="digest") as caught:
        await store.pull(own_registry.add("app:1", image))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert own_registry.address in caught.value.message
    assert stores.is_empty()


async def test_a_trickle_is_given_up(
    store: ImageStore, own_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "OBJECT_SECONDS", 2.0)
    monkeypatch.setattr(registry_module, "CHUNK", 100)
    image = large(1 << 20)
    own_registry.fail(Fault(f"*/blobs/{image.layers[0]}", bytes_per_second=1000, times=None))
    with pytest.raises(NodeError, match="too slowly") as caught:
        await store.pull(own_registry.add("slow:1", image))
    assert caught.value.code is Code.UNAVAILABLE


async def test_image_larger_than_the_disk(stores: Stores, own_registry: Registry) -> None:
    image = large(1000)
    huge = image.top.data.replace(b'"size":%d' % len(image.blobs[image.layers[0]]), b'"size":%d' % (1 << 52))
    top = Manifest(image.top.media_type, huge)
    store = await stores.start()
    with pytest.raises(NodeError, match="ENOSPC") as caught:
        await store.pull(own_registry.add("huge:1", Image(top, {top.digest: top}, image.blobs)))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert own_registry.count("GET", f"*/blobs/{image.layers[0]}") == 0
    assert stores.is_empty()


async def test_more_than_promised(stores: Stores, own_registry: Registry) -> None:
    image = large(1 << 20)
    layer = image.layers[0]
    own_registry.replace_blob(layer, image.blobs[layer] + bytes(5 << 20))
    reference = own_registry.add("other:1", catalog.busybox())
    own_registry._manifests["other"] = {image.digest: image.top}
    own_registry._tags["other"] = {"1": image.digest}
    own_registry._blobs[image.id] = image.blobs[image.id]
    store = await stores.start()
    with pytest.raises(NodeError, match="more than the"):
        await store.pull(reference)
    assert stores.is_empty()


async def test_bomb(stores: Stores, own_registry: Registry) -> None:
    image = build_image([Layer().file("zeros", bytes(64 << 20))], {}, Format(compression="zstd"))
    store = await stores.start()
    store._layers.bounds = type(store._layers.bounds)(free_ratio=8 << 20)
    with pytest.raises(NodeError, match="times its size") as caught:
        await store.pull(own_registry.add("bomb:1", image))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert stores.is_empty()


async def test_many_stalled_mirrors_end_in_one_error_in_time(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets that are never answered: all hosts together get what a single one would."""
    monkeypatch.setattr(patience, "OBJECT_SECONDS", 3.0)
    monkeypatch.setattr(patience, "LEAST_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        ports = [socket.getsockname()[1] for socket in silent]
        folder = tmp_path / "certs.d" / f"127.0.0.1:{ports[0]}"
        folder.mkdir(parents=True)
        mirrors = "".join(f'[host."http://127.0.0.1:{port}"]\n' for port in ports[1:])
        (folder / "hosts.toml").write_text(mirrors)
        store = await stores.start([str(tmp_path / "certs.d")])
        began = time.monotonic()
        with pytest.raises(NodeError) as caught:
            await store.pull(f"127.0.0.1:{ports[0]}/app:1")
        assert time.monotonic() - began < 10  # 5 x 3 s, had each its own time
    assert caught.value.code is Code.UNAVAILABLE
    for port in ports:
        assert caught.value.message.count(f"registry 127.0.0.1:{port}: ") == 1


async def test_a_mirror_that_failed_is_not_asked_again(
    stores: Stores, own_registry: Registry, tmp_path: Path
) -> None:
    image = catalog.busybox()
    reference = own_registry.add("app:1", image)
    with Registry() as mirror:
        mirror.fail(Fault("*", status=503, times=None))
        folder = tmp_path / "certs.d" / own_registry.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'[host."http://{mirror.address}"]\n')
        store = await stores.start([str(tmp_path / "certs.d")])
        assert (await store.pull(reference)).id == image.id
        assert mirror.count("GET", "*/manifests/*") > 0 == mirror.count("GET", "*/blobs/*")

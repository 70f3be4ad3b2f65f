"""Load and save: OCI layouts and docker archives, in all the ways tools write them."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import zstandard

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.models import PullEvent, SaveFormat
from minikubelet.images.store import ImageStore
from tests.host.images.conftest import Stores
from tests.images import catalog
from tests.images.build import Format, Image, Layer, build_image, build_index, digest_of
from tests.registry import Registry

NAME = "io.containerd.image.name"
REF = "org.opencontainers.image.ref.name"


async def stream(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def tar(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def layout(image: Image, *annotations: dict[str, str], **more: Any) -> dict[str, bytes]:
    entries = [image.top.descriptor(annotations=one) for one in annotations] or [image.top.descriptor()]
    files = {f"blobs/{digest.replace(':', '/')}": data for digest, data in image.blobs.items()}
    files |= {f"blobs/{m.digest.replace(':', '/')}": m.data for m in image.manifests.values()}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries, **more}).encode()
    return files


def docker_archive(image: Image, tags: list[str], *, plain: bool = True) -> dict[str, bytes]:
    names = []
    files = {}
    for number, digest in enumerate(image.layers):
        data = image.blobs[digest]
        names.append(f"{number}/layer.tar")
        files[names[-1]] = gzip.decompress(data) if plain else data
    files["config.json"] = image.blobs[image.id]
    entry = {"Config": "config.json", "RepoTags": tags, "Layers": names}
    files["manifest.json"] = json.dumps([entry]).encode()
    return files


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
async def test_oci_layout(store: ImageStore, compress: Any) -> None:
    image = catalog.layered()
    data = compress(tar(layout(image, {NAME: "example.com/app:1", REF: "1"})))
    events: list[PullEvent] = []
    (loaded,) = await store.load(stream(data), events.append)
    assert loaded.id == image.id and loaded.repo_tags == ("example.com/app:1",)
    assert loaded.repo_digests == (f"example.com/app@{image.digest}",)
    assert len(loaded.layers) == 3 and store.find("example.com/app:1") == loaded
    assert {event.status for event in events} >= {"unpacking", "done"}


async def test_names_of_layouts(stores: Stores) -> None:
    store = await stores.start()
    for notes, tags in (
        ({REF: "docker.io/library/app:2"}, ("docker.io/library/app:2",)),
        ({REF: "latest"}, ()),
        ({}, ()),
        ({NAME: "app"}, ("docker.io/library/app:latest",)),
    ):
        (loaded,) = await store.load(stream(tar(layout(catalog.busybox(), notes))))
        assert loaded.repo_tags == tags
        await store.remove(loaded.id)
        assert stores.is_empty()


async def test_one_image_with_several_names(store: ImageStore) -> None:
    files = layout(catalog.busybox(), {NAME: "a.test/x:1"}, {NAME: "b.test/y:2"})
    (loaded,) = await store.load(stream(tar(files)))
    assert loaded.repo_tags == ("a.test/x:1", "b.test/y:2")


async def test_layout_with_platforms(store: ImageStore) -> None:
    arm = Format(architecture="arm64")
    here = catalog.busybox()
    there = build_image([Layer().file("a", b"")], {}, arm)
    index = build_index([(there, arm), (here, Format())])
    (loaded,) = await store.load(stream(tar(layout(index, {NAME: "a.test/x:1"}))))
    assert loaded.id == here.id and loaded.repo_digests == (f"a.test/x@{index.digest}",)
    await store.remove(loaded.id)
    files = layout(index)
    files["index.json"] = index.top.data
    (loaded,) = await store.load(stream(tar(files)))
    assert loaded.id == here.id


@pytest.mark.parametrize("plain", [True, False])
async def test_docker_archive(stores: Stores, plain: bool) -> None:
    store = await stores.start()
    image = catalog.layered()
    data = gzip.compress(tar(docker_archive(image, ["app:1", "localhost:5000/app:x"], plain=plain)))
    (loaded,) = await store.load(stream(data, 1000))
    assert loaded.id == image.id
    assert loaded.repo_tags == ("docker.io/library/app:1", "localhost:5000/app:x")
    assert loaded.repo_digests == () and len(loaded.layers) == 3
    stores.nothing_half_made()


async def test_docker_archive_with_linked_layers(store: ImageStore) -> None:
    image = build_image([Layer().file("a", b"x")], {})
    files = docker_archive(image, ["app:1"])
    files["real/layer.tar"] = files.pop("0/layer.tar")
    (loaded,) = await store.load(stream(tar(files, {"0/layer.tar": "../real/layer.tar"})))
    assert loaded.id == image.id


async def test_loading_over_a_pulled_image(store: ImageStore, own_registry: Registry) -> None:
    image = catalog.busybox()
    pulled = await store.pull(own_registry.add("app:1", image))
    (loaded,) = await store.load(stream(tar(layout(image, {NAME: "other.test/app:1"}))))
    assert loaded.layers == pulled.layers
    assert set(loaded.repo_tags) == {"other.test/app:1", *pulled.repo_tags}


BUSYBOX = catalog.busybox()
LAYER = f"blobs/{BUSYBOX.layers[0].replace(':', '/')}"
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an image archive"),
    "no tar": (b"x" * 5000, "not an image archive"),
    "no images": (tar({"a": b""}), "neither index.json nor manifest.json"),
    "cut": (tar(layout(BUSYBOX))[:50_000], "truncated"),
    "cut gzip": (gzip.compress(tar(layout(BUSYBOX)))[:50_000], "truncated"),
    "missing blob": (tar({n: d for n, d in layout(BUSYBOX).items() if n != LAYER}), "lacks"),
    "changed blob": (tar({**layout(BUSYBOX), LAYER: b"x"}), "digest"),
    "index of nothing": (tar({**layout(BUSYBOX), "index.json": b'{"schemaVersion":2,"manifests":[]}'}),
                         "no images"),
    "index is a manifest": (tar({**layout(BUSYBOX), "index.json": BUSYBOX.top.data}), "other kind|sent as"),
    "deep json": (tar({**layout(BUSYBOX), "index.json": b"[" * 100_000}), "malformed"),
    "docker no layer": (tar({"manifest.json": b'[{"Config":"c","Layers":["../etc/passwd"]}]', "c": b"{}"}),
                        "lacks"),
    "docker no config": (tar({"manifest.json": b'[{"Config":"/etc/passwd"}]'}), "lacks"),
    "docker bad tag": (tar(docker_archive(BUSYBOX, ["Bad Tag"])), "invalid reference"),
    "docker garbage": (tar({"manifest.json": b"{}"}), "malformed"),
    "link loop": (tar({"manifest.json": b'[{"Config":"a"}]'}, {"a": "b", "b": "a"}), "lacks"),
    "link out": (tar({"manifest.json": b'[{"Config":"a"}]'}, {"a": "/etc/passwd"}), "lacks"),
    "escaping member": (tar({"../../../../tmp/mk-escaped": b"x"}), "leaves"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_bad_archives_are_refused_whole(stores: Stores, name: str) -> None:
    data, part = BAD[name]
    store = await stores.start()
    with pytest.raises(NodeError, match=part) as caught:
        await store.load(stream(data))
    assert caught.value.code in (Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT)
    assert store.list() == [] and stores.is_empty()


async def test_a_load_that_is_cancelled_leaves_nothing(stores: Stores) -> None:
    store = await stores.start()
    data = tar(layout(BUSYBOX))

    async def endless() -> AsyncIterator[bytes]:
        yield data[:100_000]
        await asyncio.sleep(3600)

    task = asyncio.ensure_future(store.load(endless()))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stores.is_empty()
    (loaded,) = await store.load(stream(data))
    assert loaded.id == BUSYBOX.id


async def saved(store: ImageStore, references: list[str], form: SaveFormat) -> bytes:
    return b"".join([chunk async for chunk in store.save(references, form)])


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize("form", list(SaveFormat))
async def test_what_is_saved_can_be_loaded(stores: Stores, own_registry: Registry, form: SaveFormat) -> None:
    store = await stores.start()
    images = [catalog.busybox(), catalog.layered(Format(compression="zstd"))]
    pulled = [await store.pull(own_registry.add(f"i{number}:1", one)) for number, one in enumerate(images)]
    data = await saved(store, [one.repo_tags[0] for one in pulled], form)
    for one in pulled:
        await store.remove(one.id)
    assert stores.is_empty()
    loaded = await store.load(stream(data))
    assert [(one.id, one.repo_tags) for one in loaded] == [(one.id, one.repo_tags) for one in pulled]
    stores.nothing_half_made()


async def test_saved_layout_is_digest_exact(store: ImageStore, own_registry: Registry) -> None:
    image = catalog.layered()
    pulled = await store.pull(own_registry.add("app:1", image))
    found = members(await saved(store, [pulled.id], SaveFormat.OCI))
    for name, data in found.items():
        if name.startswith("blobs/"):
            assert digest_of(data) == name.removeprefix("blobs/").replace("/", ":")
    assert {digest_of(data) for name, data in found.items() if name.startswith("blobs/")} == {
        image.digest,
        *image.blobs,
    }
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["digest"] == image.digest and entry["annotations"][NAME] == pulled.repo_tags[0]


async def test_saving_what_is_not_there(store: ImageStore) -> None:
    with pytest.raises(NodeError, match="not found"):
        store.save(["nothing"], SaveFormat.OCI)

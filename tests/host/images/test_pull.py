"""Pulls over loopback: formats, platforms, names, sharing, mirrors, progress."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.models import Platform, PullEvent
from minikubelet.images.store import ImageStore
from tests.certificates import make_authority
from tests.host.images.conftest import Stores
from tests.images import catalog
from tests.images.build import Format, Image, Layer, Manifest, build_image, build_index, digest_of
from tests.registry import Fault, Registry


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
@pytest.mark.parametrize("docker", [False, True])
async def test_formats(store: ImageStore, own_registry: Registry, compression: str, docker: bool) -> None:
    image = catalog.busybox(Format(docker=docker, compression=compression))
    pulled = await store.pull(own_registry.add("library/busybox:1", image))
    assert pulled.id == image.id
    assert pulled.config.cmd == ("sh",)
    assert len(pulled.layers) == 1
    assert Path(store.layers_dir, pulled.layers[0], "bin/busybox").stat().st_size > 100_000


async def test_names(store: ImageStore, own_registry: Registry) -> None:
    image = catalog.busybox()
    reference = own_registry.add("app:v1", image)
    name = reference.rpartition(":")[0]
    pulled = await store.pull(reference)
    assert pulled.repo_tags == (reference,)
    assert pulled.repo_digests == (f"{name}@{image.digest}",)
    for text in (reference, f"{name}@{image.digest}", image.id, image.id[7:19], image.id[7:]):
        assert store.find(text) == pulled
    assert store.find("busybox") is None and store.find("sha256:" + "0" * 64) is None
    by_digest = await store.pull(f"{name}:ignored@{image.digest}")
    assert by_digest.repo_tags == (reference,)


async def test_config_is_handed_out(store: ImageStore, own_registry: Registry) -> None:
    config = (await store.pull(own_registry.add("configured:1", catalog.configured()))).config
    assert (config.user, config.working_dir, config.stop_signal) == ("web:web", "/app", "SIGUSR1")
    assert config.env[1:] == ("GREETING=hello", "EMPTY=")
    assert (config.entrypoint, config.cmd) == (("/app/show",), ("from", "image"))
    assert (config.volumes, config.labels) == (("/srv",), {"org.example.kind": "configured"})


async def test_moved_tag_leaves_the_old_image_its_digest(store: ImageStore, own_registry: Registry) -> None:
    old = await store.pull(own_registry.add("app:latest", catalog.busybox()))
    reference = own_registry.add("app:latest", catalog.configured())
    new = await store.pull(reference)
    assert new.id != old.id and new.repo_tags == (reference,)
    left = store.find(old.id)
    assert left is not None and left.repo_tags == () and left.repo_digests == old.repo_digests
    assert {image.id for image in store.list()} == {old.id, new.id}


async def test_unchanged_tag_is_asked_for_once(store: ImageStore, own_registry: Registry) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    first = await store.pull(reference)
    before = len(own_registry.requests)
    assert await store.pull(reference) == first
    assert [request.method for request in own_registry.requests[before:]] == ["HEAD"]


def two_platforms() -> tuple[Image, Image, Image]:
    arm = Format(architecture="arm64", variant="v8")
    here = build_image([Layer().file("which", b"amd64")], {}, Format())
    there = build_image([Layer().file("which", b"arm64")], {}, arm)
    return build_index([(there, arm), (here, Format())]), here, there


async def test_index_by_platform(store: ImageStore, own_registry: Registry) -> None:
    index, here, there = two_platforms()
    reference = own_registry.add("multi:1", index)
    pulled = await store.pull(reference, platform=Platform("linux", "amd64"))
    assert pulled.id == here.id
    assert pulled.repo_digests == (f"{reference.rpartition(':')[0]}@{index.digest}",)
    other = await store.pull(reference, platform=Platform("linux", "arm64", "v8"))
    assert other.id == there.id
    with pytest.raises(NodeError, match="index has linux/amd64, linux/arm64/v8") as caught:
        await store.pull(reference, platform=Platform("linux", "s390x"))
    assert caught.value.code is Code.NOT_FOUND


async def test_single_image_of_another_platform_is_refused(store: ImageStore, own_registry: Registry) -> None:
    _, _, there = two_platforms()
    with pytest.raises(NodeError, match="for linux/arm64/v8, not for linux/amd64"):
        await store.pull(own_registry.add("arm:1", there), platform=Platform("linux", "amd64"))


async def test_many_at_once_make_one_download(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    image = catalog.layered()
    reference = own_registry.add("layered:1", image)
    pulled = await asyncio.gather(*(store.pull(reference) for _ in range(20)))
    assert len({one.id for one in pulled}) == 1
    for digest in image.layers:
        assert own_registry.count("GET", f"*/blobs/{digest}") == 1
    assert own_registry.count("GET", "*/manifests/*") == 1


async def test_different_images_share_what_is_equal(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    below = catalog.base_layer
    first = build_image([below(), Layer().file("a", b"1")], {})
    second = build_image([below(), Layer().file("b", b"2")], {})
    names = [own_registry.add("a:1", first), own_registry.add("b:1", second)]
    one, two = await asyncio.gather(*map(store.pull, names))
    assert one.layers[-1] == two.layers[-1] and one.layers[0] != two.layers[0]
    assert own_registry.count("GET", f"*/blobs/{first.layers[0]}") == 1
    assert len(stores.layers()) == 3


async def test_a_cancelled_pull_leaves_others_alone_and_nothing_behind(
    stores: Stores, own_registry: Registry
) -> None:
    store = await stores.start()
    image = catalog.busybox()
    reference = own_registry.add("slow:1", image)
    own_registry.fail(Fault("*/blobs/*", bytes_per_second=2_000_000, times=None))
    waiting = [asyncio.ensure_future(store.pull(reference)) for _ in range(3)]
    await asyncio.sleep(0.15)
    waiting[0].cancel()
    waiting[1].cancel()
    assert (await waiting[2]).id == image.id
    await store.remove(reference)
    own_registry.heal()
    own_registry.fail(Fault("*/blobs/*", bytes_per_second=50_000, times=None))
    lonely = asyncio.ensure_future(store.pull(reference))
    await asyncio.sleep(0.15)
    lonely.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lonely
    assert stores.is_empty()
    own_registry.heal()
    assert (await store.pull(reference)).id == image.id


async def test_progress(store: ImageStore, own_registry: Registry) -> None:
    image = catalog.layered()
    events: list[PullEvent] = []
    await store.pull(own_registry.add("layered:1", image), progress=events.append)
    for digest in image.layers:
        mine = [event for event in events if event.layer == digest]
        assert mine[0].status == "downloading" and mine[-1].status == "done"
        assert [event.offset for event in mine] == sorted(event.offset for event in mine)
        assert mine[-1].offset == mine[-1].total == len(image.blobs[digest])
    events.clear()
    again = build_image([], {"Cmd": ["x"]})
    await store.pull(own_registry.add("none:1", again), progress=events.append)
    assert events == []


async def test_image_without_layers(store: ImageStore, own_registry: Registry) -> None:
    pulled = await store.pull(own_registry.add("none:1", build_image([], {})))
    assert pulled.layers == ()


async def test_mirror_answers_and_is_told_for_whom(
    stores: Stores, own_registry: Registry, tmp_path: Path
) -> None:
    own_registry.add("team/app:1", catalog.busybox())
    folder = tmp_path / "certs" / "r.example.test"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:1"\n[host."{own_registry.url}"]\n'
        '[host."' + own_registry.url + '".header]\nX-Mirror = "yes"\n'
    )
    store = await stores.start([str(tmp_path / "certs")])
    pulled = await store.pull("r.example.test/team/app:1")
    assert pulled.repo_tags == ("r.example.test/team/app:1",)
    for request in own_registry.requests:
        assert request.query == {"ns": ["r.example.test"]}
        assert request.headers["x-mirror"] == "yes"


async def test_broken_mirrors_are_passed_over(stores: Stores, own_registry: Registry, tmp_path: Path) -> None:
    own_registry.add("team/app:1", catalog.busybox())
    folder = tmp_path / "certs" / "_default"
    folder.mkdir(parents=True)
    with Registry() as empty, Registry() as broken:
        broken.fail(Fault("*", status=500, times=None))
        (folder / "hosts.toml").write_text(
            f'server = "{own_registry.url}"\n[host."{broken.url}"]\n[host."{empty.url}"]\n'
            '[host."http://127.0.0.1:1"]\n'
        )
        store = await stores.start([str(tmp_path / "certs")])
        assert (await store.pull("r.example.test/team/app:1")).id == catalog.busybox().id
        with pytest.raises(NodeError) as caught:
            await store.pull("r.example.test/team/other:1")
    for part in (broken.address, empty.address, "127.0.0.1:1", own_registry.address, "500", "404"):
        assert part in caught.value.message
    assert caught.value.code is Code.NOT_FOUND


async def test_a_mirror_that_may_not_resolve_serves_blobs_only(
    stores: Stores, own_registry: Registry, tmp_path: Path
) -> None:
    image = catalog.busybox()
    own_registry.add("team/app:1", image)
    folder = tmp_path / "certs" / "r.example.test"
    folder.mkdir(parents=True)
    with Registry() as mirror:
        mirror.add("team/app:1", catalog.configured())
        mirror.add("team/app:x", image)
        (folder / "hosts.toml").write_text(
            f'server = "{own_registry.url}"\n[host."{mirror.url}"]\ncapabilities = ["pull"]\n'
        )
        store = await stores.start([str(tmp_path / "certs")])
        assert (await store.pull("r.example.test/team/app:1")).id == image.id
        assert own_registry.count("GET", "*/blobs/*") == 0 and mirror.count("GET", "*/blobs/*") == 2


async def test_https(stores: Stores, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    certs = tmp_path / "certs"
    certs.mkdir()
    with Registry(tls=authority.server_context()) as registry:
        reference = registry.add("app:1", catalog.busybox())
        folder = certs / registry.address
        folder.mkdir()
        store = await stores.start([str(certs)])
        (folder / "hosts.toml").write_text(f'server = "{registry.url}"')
        with pytest.raises(NodeError, match="certificate not accepted"):
            await store.pull(reference)
        (folder / "hosts.toml").write_text(f'server = "{registry.url}"\nskip_verify = true')
        await store.pull(reference)
        await store.remove(reference)
        (folder / "hosts.toml").write_text(f'server = "{registry.url}"\nca = "{authority.path}"')
        assert (await store.pull(reference)).id == catalog.busybox().id


async def test_registry_that_names_another_digest(stores: Stores, own_registry: Registry) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    wrong = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    own_registry.fail(Fault("*/manifests/*", headers=wrong, times=None))
    store = await stores.start()
    with pytest.raises(NodeError, match=own_registry.address) as caught:
        await store.pull(reference)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert stores.is_empty()


async def test_wrong_manifest_under_a_digest(stores: Stores, own_registry: Registry) -> None:
    image, other = catalog.busybox(), catalog.configured()
    reference = own_registry.add("app:1", image)
    own_registry.replace_manifest("app", image.digest, other.top)
    store = await stores.start()
    with pytest.raises(NodeError, match="digest"):
        await store.pull(f"{reference.rpartition(':')[0]}@{image.digest}")
    assert stores.is_empty()


async def test_wrong_sizes_and_diff_ids(stores: Stores, own_registry: Registry) -> None:
    """The registry lies in documents whose digests are right."""
    good = build_image([Layer().file("a", b"x" * 1000)], {})
    layer = good.layers[0]
    text = good.top.data
    store = await stores.start()
    for wrong, part in (
        (text.replace(b'"size":%d' % len(good.blobs[layer]), b'"size":7'), "bytes of"),
        (text.replace(b'"size":%d' % len(good.blobs[good.id]), b'"size":7'), "larger|bytes of"),
    ):
        assert wrong != text
        top = Manifest(good.top.media_type, wrong)
        image = Image(top, {top.digest: top}, good.blobs)
        with pytest.raises(NodeError, match=part):
            await store.pull(own_registry.add("lies:1", image))
        assert stores.is_empty()
    document = json.loads(good.blobs[good.id])
    document["rootfs"]["diff_ids"] = [digest_of(b"something else")]
    config = json.dumps(document, separators=(",", ":")).encode()
    assert len(config) == len(good.blobs[good.id])
    top = Manifest(
        good.top.media_type,
        text.replace(good.id.encode(), digest_of(config).encode()),
    )
    blobs = {**good.blobs, digest_of(config): config}
    with pytest.raises(NodeError, match="layer unpacks to"):
        await store.pull(own_registry.add("lies:2", Image(top, {top.digest: top}, blobs)))
    assert stores.is_empty()


async def test_bad_references_are_refused_at_once(store: ImageStore) -> None:
    with pytest.raises(NodeError) as caught:
        await store.pull("Not A Reference")
    assert caught.value.code is Code.INVALID_ARGUMENT


async def test_the_event_loop_stays_responsive(store: ImageStore, own_registry: Registry) -> None:
    """No timed assert: ticks are counted, of which a blocked loop makes next to none."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    layers = [
        Layer().file("random", bytes(range(256)) * 200_000).file(f"l{number}", b"x") for number in range(3)
    ]
    reference = own_registry.add("large:1", build_image(layers, {}, Format(compression="")))
    ticker = asyncio.ensure_future(tick())
    start = time.monotonic()
    await store.pull(reference)
    expected = (time.monotonic() - start) / 0.005
    ticker.cancel()
    assert ticks > expected / 10

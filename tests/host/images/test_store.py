"""What outlives the daemon, what is removed, and what happens to damaged state."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.images.store import ImageStore
from tests.host.images.conftest import Stores
from tests.images import catalog
from tests.images.build import Layer, build_image
from tests.registry import Fault, Registry


async def test_images_outlive_the_daemon(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    before = [await store.pull(own_registry.add(f"{n}:1", i)) for n, i in
              (("a", catalog.busybox()), ("b", catalog.layered()))]  # fmt: skip
    store.set_pinned(before[0].id, True)
    before = store.list()
    stores.kill()
    again = await stores.start()
    assert again.list() == before
    assert [image.pinned for image in again.list()] == [True, False]


async def test_images_are_pinned_by_configuration(stores: Stores, own_registry: Registry) -> None:
    names = [own_registry.add(f"{n}:1", i) for n, i in (("a", catalog.busybox()), ("b", catalog.layered()))]
    store = await stores.start(pinned=[names[0]])
    assert [(await store.pull(name)).pinned for name in names] == [True, False]
    await stores.stop()
    store = await stores.start(pinned=[names[1]])
    assert [image.pinned for image in store.list()] == [False, True]
    await stores.stop()
    with pytest.raises(NodeError, match="invalid reference"):
        await stores.start(pinned=["Not:A:Name"])


async def test_remove_by_any_name_removes_all(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    image = catalog.busybox()
    for name in ("a:1", "a:2", "b:1"):
        await store.pull(own_registry.add(name, image))
    assert len(store.list()) == 1 and len(store.list()[0].repo_tags) == 3
    await store.remove(f"{own_registry.address}/a:2")
    assert store.list() == [] and stores.is_empty()
    await store.remove(f"{own_registry.address}/a:2")
    await store.remove(image.id)


async def test_shared_layers_stay_until_the_last_image_goes(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    first = await store.pull(own_registry.add("a:1", build_image([catalog.base_layer()], {"Cmd": ["a"]})))
    second = await store.pull(own_registry.add("b:1", build_image([catalog.base_layer()], {"Cmd": ["b"]})))
    assert first.layers == second.layers and first.id != second.id
    await store.remove(first.id)
    assert os.path.isdir(f"{store.layers_dir}/{second.layers[0]}")
    await store.remove(second.id)
    assert stores.is_empty()


async def test_held_layers_stay_until_released(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    image = await store.pull(own_registry.add("a:1", catalog.layered()))
    store.hold(image.id, "container-1")
    store.hold(image.id, "container-1")
    store.hold(image.id, "container-2")
    await store.remove(image.id)
    assert store.find(image.id) is None
    assert len(stores.layers()) == 3 and stores.blobs() == set()
    stores.kill()
    store = await stores.start()
    assert len(stores.layers()) == 3
    store.release("container-1")
    await asyncio.sleep(0)
    assert len(stores.layers()) == 3
    store.release("container-2")
    store.release("container-2")
    await stores.stop()
    assert stores.layers() == []


async def test_held_layers_are_used_again(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    reference = own_registry.add("a:1", catalog.layered())
    image = await store.pull(reference)
    store.hold(image.id, "c")
    await store.remove(image.id)
    again = await store.pull(reference)
    assert again.layers == image.layers
    store.release("c")
    await asyncio.sleep(0.05)
    assert len(stores.layers()) == 3


async def test_hold_of_an_unknown_image(store: ImageStore) -> None:
    with pytest.raises(NodeError, match="not found"):
        store.hold("sha256:" + "0" * 64, "c")


async def test_short_ids(store: ImageStore, own_registry: Registry) -> None:
    images = [
        await store.pull(own_registry.add(f"i{number}:1", build_image([], {"Cmd": [str(number)]})))
        for number in range(40)
    ]
    prefixes = [image.id[7:8] for image in images]
    assert store.find(images[0].id[7:20]) == images[0]
    assert store.find("sha256:" + images[0].id[7:20]) == images[0]
    assert len(set(prefixes)) < len(prefixes)
    longest = next(
        a.id[7 : 7 + n]
        for n in (3, 2, 1)
        for a in images
        for b in images
        if a is not b and a.id[7 : 7 + n] == b.id[7 : 7 + n]
    )
    if len(longest) == 3:
        with pytest.raises(NodeError, match="beginning of"):
            store.find(longest)
    assert store.find("ab") is None  # too short to be meant as an ID


async def test_leftovers_of_a_crash_are_removed(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    image = await store.pull(own_registry.add("a:1", catalog.busybox()))
    await stores.stop()
    root = stores.root
    (root / "layers/zz/deep").mkdir(parents=True)
    (root / "layers/zz/deep/file").write_text("x")
    (root / "layers/odd name").mkdir()
    (root / f"blobs/sha256/{'0' * 64}").write_text("x")
    (root / "ingest/9-9").write_text("x")
    (root / "ingest/8-8.d").mkdir()
    store = await stores.start()
    assert store.list() == [image]
    await stores.stop()
    assert stores.layers() == list(image.layers)
    assert len(stores.blobs()) == 3
    stores.nothing_half_made()
    # A number that was seen is never given again: a worker of the dead daemon might still write there.
    store = await stores.start()
    other = await store.pull(own_registry.add("b:1", build_image([Layer().file("x", b"")], {})))
    assert int(other.layers[0], 36) > int("zz", 36)


@pytest.mark.parametrize("damage", ["config gone", "config changed", "layer gone", "manifest row"])
async def test_damaged_images_are_dropped_and_others_load(
    stores: Stores, own_registry: Registry, damage: str
) -> None:
    store = await stores.start()
    reference = own_registry.add("a:1", catalog.busybox())
    bad = await store.pull(reference)
    good = await store.pull(own_registry.add("b:1", catalog.layered()))
    await stores.stop()
    config = stores.root / "blobs/sha256" / bad.id.removeprefix("sha256:")
    if damage == "config gone":
        config.unlink()
    elif damage == "config changed":
        config.write_bytes(config.read_bytes().replace(b"linux", b"minix"))
    elif damage == "layer gone":
        os.rename(stores.root / "layers" / bad.layers[0], stores.root / "layers" / "moved")
    else:
        config.write_bytes(b"[" * 1000)
    store = await stores.start()
    assert store.list() == [good]
    assert (await store.pull(reference)).id == bad.id
    assert len(store.list()) == 2


@pytest.mark.parametrize("damage", ["garbage", "empty", "gone"])
async def test_lost_database(stores: Stores, own_registry: Registry, damage: str) -> None:
    store = await stores.start()
    reference = own_registry.add("a:1", catalog.busybox())
    image = await store.pull(reference)
    await stores.stop()
    path = stores.root / "state.db"
    if damage == "gone":
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            (stores.root / name).unlink(missing_ok=True)
    else:
        path.write_bytes(b"garbage" * 1000 if damage == "garbage" else b"")
    store = await stores.start()
    assert store.list() == []
    # Containers may still run on the layers: they stay until the next boot, and their names are not reused.
    assert stores.layers() == list(image.layers)
    assert (await store.pull(reference)).layers != image.layers
    await stores.stop()
    await stores.start()
    assert set(stores.layers()) > set(image.layers)


async def test_power_cut_before_the_sync_drops_the_image(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    reference = own_registry.add("a:1", catalog.busybox())
    synced = await store.pull(own_registry.add("b:1", catalog.layered()))
    await store._durability.sync()
    cut = await store.pull(reference)
    store._records._db.execute("UPDATE images SET unsynced_boot = 'before' WHERE unsynced_boot != ''")
    stores.kill()
    store = await stores.start()
    assert [image.id for image in store.list()] == [synced.id]
    assert cut.layers[0] not in stores.layers()
    assert (await store.pull(reference)).id == cut.id


CHILD = """
import asyncio, sys
from minikubelet.base.database import Database
from minikubelet.images.endpoints import Sources
from minikubelet.images.store import ImageStore
async def main():
    root, reference = sys.argv[1:]
    store = ImageStore(Database(root + "/state.db"), root, Sources())
    await store.start()
    print("pulling", flush=True)
    await store.pull(reference)
    print("done", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_killed_at_any_moment(stores: Stores, own_registry: Registry) -> None:
    image = catalog.layered()
    reference = own_registry.add("a:1", image)
    own_registry.fail(Fault("*/blobs/*", bytes_per_second=20_000_000, times=None))
    repository = Path(__file__).resolve().parents[3]
    stores.root.mkdir()
    for milliseconds in (0, 5, 10, 20, 40, 60, 80, 100, 130, 160, 200):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(stores.root), reference,
            stdout=asyncio.subprocess.PIPE, cwd=repository,
        )  # fmt: skip
        assert child.stdout is not None
        await child.stdout.readline()
        await asyncio.sleep(milliseconds / 1000)
        child.send_signal(signal.SIGKILL)
        await child.wait()
        store = await stores.start()
        found = store.find(reference)
        if found is not None:
            assert found.id == image.id and len(found.layers) == 3
        await stores.stop()
        stores.nothing_half_made()
        assert stores.layers() == sorted(found.layers if found else ())
        store = await stores.start()
        await store.remove(reference)
        assert stores.is_empty()
        await stores.stop()


async def test_disk_full_is_named_and_given_back(
    stores: Stores, own_registry: Registry, tmp_path: Path
) -> None:
    """A file size limit stands in for the full disk: it is as sudden, and harmless to the host."""
    import errno
    import resource

    store = await stores.start()
    image = build_image([Layer().file("data", os.urandom(8 << 20))], {})
    reference = own_registry.add("a:1", image)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, before[1]))
    try:
        with pytest.raises(NodeError) as caught:
            await store.pull(reference)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert errno.errorcode[errno.EFBIG] in caught.value.message
    assert stores.is_empty()
    assert (await store.pull(reference)).id == image.id

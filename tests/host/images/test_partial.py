"""Downloads that broke off: the next pull goes on where they ended, and trusts nothing in them."""

from __future__ import annotations

import asyncio
import os

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import partial
from minikubelet.images.models import PullEvent
from tests.host.images.conftest import Stores
from tests.host.images.test_faults import large
from tests.images.build import Image
from tests.registry import Fault, Registry

CUT = 5 << 20
pytestmark = pytest.mark.usefixtures("room_on_the_disk")


@pytest.fixture
def room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "LEAST_FREE", 0.0)


async def break_off(stores: Stores, registry: Registry, image: Image) -> str:
    """A pull whose layer is cut once and then refused; the reference."""
    store = await stores.start()
    path = f"*/blobs/{image.layers[0]}"
    registry.fail(Fault(path, cut_after=CUT), Fault(path, status=404, times=None))
    reference = registry.add("large:1", image)
    with pytest.raises(NodeError, match="404"):
        await store.pull(reference)
    registry.heal()
    return reference


def ranges(registry: Registry, image: Image) -> list[str]:
    requests = registry.matching("GET", f"*/blobs/{image.layers[0]}")
    return [request.headers.get("range", "") for request in requests]


async def test_the_next_pull_goes_on(stores: Stores, own_registry: Registry) -> None:
    image = large()
    reference = await break_off(stores, own_registry, image)
    ((digest, size),) = stores.partial().items()
    assert digest == image.layers[0] and CUT - (1 << 20) <= size <= CUT
    assert stores.layers() == [] and stores.blobs() == set()
    before = len(ranges(own_registry, image))
    events: list[int] = []
    store = stores.store
    pulled = await store.pull(reference, progress=lambda event: events.append(event.offset))
    assert pulled.id == image.id
    assert ranges(own_registry, image)[before:] == [f"bytes={size}-"]
    assert size in events
    stores.nothing_half_made()


async def begin(stores: Stores, reference: str, enough: int) -> asyncio.Task[object]:
    """A pull that has received more than ``enough`` bytes and goes on."""
    arrived = asyncio.Event()

    def progress(event: PullEvent) -> None:
        if event.offset > enough:
            arrived.set()

    pull: asyncio.Task[object] = asyncio.create_task(stores.store.pull(reference, progress=progress))
    await arrived.wait()
    return pull


async def test_it_outlives_the_daemon(stores: Stores, own_registry: Registry) -> None:
    """Also one that is killed while content comes: nothing is put in order then."""
    image = large()
    own_registry.fail(Fault(f"*/blobs/{image.layers[0]}", bytes_per_second=2 << 20, times=None))
    reference = own_registry.add("large:1", image)
    await stores.start()
    pull = await begin(stores, reference, 3 << 20)
    path = stores.partial_file()
    content = path.read_bytes()
    pull.cancel()
    await asyncio.wait([pull])
    await stores.stop()
    path.write_bytes(content)  # as the killed daemon would have left it
    own_registry.heal()
    store = await stores.start()
    assert (await store.pull(reference)).id == image.id
    assert ranges(own_registry, image)[-1] == f"bytes={len(content)}-"


async def test_who_gives_up_leaves_what_came(stores: Stores, own_registry: Registry) -> None:
    image = large()
    own_registry.fail(Fault(f"*/blobs/{image.layers[0]}", bytes_per_second=2 << 20, times=None))
    await stores.start()
    pull = await begin(stores, own_registry.add("large:1", image), 2 << 20)
    pull.cancel()
    await asyncio.wait([pull])
    assert stores.partial()[image.layers[0]] > 2 << 20


@pytest.mark.parametrize("damage", ["changed", "longer", "complete"])
async def test_nothing_in_it_is_trusted(stores: Stores, own_registry: Registry, damage: str) -> None:
    image = large()
    reference = await break_off(stores, own_registry, image)
    path = stores.partial_file()
    content = image.blobs[image.layers[0]]
    wrong = {
        "changed": bytes([content[0] ^ 1]) + content[1 : 4 << 20],
        "longer": content + b"more",
        "complete": bytes([content[0] ^ 1]) + content[1:],
    }
    path.write_bytes(wrong[damage])
    before = len(ranges(own_registry, image))
    assert (await stores.store.pull(reference)).id == image.id
    assert ranges(own_registry, image)[-1] == "" and len(ranges(own_registry, image)) <= before + 2
    stores.nothing_half_made()


async def test_wrong_content_is_not_kept(stores: Stores, own_registry: Registry) -> None:
    image = large()
    own_registry.fail(Fault(f"*/blobs/{image.layers[0]}", corrupt=True, times=None))
    store = await stores.start()
    with pytest.raises(NodeError, match="digest") as caught:
        await store.pull(own_registry.add("large:1", image))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert stores.is_empty()


async def test_old_ones_other_boots_and_small_ones_go(stores: Stores, own_registry: Registry) -> None:
    await break_off(stores, own_registry, large())
    await stores.stop()
    top = stores.root / "partial"
    path = stores.partial_file()
    folder = path.parent
    (folder / "sha256-small").write_bytes(b"x")
    (top / "another-boot").mkdir()
    (top / "another-boot" / "sha256-x").write_bytes(bytes(2 << 20))
    await stores.start()
    assert [each.name for each in top.iterdir()] == [folder.name]
    assert [each.name for each in folder.iterdir()] == [path.name]
    await stores.stop()
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - partial.MAX_AGE))
    await stores.start()
    assert stores.partial() == {}


async def test_they_make_room(
    stores: Stores, own_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await break_off(stores, own_registry, large())
    monkeypatch.setattr(partial, "MAX_BYTES", 7 << 20)
    kept = stores.partial_file()
    folder = kept.parent
    (folder / "sha256-older").write_bytes(bytes(3 << 20))
    os.utime(folder / "sha256-older", (kept.stat().st_atime, kept.stat().st_mtime - 60))
    await stores.stop()
    await stores.start()
    assert [each.name for each in folder.iterdir()] == [kept.name]
    monkeypatch.setattr(partial, "LEAST_FREE", 1.1)
    await stores.stop()
    await stores.start()
    assert stores.partial() == {}

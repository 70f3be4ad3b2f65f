"""Real unpacking: owners, attributes, devices, and what overlayfs makes of the layers."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.models import Image
from minikubelet.images.store import ImageStore
from minikubelet.linux import mounts
from tests.host.images.conftest import Stores
from tests.images import catalog
from tests.images.build import Format, Layer, build_image
from tests.registry import Registry
from tests.unit.images.tars import END, directory, file, header, listing, pax, record, symlink

Pull = Callable[[Sequence[Layer]], "object"]


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Callable[[ImageStore, Image], Path]]:
    """Mounts an image's layers, attached nowhere: the host's mount table stays as it is."""
    opened: list[int] = []

    def mount(store: ImageStore, image: Image) -> Path:
        number = len(opened)
        for name in ("upper", "work"):
            (tmp_path / f"{name}{number}").mkdir()
        folders = [f"{store.layers_dir}/{name}" for name in image.layers]
        opened.append(
            mounts.overlay_filesystem(folders, f"{tmp_path}/upper{number}", f"{tmp_path}/work{number}")
        )
        return Path(f"/proc/self/fd/{opened[-1]}")

    yield mount
    for fd in opened:
        os.close(fd)


async def pull(store: ImageStore, registry: Registry, layers: Sequence[Layer]) -> Image:
    return await store.pull(registry.add("made:1", build_image(layers, {})))


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
async def test_layers_over_one_another(
    store: ImageStore, own_registry: Registry, overlay: Callable[..., Path], compression: str
) -> None:
    image = await store.pull(own_registry.add("l:1", catalog.layered(Format(compression=compression))))
    root = overlay(store, image)
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.joinpath("data").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert files == catalog.LAYERED
    data = root / "data"
    assert data.joinpath("turns-into-dir").is_dir() and not os.listdir(data / "turns-into-dir")
    assert not data.joinpath("removed-dir").exists() and not data.joinpath("removed").exists()
    replaced = os.stat(data / "replaced")
    assert (replaced.st_uid, replaced.st_gid, stat.S_IMODE(replaced.st_mode)) == (1000, 1000, 0o640)
    assert os.stat(data / "one").st_ino == os.stat(data / "two").st_ino
    assert stat.S_IMODE(os.stat(data / "setuid").st_mode) == 0o4755
    assert stat.S_ISFIFO(os.stat(data / "pipe").st_mode)
    assert os.readlink(data / "link") == "/data/kept"
    assert os.getxattr(data / "labelled", "user.colour") == b"green"
    assert os.getxattr(data / "labelled", "security.capability") == catalog.NET_BIND.encode()
    assert os.getxattr(data / "labelled-dir", "user.colour") == b"blue"


async def test_owners_modes_times_devices(store: ImageStore, own_registry: Registry) -> None:
    layer = Layer().directory("d", 0o2751, owner=1234).file("d/f", b"x", 0o6711, owner=65534)
    layer.character_device("null", 1, 3, 0o640).symlink("d/s", "nowhere").fifo("p", 0o600)
    image = await pull(store, own_registry, [layer])
    root = Path(store.layers_dir, image.layers[0])
    found = {name: os.lstat(root / name) for name in ("d", "d/f", "null", "p")}
    assert (found["d"].st_uid, found["d"].st_gid, stat.S_IMODE(found["d"].st_mode)) == (1234, 1234, 0o2751)
    assert (found["d/f"].st_uid, stat.S_IMODE(found["d/f"].st_mode)) == (65534, 0o6711)
    assert found["d/f"].st_gid == 65534
    assert stat.S_ISCHR(found["null"].st_mode) and found["null"].st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(found["null"].st_mode) == 0o640
    assert {one.st_mtime for one in found.values()} == {1700000000.0}
    assert os.lstat(root / "d/s").st_mtime == 1700000000.0


async def test_no_overlay_marks_from_images(store: ImageStore, own_registry: Registry) -> None:
    marks = dict.fromkeys(("trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"), "y")
    layer = Layer().directory("d", xattrs=marks).file("d/f", b"x", xattrs=marks | {"user.kept": "1"})
    image = await pull(store, own_registry, [layer])
    root = Path(store.layers_dir, image.layers[0])
    assert os.listxattr(root / "d") == []
    assert os.listxattr(root / "d/f") == ["user.kept"]


async def test_attributes_of_folders_a_layer_leaves_out(
    stores: Stores, own_registry: Registry, overlay: Callable[..., Path]
) -> None:
    """/tmp/x without an entry for /tmp must not cost /tmp its sticky bit."""
    store = await stores.start()
    lower = Layer().directory("tmp", 0o1777).directory("home", 0o750, owner=1000).directory("gone", 0o700)
    middle = Layer().whiteout("gone")
    top = (
        Layer()
        .file("tmp/x", b"1")
        .file("home/a/b", b"2", owner=1000)
        .file("gone/new", b"3")
        .file("fresh/f", b"4")
    )
    image = await pull(store, own_registry, [lower, middle, top])
    root = overlay(store, image)
    assert stat.S_IMODE(os.stat(root / "tmp").st_mode) == 0o1777
    home = os.stat(root / "home")
    assert (home.st_uid, stat.S_IMODE(home.st_mode), home.st_mtime) == (1000, 0o750, 1700000000)
    for name in ("home/a", "gone", "fresh"):
        assert (os.stat(root / name).st_uid, stat.S_IMODE(os.stat(root / name).st_mode)) == (0, 0o755)
    # On other layers the same tar is another folder, since other attributes come from below.
    strict = Layer().directory("tmp", 0o700)
    same_top = Layer().file("tmp/x", b"1").file("home/a/b", b"2", owner=1000)
    same_top.file("gone/new", b"3").file("fresh/f", b"4")
    other = await store.pull(own_registry.add("other:1", build_image([strict, same_top], {})))
    assert other.config.diff_ids[-1] == image.config.diff_ids[-1]
    assert other.layers[0] != image.layers[0]
    assert stat.S_IMODE(os.stat(overlay(store, other) / "tmp").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(root / "tmp").st_mode) == 0o1777


class Raw(Layer):
    """A layer whose tar is given as it is."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def tar(self) -> bytes:
        return self._data


CANARY = "/tmp/mk-images-canary"

HOSTILE = {
    "dotdot": file(b"../../../../../../../../../.." + CANARY.encode(), b"dead"),
    "absolute link": symlink(b"l", b"/tmp") + file(b"l/mk-images-canary", b"dead"),
    "relative link": symlink(b"l", b"../../../../../../../../tmp") + file(b"l/mk-images-canary", b"dead"),
    "link to the file": symlink(b"l", CANARY.encode()) + file(b"l", b"dead"),
    "whiteout through link": symlink(b"l", b"/tmp") + file(b"l/.wh.mk-images-canary"),
    "proc links": symlink(b"l", b"/proc/self/fd/4") + file(b"l", b"dead") + symlink(b"r", b"/proc/1/root")
    + file(b"r/x", b"x"),
    "block device": header(b"disk", kind=b"4", major=b"0000376\0") + file(b"disk", b"dead"),
    "fifo": header(b"p", kind=b"6") + file(b"p", b"dead"),
}  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE)
async def test_hostile_layers(stores: Stores, own_registry: Registry, attack: str) -> None:
    store = await stores.start()
    Path(CANARY).write_text("alive")
    try:
        image = build_image([Raw(HOSTILE[attack] + END)], {})
        try:
            await store.pull(own_registry.add("evil:1", image))
        except NodeError as exc:
            assert exc.code is Code.FAILED_PRECONDITION
            assert stores.is_empty()
        assert Path(CANARY).read_text() == "alive"
        assert os.lstat(CANARY).st_nlink == 1
    finally:
        os.unlink(CANARY)


async def test_fifo_and_device_entries_never_block(store: ImageStore, own_registry: Registry) -> None:
    data = header(b"p", kind=b"6") + file(b"p/x", b"x") + END
    with pytest.raises(NodeError, match="not a directory"):
        await store.pull(own_registry.add("evil:1", build_image([Raw(data)], {})))


async def test_names_that_are_not_utf_8(store: ImageStore, own_registry: Registry) -> None:
    data = directory(b"d\xff") + file(b"d\xff/\xfe\n", b"x") + file(b"i\xff/f", b"y") + END
    image = await store.pull(own_registry.add("odd:1", build_image([Raw(data)], {})))
    root = os.fsencode(f"{store.layers_dir}/{image.layers[0]}")
    assert sorted(os.listdir(root)) == [b"d\xff", b"i\xff"]
    assert os.listdir(root + b"/d\xff") == [b"\xfe\n"]


async def test_bad_layer_is_named(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    reference = own_registry.add("bad:1", build_image([Raw(b"this is no tar" * 100)], {}))
    with pytest.raises(NodeError, match="bad number") as caught:
        await store.pull(reference)
    assert caught.value.message.startswith(f"pull {reference}: ")
    assert stores.is_empty()


async def test_too_deep_trees_can_be_removed(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    deep = b"/".join([b"d"] * 1900)
    data = pax(record(b"path", deep + b"/f")) + file(b"x", b"1") + END
    reference = own_registry.add("deep:1", build_image([Raw(data)], {}))
    await store.pull(reference)
    await store.remove(reference)
    assert stores.is_empty()


async def test_usage_counts_what_is_there(stores: Stores, own_registry: Registry) -> None:
    store = await stores.start()
    layer = (
        Layer().directory("d").file("d/a", b"x" * 5000).file("b", b"").symlink("c", "b").hardlink("e", "b")
    )
    image = await pull(store, own_registry, [layer])
    usage = store.usage()
    assert usage.inodes == 4 + 3  # d, a, b, c; manifest, config, layer
    assert usage.bytes == image.size
    assert 8192 + 4096 <= usage.bytes < 8192 + 4096 + 5000
    assert listing(Path(store.layers_dir, image.layers[0]))["e"] == "f "
    await store.remove(image.id)
    assert (store.usage().bytes, store.usage().inodes) == (0, 0)

"""Layer tars into folders: what is made, and that nothing outside ever is."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.images.extract import clean
from minikubelet.images.layertree import TreeError, remove_tree
from minikubelet.images.tarheader import TarError
from tests.images.build import Layer
from tests.unit.images.tars import (
    END,
    directory,
    file,
    hardlink,
    header,
    listing,
    pad,
    pax,
    record,
    symlink,
    unpack,
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A layer folder beside a canary; what is outside must stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text("alive")
    yield tmp_path / "layer"
    if (tmp_path / "layer").exists():
        remove_tree(str(tmp_path / "layer"))  # pytest's own clean-up is recursive and can't take all of them


def assert_outside_is_untouched(folder: Path) -> None:
    assert sorted(os.listdir(folder.parent)) in (["layer", "outside"], ["outside"])
    assert listing(folder.parent / "outside") == {"canary": "f alive"}


def test_ordinary_layer(folder: Path) -> None:
    long_name = "long/" * 30 + "name"
    layer = Layer().directory("etc", 0o750).file("etc/hosts", b"127.0.0.1\n", 0o640)
    layer.symlink("etc/link", "/etc/hosts").hardlink("etc/hard", "etc/hosts").fifo("etc/pipe")
    layer.file(long_name, b"x").file("bjørn", b"y").file("empty")
    report = unpack(layer.tar(), folder)
    found = listing(folder)
    assert found["etc/hosts"] == found["etc/hard"] == "f 127.0.0.1\n"
    assert found["etc/link"] == "l /etc/hosts"
    assert found[long_name] == "f x" and found["bjørn"] == "f y" and found["empty"] == "f "
    assert os.stat(folder / "etc/hosts").st_ino == os.stat(folder / "etc/hard").st_ino
    assert os.stat(folder / "etc").st_mode & 0o7777 == 0o750
    assert os.stat(folder / "etc/hosts").st_mode & 0o7777 == 0o640
    assert os.stat(folder / "etc/hosts").st_mtime == os.stat(folder / "etc").st_mtime == 1700000000
    assert report.implicit[0] == b"long" and len(report.implicit) == 30
    assert report.entries == 8


@pytest.mark.parametrize("size", [1, 511, 512, 513, 4096])
def test_any_chunking_gives_the_same(folder: Path, size: int) -> None:
    data = Layer().file("a/b", b"x" * 1500).file("c", b"y" * 512).directory("d").tar()
    unpack(data, folder, size)
    assert listing(folder) == {"a": "d", "a/b": "f " + "x" * 1500, "c": "f " + "y" * 512, "d": "d"}


def test_times_of_folders_survive_what_is_put_in_them(folder: Path) -> None:
    data = pax(record(b"mtime", b"12.5")) + directory(b"d") + file(b"d/f", b"x") + file(b"d/e/f", b"y") + END
    unpack(data, folder)
    assert os.stat(folder / "d").st_mtime_ns == 12_500_000_000


def test_setuid_sticky_and_setgid_bits(folder: Path) -> None:
    data = file(b"su", b"x", mode=b"0004755\0") + header(b"d", kind=b"5", mode=b"0003777\0")
    data += file(b"d/f", mode=b"0000600\0") + END
    unpack(data, folder)
    assert os.stat(folder / "su").st_mode & 0o7777 == 0o4755
    assert os.stat(folder / "d").st_mode & 0o7777 == 0o3777


def test_the_last_of_equal_names_counts(folder: Path) -> None:
    data = (
        file(b"a", b"1") + file(b"a", b"22") + directory(b"b") + file(b"b/x", b"gone") + file(b"b", b"file")
    )
    data += file(b"c", b"file") + directory(b"c") + file(b"c/x", b"y") + symlink(b"d", b"c") + directory(b"d")
    data += file(b"d/z", b"z") + directory(b"e") + directory(b"e") + END
    unpack(data, folder)
    assert listing(folder) == {
        "a": "f 22", "b": "f file", "c": "d", "c/x": "f y", "d": "d", "d/z": "f z", "e": "d"
    }  # fmt: skip


def test_replaced_folder_is_forgotten_with_all_below(folder: Path) -> None:
    data = directory(b"a") + directory(b"a/b") + file(b"a/b/c", b"1") + file(b"a", b"2") + directory(b"a")
    data += file(b"a/b/c", b"3") + END
    report = unpack(data, folder)
    assert listing(folder) == {"a": "d", "a/b": "d", "a/b/c": "f 3"}
    assert report.implicit == [b"a/b"]


def test_whiteouts(folder: Path) -> None:
    layer = Layer().directory("d").whiteout("d/gone").whiteout("top").opaque("d")
    report = unpack(layer.tar(), folder)
    assert listing(folder) == {"d": "d", "d/gone": "c", "top": "c"}
    assert os.lstat(folder / "top").st_rdev == 0
    assert report.opaque == [b"d"]


def test_whiteout_with_a_new_folder_of_the_same_name_is_opaque(folder: Path) -> None:
    for data in (
        file(b".wh.d") + directory(b"d") + file(b"d/x", b"new") + END,
        directory(b"d") + file(b"d/x", b"new") + file(b".wh.d") + END,
        file(b".wh.d") + file(b"d/x", b"new") + END,
    ):
        report = unpack(data, folder)
        assert listing(folder) == {"d": "d", "d/x": "f new"}
        assert report.opaque == [b"d"]
        os.unlink(folder / "d/x")
        os.rmdir(folder / "d")


def test_whiteout_does_not_hide_its_own_layer(folder: Path) -> None:
    unpack(file(b"f", b"mine") + file(b".wh.f") + file(b".wh.g") + file(b"g", b"mine") + END, folder)
    assert listing(folder) == {"f": "f mine", "g": "f mine"}


def test_aufs_bookkeeping_is_left_out(folder: Path) -> None:
    unpack(directory(b".wh..wh.plnk") + file(b".wh..wh.aufs", b"data") + file(b"a", b"x") + END, folder)
    assert listing(folder) == {"a": "f x"}


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh.", b"d/.wh.."])
def test_whiteouts_of_nothing_or_the_parent_are_refused(folder: Path, name: bytes) -> None:
    with pytest.raises(TarError, match=r"whiteout|leaves"):
        unpack(directory(b"d") + file(name) + END, folder)
    assert_outside_is_untouched(folder)


ESCAPES = {
    "dotdot": file(b"../outside/new", b"x"),
    "dotdot inside": file(b"a/../../outside/new", b"x"),
    "dotdot folder": directory(b".."),
    "dotdot at the end": file(b"a/..", b"x"),
    "absolute": file(b"/../outside/new", b"x"),
    "long dotdot": pax(record(b"path", b"../outside/new")) + file(b"x", b"x"),
    "gnu dotdot": header(b"L", kind=b"L", size=15) + pad(b"../outside/new\0") + file(b"x", b"x"),
    "link to parent": symlink(b"l", b"../outside") + file(b"l/canary", b"dead"),
    "link to absolute": symlink(b"l", b"/OUTSIDE") + file(b"l/canary", b"dead"),
    "link chain": symlink(b"a", b"..") + symlink(b"b", b"a/..") + symlink(b"c", b"b/outside")
    + file(b"c/canary", b"x"),
    "link then whiteout": symlink(b"l", b"../outside") + file(b"l/.wh.canary"),
    "link then opaque": symlink(b"l", b"../outside") + file(b"l/.wh..wh..opq"),
    "whiteout through link chain": symlink(b"a", b"..") + symlink(b"l", b"a/outside") + file(b"l/.wh.canary"),
    "hardlink out": hardlink(b"h", b"../outside/canary") + file(b"h", b"dead"),
    "hardlink absolute": hardlink(b"h", b"/OUTSIDE/canary"),
    "hardlink through link": symlink(b"l", b"../outside") + hardlink(b"h", b"l/canary"),
    "hardlink to link then write": symlink(b"l", b"../outside/canary") + hardlink(b"h", b"l")
    + file(b"h", b"dead"),
    "write to link": symlink(b"l", b"../outside/canary") + file(b"l", b"dead"),
    "folder over link": symlink(b"l", b"../outside") + directory(b"l") + file(b"l/canary", b"x"),
    "device over link": symlink(b"l", b"../outside/canary") + header(b"l", kind=b"6"),
    "times through link": symlink(b"l", b"../outside/canary")
    + header(b"l", kind=b"2", link=b"x", mtime=b"00000000001\0"),
    "swap after folder": directory(b"d") + directory(b"d/e") + symlink(b"d/e", b"../../outside")
    + file(b"d/e/canary", b"dead"),
    "swap parent": directory(b"d") + file(b"d/f", b"1") + symlink(b"d", b"../outside")
    + file(b"d/canary", b"dead"),
    "link loop": symlink(b"a", b"b") + symlink(b"b", b"a") + file(b"a/x", b"x"),
    "link to itself": symlink(b"a", b"a") + file(b"a/x", b"x"),
    "dangling link": symlink(b"a", b"nowhere") + file(b"a/x", b"x"),
    "root is a file": file(b"./", b"x"),
    "root is a link": symlink(b".", b"../outside"),
    "file as folder": file(b"a", b"x") + file(b"a/b", b"x"),
    "nul in name": pax(record(b"path", b"a\0b")) + file(b"x", b"x"),
    "name too long": pax(record(b"path", b"n" * 300)) + file(b"x", b"x"),
    "path too long": pax(record(b"path", b"n/" * 3000 + b"x")) + file(b"x", b"x"),
    "link too long": pax(record(b"linkpath", b"n/" * 5000)) + symlink(b"x", b"x"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ESCAPES)
def test_nothing_is_written_outside(folder: Path, attack: str) -> None:
    outside = str(folder.parent / "outside").encode()
    before = os.stat(folder.parent / "outside" / "canary")
    data = (
        ESCAPES[attack].replace(b"/OUTSIDE", outside[:100])
        if b"/OUTSIDE" in ESCAPES[attack]
        else ESCAPES[attack]
    )
    try:
        unpack(data + END, folder)
    except (TarError, TreeError):
        pass
    except OSError as exc:
        assert exc.errno
    assert_outside_is_untouched(folder)
    after = os.stat(folder.parent / "outside" / "canary")
    assert (after.st_mtime_ns, after.st_nlink, after.st_ino) == (
        before.st_mtime_ns,
        before.st_nlink,
        before.st_ino,
    )


def test_links_of_the_layer_are_followed_inside_it(folder: Path) -> None:
    data = directory(b"usr") + directory(b"usr/lib") + symlink(b"lib", b"usr/lib") + file(b"lib/a", b"1")
    data += (
        symlink(b"abs", b"/usr/../usr/lib")
        + file(b"abs/b", b"2")
        + symlink(b"up", b"../../usr")
        + file(b"up/c", b"3")
    )
    unpack(data + END, folder)
    found = listing(folder)
    assert (found["usr/lib/a"], found["usr/lib/b"], found["usr/c"]) == ("f 1", "f 2", "f 3")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (hardlink(b"a", b"missing"), "lacks"),
        (directory(b"d") + hardlink(b"a", b"d"), "can't be linked"),
        (file(b"a", b"x" * 600)[:700], "truncated"),
        (file(b"a", b"x" * 600)[:512], "truncated"),
        (header(b"a")[:300], "truncated"),
        (header(b"a", size=b"77777777777\0"), "truncated"),
        (header(b"a", size=b"\xff" * 12), "negative"),
        (header(b"a", size=b"\x80" + b"\x7f" * 11), "truncated"),
        (header(b"a", size=b"-0000000001\0"), "bad number"),
        (header(b"a", size=b"0x123456789\0"), "bad number"),
        (header(b"a", size=b"1_000000000\0"), "bad number"),
        (header(b"a", uid=b"\xff" * 8), "owner"),
        (pax(record(b"uid", b"4294967295")) + header(b"a"), "owner"),
        (pax(record(b"uid", b"-1")) + header(b"a"), "bad number"),
        (pax(record(b"size", b"99999999999999999999")) + header(b"a"), "bad number"),
        (pax(record(b"mtime", b"nan")) + header(b"a"), "bad time"),
        (pax(b"99999 a=b\n") + header(b"a"), "malformed"),
        (pax(b"5 a=b\n") + header(b"a"), "malformed"),
        (pax(b"x a=b\n") + header(b"a"), "no length"),
        (pax(b"6 a=b\n6 a\n") + header(b"a"), "malformed"),
        (header(b"x", kind=b"x", size=b"77777777777\0"), "extension header"),
        (header(b"x", kind=b"L", size=b"00010000000\0"), "extension header"),
        (pax(record(b"path", b"x")), "extension"),
        (header(b"s", kind=b"S"), "sparse"),
        (pax(record(b"GNU.sparse.major", b"1")) + header(b"s"), "sparse"),
        (header(b"v", kind=b"V"), "type"),
        (header(b"d", kind=b"3", major=b"7777777\0"), "device number"),
        (b"x" * 512, "bad number"),
        (header(b"a")[:100] + b"9" + header(b"a")[101:], "checksum"),
        (symlink(b"a", b""), "to nothing"),
        (pax(b"".join(record(b"SCHILY.xattr.user.%d" % i, b"") for i in range(300))) + header(b"a"),
         "attributes"),
        (pax(record(b"LIBARCHIVE.xattr.user.a", b"!")) + header(b"a"), "base64"),
        (pax(record(b"SCHILY.xattr.", b"x")) + header(b"a"), "attribute name"),
    ],
)  # fmt: skip
def test_malformed_archives_are_clear_errors(folder: Path, data: bytes, part: str) -> None:
    with pytest.raises(TarError, match=part):
        unpack(data + (END if len(data) % 512 == 0 and part not in ("truncated",) else b""), folder)


def test_what_an_image_may_not_set_is_left_out(folder: Path) -> None:
    records = b"".join(
        record(b"SCHILY.xattr." + name, b"y")
        for name in (
            b"trusted.overlay.opaque",
            b"user.overlay.opaque",
            b"trusted.x",
            b"security.selinux",
            b"user.ok",
        )
    )
    unpack(pax(records) + directory(b"d") + pax(records) + file(b"f", b"x") + END, folder)
    for name in ("d", "f"):
        assert set(os.listxattr(folder / name)) <= {"user.ok"}


def test_libarchive_attributes(folder: Path) -> None:
    unpack(pax(record(b"LIBARCHIVE.xattr.user.a%2fb", b"aGk")) + file(b"f", b"x") + END, folder)
    if os.listxattr(folder / "f"):  # the file system of the temporary folder may have none
        assert os.getxattr(folder / "f", "user.a/b") == b"hi"


def test_sizes_of_members_without_data_are_ignored(folder: Path) -> None:
    data = header(b"l", kind=b"2", link=b"x", size=1024) + file(b"a", b"1")
    data += header(b"d", kind=b"5", size=b"00000001000\0") + file(b"b", b"2") + END
    unpack(data, folder)
    assert listing(folder) == {"l": "l x", "a": "f 1", "d": "d", "b": "f 2"}


def test_what_follows_the_end_is_not_unpacked(folder: Path) -> None:
    unpack(file(b"a", b"1") + END + file(b"smuggled", b"2") + END, folder)
    assert listing(folder) == {"a": "f 1"}


def test_global_pax_headers_change_nothing(folder: Path) -> None:
    unpack(pax(record(b"path", b"evil"), b"g") + file(b"a", b"1") + END, folder)
    assert listing(folder) == {"a": "f 1"}


def test_old_and_gnu_headers(folder: Path) -> None:
    v7 = file(b"v7", b"1", magic=bytes(8), kind=b"\0") + header(b"dir/", magic=bytes(8), kind=b"\0")
    gnu = file(b"g", b"2", magic=b"ustar  \0", prefix=b"not-a-prefix")
    split = file(b"name", b"3", prefix=b"some/prefix")
    contiguous = file(b"c", b"4", kind=b"7")
    unpack(v7 + gnu + split + contiguous + END, folder)
    found = listing(folder)
    assert found == {
        "v7": "f 1",
        "dir": "d",
        "g": "f 2",
        "some": "d",
        "some/prefix": "d",
        "some/prefix/name": "f 3",
        "c": "f 4",
    }


def test_times_out_of_range_become_the_epoch(folder: Path) -> None:
    data = pax(record(b"mtime", b"99999999999999999")) + file(b"a", b"")
    data += (
        file(b"b", b"", mtime=b"\x80" + b"\xff" * 11) + pax(record(b"mtime", b"-1.5")) + file(b"c", b"") + END
    )
    unpack(data, folder)
    assert [os.stat(folder / name).st_mtime_ns for name in "abc"] == [0, 0, -1_500_000_000]


def test_deep_nesting(folder: Path) -> None:
    deep = b"/".join([b"d"] * 1500)
    data = b"".join(directory(b"") for _ in range(0))
    data += pax(record(b"path", deep + b"/f")) + file(b"x", b"1") + file(b"d", b"flat") + END
    unpack(data, folder)
    assert listing(folder) == {"d": "f flat"}


def test_random_bytes_and_damaged_archives_are_clean_errors(folder: Path) -> None:
    source = random.Random(4)
    good = (
        pax(record(b"mtime", b"1.5") + record(b"SCHILY.xattr.user.a", b"b"))
        + directory(b"d")
        + file(b"d/f", b"x" * 700)
    )
    good += (
        symlink(b"d/l", b"../d") + hardlink(b"h", b"d/f") + file(b"d/l/.wh.g") + header(b"p", kind=b"6") + END
    )
    for turn in range(1500):
        data = bytearray(good if turn % 4 else source.randbytes(2048))
        for _ in range(source.randrange(1, 12)):
            data[source.randrange(len(data))] = source.choice(
                (0, 0x2F, 0x2E, 0x80, 0xFF, source.randrange(256))
            )
        if turn % 4 != 1:  # with a right checksum the damage gets further in
            for start in range(0, len(data), 512):
                block = bytes(data[start : start + 512])
                if block[257:262] == b"ustar":
                    total = sum(block) - sum(block[148:156]) + 256
                    data[start + 148 : start + 156] = b"%06o\0 " % total
        try:
            unpack(bytes(data), folder)
        except (TarError, TreeError, OSError):
            pass
        assert_outside_is_untouched(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b"a", b"a"), (b"./a", b"a"), (b"/a/b/", b"a/b"), (b"a//b", b"a/b"), (b"a/./b", b"a/b"), (b".", b""),
     (b"", b""), (b"./", b""), (b"a..b", b"a..b"), (b"...", b"..."), (b"a./b", b"a./b")],
)  # fmt: skip
def test_clean(name: bytes, expected: bytes) -> None:
    assert clean(name) == expected


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/..", b"a/../b", b"/..", b"./..", b"a\0"])
def test_clean_refuses(name: bytes) -> None:
    with pytest.raises(TarError):
        clean(name)

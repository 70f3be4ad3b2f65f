"""`cp`: what leaves a container is not trusted."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from minikubelet.cli.commands.cp import _split
from minikubelet.cli.copy_files import pack, unpack
from minikubelet.cli.options import CommandError


def archive(*members: tuple[str, bytes | tarfile.TarInfo]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    stream.seek(0)
    return stream


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def test_there_and_back(tmp_path: Path) -> None:
    source = tmp_path / "site"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/page").write_bytes(b"x" * 3_000_000)
    (source / "run").write_text("#!")
    (source / "run").chmod(0o750)
    os.utime(source / "run", (1000, 2000))
    stream = io.BytesIO()
    pack(str(source), "copy", stream)
    stream.seek(0)
    assert unpack(stream, "copy", str(tmp_path / "back")) == 5
    assert (tmp_path / "back/deep/er/page").read_bytes() == b"x" * 3_000_000
    status = (tmp_path / "back/run").stat()
    assert (status.st_mode & 0o777, int(status.st_mtime)) == (0o750, 2000)


def test_a_single_file_gets_the_destinations_name(tmp_path: Path) -> None:
    assert unpack(archive(("etc/hosts", b"one")), "/etc/hosts", str(tmp_path / "mine")) == 1
    assert (tmp_path / "mine").read_bytes() == b"one"


@pytest.mark.parametrize("name", ["../evil", "src/../../evil", "/etc/evil", "elsewhere", "srcmore/evil"])
def test_nothing_lands_outside(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    unpack(archive((name, b"evil"), ("src/good", b"good")), "src", str(tmp_path / "in/src"))
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["in", "in/src", "in/src/good"]
    assert f"{name!r} is not below 'src': skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_special_files_are_skipped(
    kind: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("safe")
    stream = archive(("src/x", special(kind, str(canary))), ("src/x/y", b"evil"), ("src/x", b"late"))
    with pytest.raises(OSError, match="src/x"):  # by then a folder of that name is there
        unpack(stream, "src", str(tmp_path / "src"))
    assert canary.read_text() == "safe"
    assert not (tmp_path / "src/x").is_symlink()
    assert "skipped" in capsys.readouterr().err


def test_links_that_are_here_are_not_followed(tmp_path: Path) -> None:
    canary, out = tmp_path / "canary", tmp_path / "outside"
    canary.write_text("safe")
    out.mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src/file").symlink_to(canary)
    (tmp_path / "src/folder").symlink_to(out)
    for name in ("src/file", "src/folder/evil"):
        with pytest.raises(OSError, match=name):
            unpack(archive((name, b"evil")), "src", str(tmp_path / "src"))
    assert canary.read_text() == "safe" and not list(out.iterdir())


def test_half_an_archive_is_an_error(tmp_path: Path) -> None:
    whole = archive(("src", b"x" * 100_000)).getvalue()
    with pytest.raises((CommandError, tarfile.ReadError, OSError)):
        unpack(io.BytesIO(whole[:50_000]), "src", str(tmp_path / "src"))
    assert unpack(io.BytesIO(b""), "src", str(tmp_path / "src2")) == 0


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("web:/srv", ("web", "/srv")),
        ("ns/web:/srv:x", ("ns/web", "/srv:x")),
        ("web:", ("web", "")),
        ("./web:/srv", None),
        ("/web:/srv", None),
        ("a/b/c:d", None),
        ("file", None),
    ],
)
def test_pod_or_path(word: str, expected: tuple[str, str] | None) -> None:
    assert _split(word) == expected

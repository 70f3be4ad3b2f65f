"""The atomic writer: what a container sees of a change, and what is left of an attempt that was cut off."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from minikubelet.kubelet.volumes import atomic_writer
from minikubelet.kubelet.volumes.atomic_writer import FileContent, Payload


def files(**contents: str) -> Payload:
    """``a__b="x"`` is the file ``a/b``."""
    return {name.replace("__", "/"): FileContent(text.encode()) for name, text in contents.items()}


def seen(folder: Path) -> dict[str, str]:
    """Files as a container would list them: hidden entries left out, links followed."""
    found = {}
    for base, _, names in os.walk(folder, followlinks=True):
        if "/.." not in base.removeprefix(str(folder)):
            for name in names:
                path = Path(base, name)
                found[str(path.relative_to(folder))] = path.read_text()
    return {name: text for name, text in found.items() if not name.startswith("..")}


def test_first_write(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        payload = {"key": FileContent(b"1", 0o400), "app/deep/conf": FileContent(b"2", 0o666)}
        assert atomic_writer.write(str(tmp_path), payload)
    finally:
        os.umask(old)
    assert seen(tmp_path) == {"key": "1", "app/deep/conf": "2"}
    assert os.readlink(tmp_path / "key") == "..data/key"
    assert os.readlink(tmp_path / "app") == "..data/app"
    stamped = tmp_path / os.readlink(tmp_path / "..data")
    assert stamped.name.startswith("..2") and stat.S_IMODE(stamped.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o400
    assert stat.S_IMODE((tmp_path / "app/deep/conf").stat().st_mode) == 0o666
    assert stat.S_IMODE((tmp_path / "app/deep").stat().st_mode) == 0o755


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    atomic_writer.write(str(tmp_path), files(a="1", b__c="2"))
    before = os.readlink(tmp_path / "..data")
    (tmp_path / "a").unlink()
    assert not atomic_writer.write(str(tmp_path), files(a="1", b__c="2"))
    assert os.readlink(tmp_path / "..data") == before
    assert seen(tmp_path) == {"a": "1", "b/c": "2"}, "a link that was lost is made again"


@pytest.mark.parametrize(
    "later",
    [
        files(a="2", b__c="2"),
        files(a="1"),
        files(b__c="2"),
        files(a="1", b__c="2", d="3"),
        files(a="1", b__other="2"),
        files(a__inside="1", b="2"),
        files(),
    ],
)
def test_changes(tmp_path: Path, later: Payload) -> None:
    atomic_writer.write(str(tmp_path), files(a="1", b__c="2"))
    before = os.readlink(tmp_path / "..data")
    assert atomic_writer.write(str(tmp_path), later)
    assert seen(tmp_path) == {path: content.data.decode() for path, content in later.items()}
    assert not (tmp_path / before).exists()
    names = {path.split("/")[0] for path in later}
    assert set(os.listdir(tmp_path)) == names | {"..data", os.readlink(tmp_path / "..data")}


def test_who_has_a_file_open_keeps_the_old_content(tmp_path: Path) -> None:
    atomic_writer.write(str(tmp_path), files(a="old"))
    with (tmp_path / "a").open() as file:
        atomic_writer.write(str(tmp_path), files(a="new"))
        assert file.read() == "old"
    assert (tmp_path / "a").read_text() == "new"


def test_owners_are_set_before_anything_shows(tmp_path: Path) -> None:
    shown = []

    def finish() -> None:
        (stamped,) = (each for each in os.listdir(tmp_path) if each.startswith("..2"))
        shown.append(((tmp_path / stamped / "a").read_text(), (tmp_path / "a").exists()))

    atomic_writer.write(str(tmp_path), files(a="1"), finish)
    assert shown == [("1", False)]


def test_what_fails_leaves_the_old_content(tmp_path: Path) -> None:
    atomic_writer.write(str(tmp_path), files(a="1"))
    before = sorted(os.listdir(tmp_path))

    def finish() -> None:
        raise PermissionError("chown")

    with pytest.raises(PermissionError):
        atomic_writer.write(str(tmp_path), files(a="2"), finish)
    assert sorted(os.listdir(tmp_path)) == before and seen(tmp_path) == {"a": "1"}


def test_an_attempt_that_was_cut_off_is_cleared_away(tmp_path: Path) -> None:
    atomic_writer.write(str(tmp_path), files(a="1"))
    (tmp_path / "..2020_01_01_00_00_00.5").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..2020_01_01_00_00_00.5")
    atomic_writer.write(str(tmp_path), files(a="2"))
    assert seen(tmp_path) == {"a": "2"}
    assert sorted(os.listdir(tmp_path)) == sorted(["a", "..data", os.readlink(tmp_path / "..data")])
    (tmp_path / "..data").unlink()
    (tmp_path / "..data").symlink_to("..2020_gone")
    assert atomic_writer.write(str(tmp_path), files(a="2")) and seen(tmp_path) == {"a": "2"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "must not be empty"),
        ("/etc/passwd", "must be relative path"),
        ("../x", "must not contain '..'"),
        ("a/../b", "must not contain '..'"),
        ("..data", "must not start with '..'"),
        ("x" * 256, "less than or equal to 255"),
        ("x/" * 2049, "less than or equal to 4096"),
    ],
)
def test_paths_that_are_refused(tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        atomic_writer.write(str(tmp_path), {path: FileContent(b"")})
    assert not os.listdir(tmp_path)


def test_content_never_shows() -> None:
    assert "hidden" not in repr(FileContent(b"hidden"))

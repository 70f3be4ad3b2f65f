"""Files put in the place of others."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from minikubelet.linux import renames


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    renames.put_in_place(str(tmp_path / "new"), str(tmp_path / "old"))
    assert (tmp_path / "old").read_text() == "new"


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    test_a_file_takes_the_place_of_another(tmp_path)
    assert (tmp_path / "new").read_text() == "old"


def test_there_may_be_none_to_replace(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    renames.put_in_place(str(tmp_path / "new"), str(tmp_path / "first"))
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"first": "new"}


def test_where_files_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(result: int, what: str) -> int:
        raise OSError(errno.EINVAL, "Invalid argument", what)

    monkeypatch.setattr(renames, "check", refused)
    monkeypatch.setattr(renames, "_renameat2", lambda *arguments: -1)
    test_a_file_takes_the_place_of_another(tmp_path)


def test_other_failures_are_told(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        renames.put_in_place(str(tmp_path / "new"), str(tmp_path / "file" / "below"))
    assert (tmp_path / "new").exists()

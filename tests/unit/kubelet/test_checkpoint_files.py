"""Checkpoints: whole or as they were, in two files that take turns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikubelet.kubelet import podfiles


def write(path: Path, text: str) -> None:
    podfiles.write_checkpoint(str(path), text.encode())


def test_the_folder_is_made_if_need_be(tmp_path: Path) -> None:
    path = tmp_path / "pods" / "uid" / "checkpoint.json"
    write(path, "one")
    assert path.read_text() == "one"


def test_shorter_and_longer_ones_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    for text in ("some text", "", "a much longer text" * 500, "short", "some text"):
        write(path, text)
        assert path.read_text() == text


def test_no_more_than_two_files_are_ever_made(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    write(path, "0")
    write(path, "1")
    files = {each.name: each.stat().st_ino for each in tmp_path.iterdir()}
    for number in range(2, 9):
        write(path, str(number))
    assert len(files) == 2
    assert {each.stat().st_ino for each in tmp_path.iterdir()} == set(files.values())


def test_what_is_cut_off_or_fails_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.json"
    write(path, "0")
    write(path, "good")

    def cut_off(fd: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", cut_off)
        with pytest.raises(OSError, match="No space"):
            write(path, "half-written")
        assert path.read_text() == "good"
    write(path, "next")
    assert path.read_text() == "next"

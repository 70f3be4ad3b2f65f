"""A monitor's notes on a full disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from minikubelet.spawner.notes import note_exception, notes


def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    stream = notes(fd)
    monkeypatch.setattr(sys, "stderr", stream)
    print("lost", file=stream)
    try:
        raise OSError("something")
    except OSError as exc:
        note_exception(exc)
    stream.flush()
    os.close(fd)


def test_else_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(tmp_path / "monitor.log", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sys, "stderr", notes(fd))
    print("kept \udcff", file=sys.stderr)
    try:
        raise OSError("something")
    except OSError as exc:
        note_exception(exc)
    os.close(fd)
    kept = (tmp_path / "monitor.log").read_text()
    assert kept.startswith("kept \\udcff\nTraceback (most recent call last):\n")
    assert kept.endswith("\nOSError: something\n")

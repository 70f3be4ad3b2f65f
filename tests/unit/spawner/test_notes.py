"""A monitor's notes on a full disk."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from minikubelet.spawner.notes import notes


def test_a_full_disk_is_no_error() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    stream = notes(fd)
    print("lost", file=stream)
    try:
        raise OSError("something")
    except OSError:
        traceback.print_exc(file=stream)
    stream.flush()
    os.close(fd)


def test_else_they_are_kept(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "monitor.log", os.O_WRONLY | os.O_CREAT)
    print("kept \udcff", file=notes(fd))
    os.close(fd)
    assert (tmp_path / "monitor.log").read_text() == "kept \\udcff\n"

"""Files of variables: KEP-3721's strict subset of the shell's assignments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikubelet.kubelet.env_files import find_variable, read_variable

TEXT = "# made\n\n  A='one two'\nB='$A \\n' # literally\nC='1\n2\n'\nD= 'x'\nE=''\nF='é'\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", "one two"), ("B", "$A \\n"), ("C", "1\n2\n"), ("D", ""), ("E", ""), ("F", "é"), ("G", "")],
)
def test_values(name: str, value: str) -> None:
    assert find_variable(TEXT, name) == value


@pytest.mark.parametrize("text", ["A", "A =''", "=''", "A=b", 'A="b"', "A='", "A='b", "A='b'c", "A='b\n\n"])
def test_what_is_no_such_file(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        find_variable(text, "X")


def test_files_stay_in_their_volume(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("A='secret'")
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "env").write_text("A='mine'")
    (volume / "link").symlink_to("env")
    (volume / "out").symlink_to(outside)
    (volume / "up").symlink_to("../outside")
    os.mkfifo(volume / "fifo")
    (volume / "large").write_bytes(b"#" * (2 << 20))
    assert read_variable(str(volume), "env", "A") == read_variable(str(volume), "link", "A") == "mine"
    for bad in ("out", "up", "../outside", "fifo", "large", "none"):
        with pytest.raises(OSError):
            read_variable(str(volume), bad, "A")

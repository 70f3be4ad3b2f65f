"""Pull progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from minikubelet.cli.progress import Layer, Progress, bar

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_bars() -> None:
    name = "111111111111"
    assert bar(name, Layer("waiting")) == "111111111111  Waiting"
    assert bar(name, Layer("downloading", 5_000_000, 10_000_000)) == (
        "111111111111  Downloading  [===============>              ]  5MB/10MB"
    )
    assert bar(name, Layer("extracting", 10, 10)) == (
        "111111111111  Extracting   [==============================]  10B/10B"
    )
    assert bar(name, Layer("downloading", 1234, 0)) == "111111111111  Downloading  1.23kB"
    assert bar(name, Layer("done", 10, 10)) == "111111111111  Done"


def test_plain_lines_tell_each_change_once() -> None:
    output = io.StringIO()
    progress = Progress(output)
    for layer in (
        Layer("waiting"),
        Layer("downloading", 0, 1000),
        Layer("downloading", 500, 1000),
        Layer("extracting", 0, 1000),
        Layer("done", 1000, 1000),
    ):
        progress.update(ONE, layer)
    progress.update(TWO, Layer("exists"))
    progress.finish()
    assert output.getvalue().splitlines() == [
        "111111111111: Downloading (1kB)",
        "111111111111: Extracting",
        "111111111111: Done (1kB)",
        "222222222222: Already exists",
    ]


def test_a_terminal_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    output = io.StringIO()
    progress = Progress(output, bars=True)
    progress.update(ONE, Layer("waiting"))
    progress.update(TWO, Layer("waiting"))
    progress.update(ONE, Layer("done"))
    last = output.getvalue().split("\x1b[J")[-2]
    assert last == "\x1b[2A\r\x1b[2K111111111111  Done\n\r\x1b[2K222222222222  Waiting\n"


def test_more_layers_than_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "6")
    output = io.StringIO()
    progress = Progress(output, bars=True)
    for number in range(20):
        progress.update(f"sha256:{number:064d}", Layer("done" if number < 18 else "downloading", 1, 2))
    last = output.getvalue().split("\x1b[J")[-2].split("\n")
    assert len(last) <= 6
    assert "Downloading" in last[0] and "Downloading" in last[1]
    assert "... and 16 more" in last[-2]

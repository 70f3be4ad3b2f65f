"""What the benchmark makes of a log: a rate by its own time stamps, and no other record than it asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.contenders import BenchError
from tests.bench.streams import LINE, log_rate

RECORD = b"2026-11-22T10:00:%02d.%09dZ stdout F " + LINE.encode() + b"\n"


def rate(path: Path) -> float:
    fd = os.open(path, os.O_RDONLY)
    try:
        return log_rate(fd)
    finally:
        os.close(fd)


def test_lines_by_the_time_between_the_first_and_the_last(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(RECORD % (number // 1000, number % 1000 * 1_000_000) for number in range(5001)))
    assert rate(log) == pytest.approx(5001 / 5.0)


def test_more_than_a_read_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(RECORD % (1, 0) * 200_000 + RECORD % (3, 500_000_000))
    assert rate(log) == pytest.approx(200_001 / 2.5)


def test_the_piece_that_was_being_written_at_the_end_is_no_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    piece = RECORD % (3, 0)
    log.write_bytes(RECORD % (1, 0) * 10 + piece.replace(b" F ", b" P ").replace(b"x\n", b"\n"))
    assert rate(log) == pytest.approx(10 / 2.0)


@pytest.mark.parametrize("odd", [b"garbage\n", b"2026-11-22T10:00:02Z stdout F short\n"])
def test_other_records_are_an_error(tmp_path: Path, odd: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(RECORD % (1, 0) * 10 + odd + RECORD % (3, 0))
    with pytest.raises(BenchError, match="other records"):
        rate(log)

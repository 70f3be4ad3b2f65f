"""Log framing: P and F at the limits, whatever the chunks."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from minikubelet.spawner.crilog import MAX_LINE, Framer, LogFile, Stamps

STAMP = b"2026-01-02T03:04:05.000000006Z"


def parse(records: bytes) -> list[tuple[bytes, bytes]]:
    """(tag, content) of each record."""
    found = []
    for line in records.split(b"\n")[:-1]:
        stamp, stream, tag, content = line.split(b" ", 3)
        assert (stamp, stream) == (STAMP, b"stdout")
        found.append((tag, content))
    return found


def frame(*chunks: bytes) -> list[tuple[bytes, bytes]]:
    framer = Framer(b"stdout")
    records = b"".join(framer.feed(chunk, STAMP) for chunk in chunks)
    return parse(records + framer.finish(STAMP))


def rejoin(records: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(content + (b"\n" if tag == b"F" else b"") for tag, content in records)


def test_lines() -> None:
    assert frame(b"one\ntwo\n") == [(b"F", b"one"), (b"F", b"two")]
    assert frame(b"\n\n") == [(b"F", b""), (b"F", b"")]
    assert frame(b"on", b"e\ntw", b"o") == [(b"F", b"one"), (b"P", b"two")]
    assert frame(b"") == []


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        (16383, [("F", 16383)]),
        (16384, [("F", 16384)]),
        (16385, [("P", 16384), ("F", 1)]),
        (32768, [("P", 16384), ("F", 16384)]),
        (32769, [("P", 16384), ("P", 16384), ("F", 1)]),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 20, 65536, 16384, 16385, 1000])
def test_long_lines(length: int, sizes: list[tuple[str, int]], chunk: int) -> None:
    data = b"x" * length + b"\n" + b"next\n"
    records = frame(*(data[i : i + chunk] for i in range(0, len(data), chunk)))
    assert [(tag.decode(), len(content)) for tag, content in records] == [*sizes, ("F", 4)]


def test_an_unfinished_long_line_ends_partial() -> None:
    assert [(tag, len(text)) for tag, text in frame(b"x" * 16384)] == [(b"P", 16384)]
    assert [(tag, len(text)) for tag, text in frame(b"x" * 16385)] == [(b"P", 16384), (b"P", 1)]


def test_random_output_rejoins_byte_exact() -> None:
    generator = random.Random(7)
    for _ in range(40):
        lengths = [generator.choice((0, 1, 50, 16383, 16384, 16385, 40000)) for _ in range(10)]
        data = b"\n".join(generator.randbytes(length).replace(b"\n", b"\0") for length in lengths)
        chunks = []
        position = 0
        while position < len(data):
            size = generator.choice((1, 100, 4096, 16384, 65536))
            chunks.append(data[position : position + size])
            position += size
        records = frame(*chunks)
        assert rejoin(records) == data
        assert max(len(content) for _, content in records) <= MAX_LINE


def test_memory_is_bounded() -> None:
    framer = Framer(b"stdout")
    for _ in range(100):
        framer.feed(b"x" * 65536, STAMP)
    assert len(framer._rest) <= MAX_LINE


def test_stamps_are_rfc3339_with_nanoseconds() -> None:
    stamps = Stamps()
    first, second = stamps.now(), stamps.now()
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", first)
    assert first <= second


def test_log_file_appends_and_reopens(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(str(path))
    log.write(b"a\n", STAMP)
    path.rename(tmp_path / "old")
    log.write(b"b\n", STAMP)
    log.reopen()
    log.write(b"c\n", STAMP)
    log.close()
    log.write(b"dropped\n", STAMP)
    assert (tmp_path / "old").read_bytes() == b"a\nb\n"
    assert path.read_bytes() == b"c\n"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_only_regular_files_are_logs(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.log"
    if kind == "link":
        path.symlink_to(tmp_path / "target")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError):
        LogFile(str(path))
    assert not (tmp_path / "target").exists()


def test_no_link_is_followed_below_the_folder_of_the_pods_logs(tmp_path: Path) -> None:
    """CVE-2017-1002101 and its like: the folder of the log is exchanged for a link before it is reopened."""
    pods, elsewhere = tmp_path / "pods", tmp_path / "elsewhere"
    for folder in (pods / "real" / "app", elsewhere):
        folder.mkdir(parents=True)
    (pods / "pod").symlink_to("real")  # above or at the pod's folder links are the host's own
    path = pods / "pod" / "app" / "0.log"
    log = LogFile(str(path), str(pods / "pod"))
    (pods / "real" / "app").rename(pods / "real" / "old")
    (pods / "real" / "app").symlink_to(elsewhere)
    with pytest.raises(OSError):
        log.reopen()
    log.write(b"kept\n", STAMP)
    assert (pods / "real" / "old" / "0.log").read_bytes() == b"kept\n"
    assert list(elsewhere.iterdir()) == []


def test_a_failed_reopen_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(str(path))
    path.rename(tmp_path / "old")
    path.mkdir()
    with pytest.raises(OSError):
        log.reopen()
    log.write(b"kept\n", STAMP)
    assert (tmp_path / "old").read_bytes() == b"kept\n"


def test_records_that_do_not_fit_are_dropped_whole_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.log"
    log = LogFile(str(path))
    log.write(b"before\n", STAMP)
    real = os.write
    budget = [4]

    def write(fd: int, data: bytes) -> int:
        if budget[0] <= 0:
            raise OSError(28, "No space left on device")
        count = real(fd, bytes(data)[: budget[0]])
        budget[0] -= count
        return count

    monkeypatch.setattr(os, "write", write)
    log.write(b"half of this\n", STAMP)
    log.write(b"all of this\n", STAMP)
    monkeypatch.undo()
    log.write(b"after\n", STAMP)
    lines = path.read_bytes().split(b"\n")
    assert (lines[0], lines[2], lines[3:]) == (b"before", b"after", [b""])
    assert lines[1] == STAMP + b" stderr F minikubelet: 25 bytes of log were lost (no space or I/O error)"
    assert "No space left" in capfd.readouterr().err

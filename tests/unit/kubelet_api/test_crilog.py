"""CRI logs: parsing, tails, following through rotation."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from minikubelet.kubelet.api import crilog, follow
from minikubelet.kubelet.api.crilog import LogOptions, Renderer
from minikubelet.kubelet.api.follow import Wakeup, read_log

T = "2026-01-02T03:04:05.123456789Z"


def record(text: str, tag: str = "F", stream: str = "stdout", time: str = T) -> str:
    return f"{time} {stream} {tag} {text}\n"


def render(text: str, step: int = 10**9, **options: object) -> str:
    renderer = Renderer(LogOptions(**options))  # type: ignore[arg-type]
    data = text.encode()
    return b"".join(renderer.feed(data[at : at + step]) for at in range(0, len(data), step)).decode()


@pytest.mark.parametrize("step", [1, 7, 10**9])
def test_records_rejoin_to_lines(step: int) -> None:
    text = record("one") + record("tw", "P") + record("o", "F") + record("") + record(" a  b ")
    assert render(text, step) == "one\ntwo\n\n a  b \n"


def test_pieces_of_two_streams_keep_their_own_time_stamps() -> None:
    text = record("o1", "P") + record("e1", "P", "stderr") + record("o2") + record("e2", "F", "stderr")
    assert render(text, timestamps=True) == f"{T} o1{T} e1o2\ne2\n"
    assert render(text, stream="stderr") == "e1e2\n"


def test_times_have_all_their_digits() -> None:
    for given, shown in (
        ("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.500000000Z"),
        ("2026-01-02T03:04:05+01:00", "2026-01-02T03:04:05.000000000+01:00"),
        ("2026-01-02T03:04:05.123456789-02:30", "2026-01-02T03:04:05.123456789-02:30"),
        (T, T),
    ):
        assert render(record("x", time=given), timestamps=True) == f"{shown} x\n"


def test_garbage_is_left_out_and_an_unfinished_record_waits() -> None:
    assert render("garbage\n" + record("x") + "\n" + f"{T} stdin F no\n" + f"{T} stdout F torn") == "x\n"


def test_since_and_limit() -> None:
    text = record("old") + record("new", time="2026-01-02T04:04:06.5+01:00")
    since = 1767323046.0  # 2026-01-02T03:04:06Z
    assert render(text, since=since) == "new\n"
    assert render(text, limit_bytes=5) == "old\nn"


LINES = record("1") + record("2a", "P") + record("2b", "P") + record("2c") + record("3")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, ""), (1, "3\n"), (2, "2a2b2c\n3\n"), (3, "1\n2a2b2c\n3\n"), (9, "1\n2a2b2c\n3\n")],
)
@pytest.mark.parametrize("block", [1, 10, 64, 10**6])
def test_tail_counts_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, expected: str, block: int
) -> None:
    monkeypatch.setattr(crilog, "_BLOCK", block)
    path = tmp_path / "0.log"
    path.write_text(LINES)
    with crilog.open_log(str(path)) as file:
        crilog.seek_tail(file, lines)
        assert render(file.read().decode()) == expected


@pytest.mark.parametrize("block", [5, 10**6])
def test_tail_with_an_unfinished_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(crilog, "_BLOCK", block)
    path = tmp_path / "0.log"
    path.write_text(record("1") + record("2", "P") + record("3", "P"))
    with crilog.open_log(str(path)) as file:
        crilog.seek_tail(file, 1)
        assert render(file.read().decode()) == "23"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("fifo", "link", "."):
        with pytest.raises(OSError):
            crilog.open_log(str(tmp_path / name))


class Follower:
    """Collects what a follower of a log sees."""

    def __init__(self, path: Path, **options: object) -> None:
        self.seen = ""
        self.over = False
        self._wakeup: Wakeup | None = None
        self.task = asyncio.create_task(self._run(path, LogOptions(follow=True, **options)))  # type: ignore[arg-type]

    async def _run(self, path: Path, options: LogOptions) -> None:
        async for piece in read_log(str(path), options, lambda: self.over, self._woken):
            self.seen += piece.decode()

    def _woken(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup

    async def until(self, text: str) -> None:
        async with asyncio.timeout(5):
            while self.seen != text:
                assert text.startswith(self.seen)
                await asyncio.sleep(0.005)

    async def end(self) -> str:
        self.over = True
        assert self._wakeup is not None
        self._wakeup.set()
        await asyncio.wait_for(self.task, 5)
        return self.seen


async def test_following_sees_what_is_appended_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(record("a"))
    follower = Follower(path)
    await follower.until("a\n")
    with path.open("a") as file:
        file.write(record("b")[:-3])
        file.flush()
        await asyncio.sleep(0.02)
        file.write(record("b")[-3:])
    await follower.until("a\nb\n")
    with path.open("a") as file:
        file.write(record("last"))
    assert await follower.end() == "a\nb\nlast\n"


async def test_following_through_rotations_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    expected = "start\n"
    path.write_text(record("start"))
    writer = path.open("a")
    follower = Follower(path)
    await follower.until(expected)
    for number in range(300):
        writer.write(record(str(number)))
        writer.flush()
        expected += f"{number}\n"
        if number % 3 == 0:
            path.rename(f"{path}.2026{number:06d}")
            writer.write(record(f"{number} late"))  # between rename and reopen the old file is still written
            writer.flush()
            expected += f"{number} late\n"
            writer.close()
            writer = path.open("a")
        if number % 50 == 0:
            await asyncio.sleep(0.01)
    writer.close()
    assert await follower.end() == expected


async def test_a_log_that_is_just_being_rotated_is_waited_for(tmp_path: Path) -> None:
    """Between the renaming and the reopening there is none."""
    (tmp_path / "0.log.20260101-000000").write_text(record("before"))
    follower = Follower(tmp_path / "0.log")
    await asyncio.sleep(0.05)
    assert not follower.task.done()
    (tmp_path / "0.log").write_text(record("after"))
    await follower.until("after\n")
    await follower.end()


@pytest.mark.parametrize("folder", [".", "none"])
async def test_a_log_that_is_not_there_is_told_at_once(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_REOPENING", 1000.0)
    follower = Follower(tmp_path / folder / "0.log")
    with pytest.raises(FileNotFoundError):
        await asyncio.wait_for(follower.task, 5)


async def test_limit_ends_following(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(record("abcdef"))
    follower = Follower(path, limit_bytes=3)
    await asyncio.wait_for(follower.task, 5)
    assert follower.seen == "abc"

"""Logs, attach, stdin and terminals of containers."""

from __future__ import annotations

import errno
import os
import re
import select
import time
from pathlib import Path

import pytest

from minikubelet.linux import mounts as kernel
from minikubelet.wire import messages as m
from tests.host.spawner.harness import Connection, Pod, RequestFailed, wait_until

RECORD = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([PF]) (.*)\Z", re.S)


def records(path: Path) -> list[tuple[str, str, bytes]]:
    """(stream, tag, content) of every line; asserts that each is well-formed."""
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        match = RECORD.match(line)
        assert match, line[:200]
        found.append((match[2].decode(), match[3].decode(), match[4]))
    return found


def rejoined(path: Path, stream: str = "stdout") -> bytes:
    """What the container wrote."""
    return b"".join(
        text + (b"\n" if tag == "F" else b"") for name, tag, text in records(path) if name == stream
    )


def attach(pod: Pod, connection: Connection | None = None, **wanted: bool) -> dict[str, int]:
    control = connection or pod.control
    request = m.AttachContainer(id=control.next_id(), container_id="c", **wanted)
    body = control.ask(request, m.Attached)
    return dict(zip(body.fds, control.fds, strict=True))


def read_until(fd: int, text: bytes) -> bytes:
    output = b""
    while text not in output:
        chunk = os.read(fd, 65536)
        assert chunk, output
        output += chunk
    return output


def test_both_streams_are_told_apart(pod: Pod) -> None:
    pod.run("c", "sh", "-c", "echo one; echo two >&2; printf three")
    pod.exit_of("c")
    path = pod.folder / "c.log"
    found = records(path)
    assert [entry for entry in found if entry[0] == "stdout"] == [
        ("stdout", "F", b"one"),
        ("stdout", "P", b"three"),
    ]
    assert [entry for entry in found if entry[0] == "stderr"] == [("stderr", "F", b"two")]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("length", [16383, 16384, 16385, 40000])
def test_long_lines_rejoin_byte_exact(pod: Pod, length: int) -> None:
    pod.run("c", "sh", "-c", f"head -c {length} /dev/zero; echo; echo after")
    pod.exit_of("c")
    path = pod.folder / "c.log"
    assert rejoined(path) == bytes(length) + b"\nafter\n"
    assert max(len(text) for _, _, text in records(path)) <= 16384


def test_a_hundred_megabytes_in_one_line(pod: Pod) -> None:
    pod.run("c", "sh", "-c", "head -c 100000000 /dev/zero")
    pod.exit_of("c")
    assert rejoined(pod.folder / "c.log") == bytes(100_000_000)


def test_a_log_that_is_a_link_is_refused(pod: Pod, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, pod.folder / "c.log")
    with pytest.raises(RequestFailed) as failed:
        pod.run("c", "echo", "x")
    assert failed.value.failure.number == errno.ELOOP
    assert victim.read_text() == "precious"


def test_no_log_is_fine(pod: Pod) -> None:
    pod.run("c", "yes", log_path="")
    time.sleep(0.02)
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="c", signal=9))
    assert pod.exit_of("c").signal == 9


def test_rotation_loses_and_doubles_nothing(pod: Pod) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    pod.run("c", "sh", "-c", script)
    path = pod.folder / "c.log"
    parts: list[Path] = []
    while pod.control.ask(m.GetState(id=pod.control.next_id()), m.State).containers[0].exit is None:
        part = pod.folder / f"c.log.{len(parts)}"
        path.rename(part)
        parts.append(part)
        try:
            pod.done(m.ReopenLog(id=pod.control.next_id(), container_id="c"))
        except RequestFailed as failed:
            assert failed.failure.number == errno.ESRCH  # ended in between
        time.sleep(0.005)
    content = b"".join(rejoined(part) for part in [*parts, path] if part.exists())
    assert content == b"".join(b"line %d\n" % number for number in range(20000))
    assert len(parts) > 1


def test_a_full_disk_does_not_stop_the_container(pod: Pod, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    kernel.mount("tmpfs", str(small), "tmpfs", 0, "size=64k")
    try:
        log = small / "c.log"
        script = (
            "head -c 300000 /dev/zero; echo; echo full; while [ ! -e /go ]; do sleep 0.01; done; "
            "echo after; exit 6"
        )
        pod.run("c", "sh", "-c", script, log_path=str(log))
        wait_until(lambda: log.stat().st_size > 32768, "the disk to fill")
        wait_until(lambda: "writing" in (pod.run_dir / "monitor.log").read_text(), "the error to be noted")
        log.rename(small / "old")
        pod.done(m.ReopenLog(id=pod.control.next_id(), container_id="c"))
        before = records(small / "old")
        (small / "old").unlink()
        pod.execute("c", "sh", "-c", "> /go")  # the container may end before the program that ends it
        assert pod.exit_of("c").exit_code == 6
        entries = before + records(log)
        assert entries[-1] == ("stdout", "F", b"after")
        assert any(
            re.fullmatch(rb"minikubelet: \d+ bytes of log were lost.*", text) for _, _, text in entries
        )
    finally:
        kernel.unmount(str(small))


def test_attach_gets_what_comes_from_now_on(pod: Pod) -> None:
    settings = {"stdin": True}
    pod.run(
        "c",
        "sh",
        "-c",
        "echo before; while read l; do echo out $l; echo err $l >&2; done; echo bye",
        process_settings=settings,
    )
    wait_until(lambda: "before" in pod.log("c"), "the first line")
    first, second = attach(pod, stdin=True), attach(pod, stdin=True, stderr=False)
    assert set(first) == {"stdin", "stdout", "stderr"}
    assert set(second) == {"stdin", "stdout"}
    os.write(first["stdin"], b"a\n")
    assert read_until(first["stdout"], b"\n") == read_until(second["stdout"], b"\n") == b"out a\n"
    assert read_until(first["stderr"], b"\n") == b"err a\n"
    for fd in first.values():
        os.close(fd)
    os.write(second["stdin"], b"b\n")  # closing one attach's stdin leaves the container's open
    assert read_until(second["stdout"], b"\n") == b"out b\n"
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="c", signal=9))
    assert os.read(second["stdout"], 100) == b""
    for fd in second.values():
        os.close(fd)
    pod.exit_of("c")


def test_stdin_once_ends_with_the_first_attach(pod: Pod) -> None:
    pod.run("c", "sh", "-c", "cat; echo end", process_settings={"stdin": True, "stdin_once": True})
    fds = attach(pod, stdin=True)
    assert "stdin" not in attach(pod, stdin=True, stdout=False, stderr=False)
    os.write(fds["stdin"], b"data\n")
    os.close(fds["stdin"])
    assert pod.exit_of("c").exit_code == 0
    assert pod.log("c") == "data\nend"
    assert read_until(fds["stdout"], b"end\n") == b"data\nend\n"
    for name in ("stdout", "stderr"):
        os.close(fds[name])


def test_a_container_waits_for_a_slow_reader_who_gets_everything(pod: Pod) -> None:
    pod.run(
        "c",
        "sh",
        "-c",
        "read l; head -c 8000000 /dev/zero; echo; echo done",
        process_settings={"stdin": True},
    )
    slow, quick = attach(pod, stdin=True, stderr=False), attach(pod, stderr=False)
    os.write(slow["stdin"], b"go\n")
    path = pod.folder / "c.log"
    received = {"slow": 0, "quick": 0}

    def take(name: str, fd: int) -> bool:
        chunk = os.read(fd, 65536)
        received[name] += len(chunk)
        return bool(chunk)

    while received["quick"] < 1 << 20:  # more than that can't have been written before the slow one is full
        assert take("quick", quick["stdout"])
    assert path.stat().st_size < 4_000_000
    state = pod.control.ask(m.GetState(id=pod.control.next_id()), m.State)
    assert state.containers[0].exit is None
    while take("slow", slow["stdout"]):
        readable, _, _ = select.select([quick["stdout"]], [], [], 0)
        if readable:
            take("quick", quick["stdout"])
    while take("quick", quick["stdout"]):
        pass
    assert received == {"slow": 8_000_006, "quick": 8_000_006}
    assert pod.exit_of("c").exit_code == 0
    assert rejoined(path) == bytes(8_000_000) + b"\ndone\n"
    for fd in (*slow.values(), *quick.values()):
        os.close(fd)


def test_a_slow_reader_that_goes_frees_the_container(pod: Pod) -> None:
    pod.run("c", "sh", "-c", "read l; head -c 8000000 /dev/zero; exit 3", process_settings={"stdin": True})
    slow = attach(pod, stdin=True, stderr=False)
    os.write(slow["stdin"], b"go\n")
    wait_until(lambda: (pod.folder / "c.log").stat().st_size > 1 << 20, "the reader's pipe to be full")
    for fd in slow.values():
        os.close(fd)
    assert pod.exit_of("c").exit_code == 3
    assert rejoined(pod.folder / "c.log") == bytes(8_000_000)


def test_too_many_readers_are_refused(pod: Pod) -> None:
    pod.run("c", "sleep", "1000")
    fds = [attach(pod, stderr=False)["stdout"] for _ in range(32)]
    with pytest.raises(RequestFailed) as failed:
        attach(pod)
    assert failed.value.failure.number == errno.EUSERS
    for fd in fds:
        os.close(fd)
    attached = attach(pod)  # those that are gone make room
    for fd in attached.values():
        os.close(fd)


def test_a_terminal(pod: Pod) -> None:
    settings = {"tty": True, "stdin": True}
    script = (
        "tty; ls -l /dev/console | head -c 1; echo; until stty size | grep 132; do sleep 0.01; done; "
        "read l; echo got $l; exit 9"
    )
    pod.run("c", "sh", "-c", script, process_settings=settings)
    fds = attach(pod, stdin=True)
    assert set(fds) == {"stdin", "stdout"}
    pod.done(m.ResizeTty(id=pod.control.next_id(), target_id="c", width=132, height=50))
    wait_until(lambda: pod.log("c").endswith("50 132"), "the script to read")
    os.write(fds["stdin"], b"hello\n")
    assert pod.exit_of("c").exit_code == 9
    output = rejoined(pod.folder / "c.log").decode().split("\r\n")
    assert output[:2] == ["/dev/pts/0", "c"]
    assert output[-4:] == ["50 132", "hello", "got hello", ""]
    for fd in fds.values():
        os.close(fd)


def test_the_console_cannot_be_redirected_by_the_image(pod: Pod, tmp_path: Path) -> None:
    """CVE-2025-52565: a link in the place of /dev/console or /dev/pts."""
    victim = tmp_path / "victim"
    victim.write_text("")
    (pod.layers / "1/dev").mkdir()
    os.symlink(str(victim), pod.layers / "1/dev/console")
    pod.run("c", "sh", "-c", "echo x > /dev/console", process_settings={"tty": True})
    assert pod.exit_of("c").exit_code == 0
    assert victim.read_text() == ""
    assert pod.log("c").strip() == "x"

"""Exec: namespaces, credentials, streams, terminals, kills."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.wire import messages as m
from tests.host.spawner.conftest import MakePod
from tests.host.spawner.harness import Pod, RequestFailed, process, wait_until


@pytest.fixture
def running(pod: Pod) -> Iterator[Pod]:
    """A pod with a container ``c`` that sleeps."""
    pod.run("c", "sleep", "1000")
    yield pod


def start_exec(
    pod: Pod, name: str, *args: str, fds: list[int] | None = None, **settings: object
) -> m.ContainerStarted:
    null = os.open("/dev/null", os.O_RDWR)
    request = m.StartExec(
        id=pod.control.next_id(), exec_id=name, container_id="c", process=process(*args, **settings)
    )
    try:
        given = fds if fds is not None else [null] * 3
        return pod.control.ask(request, m.ContainerStarted, given)
    finally:
        os.close(null)


def exec_folders(pod: Pod) -> list[str]:
    return [entry for entry in os.listdir(pod.cgroup_folder() / "c") if entry.startswith("exec-")]


def test_output_and_exit_code(running: Pod) -> None:
    assert running.execute("c", "sh", "-c", "echo out; echo err >&2; exit 5") == (5, b"out\nerr\n")


def test_all_namespaces_are_the_containers(running: Pod) -> None:
    kinds = ("mnt", "net", "ipc", "uts", "pid", "cgroup")
    os.symlink("busybox", running.layers / "1/bin/readlink")
    for kind in kinds:
        _, mine = running.execute("c", "readlink", f"/proc/self/ns/{kind}")
        _, inits = running.execute("c", "readlink", f"/proc/1/ns/{kind}")
        assert mine == inits, kind


def test_an_exec_sees_the_container_as_its_root(running: Pod) -> None:
    _, output = running.execute(
        "c", "sh", "-c", "echo from-exec > /made; ls /; cat /proc/self/cgroup | grep 0::"
    )
    assert b"made\n" in output
    assert b"0::/exec-" in output
    assert (running.folder / "containers/c/upper/made").read_text() == "from-exec\n"


def test_credentials_of_an_exec_are_its_own(running: Pod) -> None:
    code, output = running.execute("c", "id", user=m.User(user="web"))
    assert (code, output.split()[0]) == (0, b"uid=1000(web)")
    assert running.execute("c", "id")[1].startswith(b"uid=0(root)")


def test_failures_are_named_and_leave_nothing(running: Pod) -> None:
    with pytest.raises(RequestFailed) as failed:
        start_exec(running, "e", "nothing")
    assert failed.value.failure.detail == 'exec: "nothing": executable file not found in $PATH'
    wait_until(lambda: exec_folders(running) == [], "the cgroup to be removed")
    with pytest.raises(RequestFailed) as failed:
        start_exec(running, "e", "sh", cwd="/nowhere")
    assert (failed.value.failure.number, failed.value.failure.path) == (errno.ENOENT, "/nowhere")
    with pytest.raises(RequestFailed) as failed:
        start_exec(running, "e", "sh", cwd="/proc/self/fd/5")
    assert failed.value.failure.step == "enter the working directory"


def test_exec_needs_a_running_container(running: Pod) -> None:
    running.done(m.SignalContainer(id=running.control.next_id(), container_id="c", signal=9))
    running.exit_of("c")
    for name in ("c", "unknown"):
        with pytest.raises(RequestFailed) as failed:
            running.execute(name, "echo")
        assert failed.value.failure.number == errno.ESRCH


def test_a_grandchild_that_keeps_the_pipe_is_killed_by_kill_exec_only(running: Pod) -> None:
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    start_exec(running, "e", "sh", "-c", "sleep 1000 & echo started", fds=[null, writer, writer])
    os.close(writer)
    assert running.control.wait_for(m.ExecExited, exec_id="e").status.exit_code == 0
    assert os.read(reader, 100) == b"started\n"
    os.set_blocking(reader, False)
    time.sleep(0.05)
    with pytest.raises(BlockingIOError):
        os.read(reader, 100)
    assert exec_folders(running) == ["exec-e"]
    running.done(m.KillExec(id=running.control.next_id(), exec_id="e"))
    os.set_blocking(reader, True)
    assert os.read(reader, 100) == b""
    wait_until(lambda: exec_folders(running) == [], "the cgroup to be removed")
    running.done(m.KillExec(id=running.control.next_id(), exec_id="e"))
    for fd in (reader, null):
        os.close(fd)


def test_kill_exec_takes_the_whole_tree(running: Pod) -> None:
    start_exec(running, "e", "sh", "-c", "trap '' TERM; (sleep 1000 &) ; sleep 1000")
    running.done(m.KillExec(id=running.control.next_id(), exec_id="e"))
    assert running.control.wait_for(m.ExecExited, exec_id="e").status.signal == signal.SIGKILL

    def sleepers() -> int:
        return running.execute("c", "sh", "-c", "cat /proc/[0-9]*/comm")[1].split().count(b"sleep")

    wait_until(lambda: sleepers() == 1, "the exec's processes are gone, the container's own is not")


def test_execs_end_with_their_container(running: Pod) -> None:
    start_exec(running, "e", "sleep", "1000")
    running.done(m.SignalContainer(id=running.control.next_id(), container_id="c", signal=9))
    assert running.control.wait_for(m.ExecExited, exec_id="e").status.exit_code == 137
    assert running.exit_of("c").exit_code == 137


def test_a_terminal_of_the_container(running: Pod) -> None:
    start_exec(
        running,
        "e",
        "sh",
        "-c",
        "tty; stty size; read line; stty size; echo got $line; exit 3",
        fds=[],
        tty=True,
    )
    (master,) = running.control.fds
    running.done(m.ResizeTty(id=running.control.next_id(), target_id="e", width=100, height=40))
    output = b""
    os.write(master, b"hello\n")
    while b"got hello" not in output:
        output += os.read(master, 4096)
    assert running.control.wait_for(m.ExecExited, exec_id="e").status.exit_code == 3
    assert b"/dev/pts/0" in output
    assert b"40 100" in output
    with pytest.raises(OSError) as hung_up:
        while True:
            os.read(master, 4096)
    assert hung_up.value.errno == errno.EIO
    os.close(master)


def test_closing_the_master_hangs_up(running: Pod) -> None:
    start_exec(running, "e", "sleep", "1000", fds=[], tty=True)
    for fd in running.control.fds:
        os.close(fd)
    assert running.control.wait_for(m.ExecExited, exec_id="e").status.signal == signal.SIGHUP


def test_resizing_what_is_no_terminal(running: Pod) -> None:
    start_exec(running, "e", "sleep", "1000")
    with pytest.raises(RequestFailed) as failed:
        running.done(m.ResizeTty(id=running.control.next_id(), target_id="e", width=1, height=1))
    assert failed.value.failure.number == errno.ENOTTY


def test_wrong_descriptors_are_refused(running: Pod) -> None:
    with pytest.raises(RequestFailed) as failed:
        start_exec(running, "e", "echo", fds=[])
    assert failed.value.failure.number == errno.EINVAL
    assert exec_folders(running) == []


def test_exec_in_a_shared_pid_namespace(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    pod.run("c", "sleep", "1000", pid_namespace="pod")
    _, output = pod.execute("c", "cat", "/proc/1/comm")
    assert output == b"pause\n"
    pod.run("h", "sleep", "1000", pid_namespace="node")
    _, output = pod.execute("h", "cat", "/proc/1/comm")
    assert output.decode() == Path("/proc/1/comm").read_text()


def test_a_storm_of_execs_keeps_codes_apart(running: Pod) -> None:
    for number in range(60):
        start_exec(running, f"e{number}", "sh", "-c", f"exit {number}")
    for number in range(60):
        assert running.control.wait_for(m.ExecExited, exec_id=f"e{number}").status.exit_code == number
    state = running.control.ask(m.GetState(id=running.control.next_id()), m.State)
    assert state.execs == []
    wait_until(lambda: exec_folders(running) == [], "the cgroups to be removed")


def test_a_large_request_travels_as_memfd(running: Pod) -> None:
    value = b"X=" + b"v" * 100_000
    code, output = running.execute("c", "sh", "-c", "echo ${#X}", env=[value])
    assert (code, output) == (0, b"100000\n")


def test_without_a_cgroup_of_its_own_an_exec_joins_the_containers(pod: Pod) -> None:
    settings = m.CgroupSettings(path=f"{pod.cgroup}/c", files={"cgroup.max.descendants": "0"})
    pod.run("c", "sleep", "1000", cgroup=settings)
    code, output = pod.execute("c", "sh", "-c", "grep 0:: /proc/self/cgroup; exit 8")
    assert (code, output) == (8, b"0::/\n")
    start_exec(pod, "e", "sleep", "1000")
    pod.done(m.KillExec(id=pod.control.next_id(), exec_id="e"))
    assert pod.control.wait_for(m.ExecExited, exec_id="e").status.signal == signal.SIGKILL

"""The daemon goes away and comes back; monitors are killed; nothing is lost and nothing left."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import msgspec
import pytest

from minikubelet.linux import pidfd
from minikubelet.spawner.cgroups import Cgroup, mount_point
from minikubelet.wire import channel
from minikubelet.wire import messages as m
from tests.host.spawner.conftest import MakePod
from tests.host.spawner.harness import TIMEOUT, Connection, Pod, RequestFailed, Spawner, is_alive, wait_until


def state(connection: Connection) -> m.State:
    return connection.ask(m.GetState(id=connection.next_id()), m.State)


def test_exits_while_the_daemon_is_away_are_kept(make_pod: MakePod) -> None:
    pod = make_pod()
    started = pod.run("long", "sleep", "1000")
    pod.run("short", "sh", "-c", "sleep 0.1; echo last words; exit 42")
    pod.control.close()
    wait_until((pod.run_dir / "exits/short").exists, "the exit record")
    recorded = msgspec.json.decode((pod.run_dir / "exits/short").read_bytes(), type=m.ExitStatus)
    assert recorded.exit_code == 42
    pod.control = pod.reconnect()
    wait_until(
        lambda: {c.id: c for c in state(pod.control).containers}["short"].exit, "the exit to be reported"
    )
    found = state(pod.control)
    assert (found.protocol, found.sandbox_id) == (m.PROTOCOL_VERSION, "pod")
    reports = {report.id: report for report in found.containers}
    assert reports["short"].exit == recorded
    assert reports["long"].exit is None
    assert (reports["long"].pid, reports["long"].start_ticks) == (started.pid, started.start_ticks)
    assert pod.log("short") == "last words"
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="long", signal=9))
    assert pod.exit_of("long").exit_code == 137  # GetState has subscribed the new connection


def test_a_daemon_killed_in_the_middle_of_a_start(make_pod: MakePod) -> None:
    pod = make_pod()
    for number in range(10):
        request = pod.container_request(f"c{number}", "sleep", "1000")
        channel.send(pod.control.sock, request)
        pod.control.close()
        pod.control = pod.reconnect()
        wait_until(lambda: len(state(pod.control).containers) == number + 1, "the container")  # noqa: B023


def test_two_connections_both_get_events(make_pod: MakePod) -> None:
    pod = make_pod()
    other = pod.reconnect()
    silent = pod.reconnect()
    state(other)
    pod.run("c", "sh", "-c", "exit 1")
    for connection in (pod.control, other):
        assert connection.wait_for(m.ContainerExited, container_id="c").status.exit_code == 1
    silent.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        channel.receive(silent.sock)
    for connection in (other, silent):
        connection.close()


def test_a_daemon_that_does_not_read_is_dropped_and_blocks_nobody(make_pod: MakePod) -> None:
    pod = make_pod()
    deaf = pod.reconnect()
    for number in range(20000):
        try:
            channel.send(deaf.sock, m.GetState(id=number))
        except OSError:
            break
    else:
        pytest.fail("20,000 answers were queued for a reader that does not read")
    assert pod.output("c", "echo", "others go on") == "others go on"
    deaf.close()
    again = pod.reconnect()
    assert state(again).pid
    again.close()


@pytest.mark.parametrize(
    "garbage", [b"", b"\x01{}", b"\x01nonsense", b"\x03", b"\x02", b"\x01" + b"[" * 50000, b"\xff" * 9]
)
def test_garbage_ends_the_connection_not_the_monitor(make_pod: MakePod, garbage: bytes) -> None:
    pod = make_pod()
    bad = pod.reconnect()
    bad.sock.send(garbage)
    with pytest.raises((channel.ChannelClosed, ConnectionError)):
        channel.receive(bad.sock)
    bad.close()
    assert state(pod.control).pid


def test_a_request_that_cannot_be_served_is_a_failure(make_pod: MakePod) -> None:
    pod = make_pod()
    with pytest.raises(RequestFailed):
        pod.run("c", "echo", devices=[m.Device(path="/dev/x", kind="?", major=1, minor=1)])
    assert pod.output("d", "echo", "fine") == "fine"


def test_descriptors_sent_without_need_are_closed(make_pod: MakePod) -> None:
    pod = make_pod()
    state(pod.control)
    before = len(os.listdir(f"/proc/{pod.spawned.pid}/fd"))
    null = os.open("/dev/null", os.O_RDWR)
    for _ in range(50):
        pod.control.ask(m.GetState(id=pod.control.next_id()), m.State, [null] * 4)
    os.close(null)
    wait_until(
        lambda: len(os.listdir(f"/proc/{pod.spawned.pid}/fd")) == before, "the descriptors to be closed"
    )


def test_many_lives_leak_no_descriptor(make_pod: MakePod) -> None:
    pod = make_pod()
    pod.run("keep", "sleep", "1000")

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{pod.spawned.pid}/fd"))

    state(pod.control)  # whatever the start had open is closed
    before = descriptors()
    for number in range(25):
        name = f"c{number}"
        pod.output(name, "echo", "x", process_settings={"tty": number % 2 == 1})
        pod.execute("keep", "echo", "x")
        with pytest.raises(RequestFailed):
            pod.run(f"bad{number}", "nothing")
        pod.done(m.RemoveContainer(id=pod.control.next_id(), container_id=name))
    wait_until(lambda: descriptors() <= before, f"{descriptors()} descriptors to become {before}")


def test_the_socket_is_private(make_pod: MakePod) -> None:
    pod = make_pod()
    assert (pod.run_dir / "monitor.sock").stat().st_mode & 0o777 == 0o600
    assert pod.run_dir.stat().st_mode & 0o777 == 0o700


def test_a_long_run_folder(spawner: Spawner, tmp_path: Path, layers: Path) -> None:
    folder = tmp_path / ("long" * 40)
    pod = Pod(spawner, folder, "long", layers)
    pod.start()
    for fd in pod.control.fds:
        os.close(fd)
    other = pod.reconnect()
    assert state(other).sandbox_id == "long"
    other.close()
    pod.shutdown()
    pod.cgroup_folder().parent.rmdir()


def test_a_killed_monitor_leaves_processes_that_can_be_found_and_killed(
    spawner: Spawner, tmp_path: Path, layers: Path
) -> None:
    pod = Pod(spawner, tmp_path / "victim", "victim", layers)
    sandbox = pod.start()
    for fd in pod.control.fds:
        os.close(fd)
    container = pod.run("c", "sleep", "1000")
    signal.pidfd_send_signal(pod.pidfd, signal.SIGKILL)
    wait_until(lambda: not is_alive(pod.spawned.pid, pod.spawned.start_ticks), "the monitor to end")
    with pytest.raises(ConnectionError):
        state(pod.control)
    with pytest.raises((ConnectionError, FileNotFoundError)):
        pod.reconnect()
    cgroup = Cgroup(mount_point(), pod.cgroup)
    assert pidfd.start_ticks(container.pid) == container.start_ticks
    cgroup.kill()
    wait_until(lambda: not is_alive(container.pid, container.start_ticks), "the container to end")
    wait_until(lambda: not is_alive(sandbox.pid, sandbox.start_ticks), "pause to end")
    wait_until(cgroup.remove, "the cgroup to be removed")
    pod.cgroup_folder().parent.rmdir()
    os.close(pod.pidfd)


def test_the_spawner_ends_with_its_daemon() -> None:
    own = Spawner()
    own.connection.sock.shutdown(socket.SHUT_RDWR)
    own.close()


def test_the_spawner_refuses_to_fork_with_grpc_imported(tmp_path: Path) -> None:
    own = Spawner(boot="import sys, types; sys.modules['grpc'] = types.ModuleType('grpc'); ")
    assert own.process.wait(TIMEOUT) == 1
    own.connection.close()


def test_old_kernels_share_memory_through_the_pauses_mounts(tmp_path: Path, layers: Path) -> None:
    """Before Linux 6.15 detached mounts can't be copied; the other way is taken, and works."""
    boot = "import minikubelet.spawner.host as h; h._copies_detached = lambda mount: False; "
    own = Spawner(boot=boot)
    pod = Pod(own, tmp_path / "old", "old", layers)
    pod.start()
    for fd in pod.control.fds:
        os.close(fd)
    pod.output("a", "sh", "-c", "echo hello > /dev/shm/a")
    assert pod.output("b", "cat", "/dev/shm/a") == "hello"
    pod.shutdown()
    own.close()
    pod.cgroup_folder().parent.rmdir()


def test_shutdown_is_quick_with_a_stubborn_container(make_pod: MakePod) -> None:
    pod = make_pod()
    pod.run("c", "sh", "-c", "trap '' TERM INT; while :; do sleep 1000; done")
    start = time.monotonic()
    pod.shutdown()
    assert time.monotonic() - start < 5


def test_an_exit_that_cannot_be_recorded_is_told_all_the_same(make_pod: MakePod) -> None:
    pod = make_pod()
    (pod.run_dir / "exits").rmdir()
    pod.run("c", "sh", "-c", "exit 5")
    assert pod.exit_of("c").exit_code == 5
    assert "recording the exit of c" in (pod.run_dir / "monitor.log").read_text()


def test_a_stop_in_the_middle_of_starts(make_pod: MakePod) -> None:
    """Whatever stage a container is in, stopping ends it, and every request is answered."""
    for number in range(5):
        pod = make_pod(f"p{number}")
        requests = [pod.container_request(f"c{index}", "sleep", "1000") for index in range(4)]
        for request in requests:
            channel.send(pod.control.sock, request)
        time.sleep(0.002 * number)
        stop = m.StopSandbox(id=pod.control.next_id())
        channel.send(pod.control.sock, stop)
        missing = {request.id for request in requests} | {stop.id}
        while missing:
            message, _ = channel.receive(pod.control.sock)
            if isinstance(message, m.Reply):
                missing.remove(message.id)
        assert not any(is_alive(report.pid, report.start_ticks) for report in state(pod.control).containers)

"""Sandboxes: namespaces, host name, sysctls, network, pause, and what is left afterwards."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

from minikubelet.wire import messages as m
from tests.host.spawner.conftest import MakePod
from tests.host.spawner.harness import Pod, RequestFailed, Spawner, process, wait_until


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_pause_has_the_namespaces_asked_for(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    started = pod.start(pid="pod", hostname="web-0")
    assert len(pod.control.fds) == 2
    for fd in pod.control.fds:
        os.close(fd)
    for kind in ("net", "ipc", "uts", "pid"):
        assert namespace(started.pid, kind) != namespace("self", kind), kind
    assert os.listdir(f"/proc/{started.pid}/root/") == []
    assert Path(f"/proc/{started.pid}/comm").read_text() == "pause\n"


def test_host_namespaces_stay_the_hosts(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    started = pod.start(network="node", ipc="node", uts="node", pid="node")
    assert pod.control.fds == []
    for kind in ("net", "ipc", "uts", "pid"):
        assert namespace(started.pid, kind) == namespace("self", kind), kind
    with pytest.raises(RequestFailed) as failed:
        pod.control.ask(m.GetNetwork(id=pod.control.next_id()), m.Done)
    assert failed.value.failure.number == errno.ENOENT


def test_network_descriptors_belong_to_the_pods_namespace(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    started = pod.start()
    netns, route = pod.control.fds
    assert os.readlink(f"/proc/self/fd/{netns}") == namespace(started.pid, "net")
    with socket.socket(fileno=route) as sock:
        assert sock.family == socket.AF_NETLINK
        # RTM_GETLINK dump: the new namespace has the loopback alone.
        header = (20).to_bytes(4, "little") + (18).to_bytes(2, "little") + (0x301).to_bytes(2, "little")
        sock.send(header + bytes(8) + bytes(4))
        assert b"lo\0" in sock.recv(65536)
    pod.control.ask(m.GetNetwork(id=pod.control.next_id()), m.Done)
    assert os.readlink(f"/proc/self/fd/{pod.control.fds[0]}") == namespace(started.pid, "net")
    for fd in [netns, *pod.control.fds]:
        os.close(fd)


def test_loopback_is_up_and_sysctls_are_the_pods(make_pod: MakePod) -> None:
    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    pod = make_pod(sysctls={"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"})
    script = (
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced; "
        "cat /sys/class/net/lo/flags"
    )
    assert pod.output("c", "sh", "-c", script).split() == ["0", "1", "0x9"]
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before


@pytest.mark.parametrize("name", ["net.ipv4.no_such_thing", "../../etc/passwd", "net/../kernel/hostname"])
def test_a_bad_sysctl_fails_the_sandbox_and_leaves_nothing(make_pod: MakePod, name: str) -> None:
    pod = make_pod(start=False)
    with pytest.raises(RequestFailed) as failed:
        pod.start(sysctls={name: "1"})
    assert name in failed.value.failure.step
    wait_until(
        lambda: "populated 0" in (pod.cgroup_folder() / "cgroup.events").read_text(), "pause to be gone"
    )


def test_processes_are_not_dumpable_and_monitors_ignore_terminal_signals(make_pod: MakePod) -> None:
    pod = make_pod()
    monitor = pod.spawned.pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        os.kill(monitor, number)
    assert pod.output("c", "echo", "alive") == "alive"
    assert os.getsid(monitor) == monitor
    assert os.readlink(f"/proc/{monitor}/cwd") == "/"
    assert os.stat(f"/proc/{monitor}/maps").st_uid == 0


def test_the_interpreter_cannot_be_written_through_a_monitor(make_pod: MakePod) -> None:
    pod = make_pod()
    state = pod.control.ask(m.GetState(id=pod.control.next_id()), m.State)
    for pid in (pod.spawned.pid, state.pid):
        # While it runs ETXTBSY hides it, but the mount stays read-only when that is over.
        assert os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY
        with pytest.raises(OSError):
            os.open(f"/proc/{pid}/exe", os.O_WRONLY)


def test_the_end_of_pause_is_told(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    started = pod.start()
    for fd in pod.control.fds:
        os.close(fd)
    os.kill(started.pid, signal.SIGKILL)
    assert pod.control.wait_for(m.SandboxExited).status.exit_code == 137
    state = pod.control.ask(m.GetState(id=pod.control.next_id()), m.State)
    assert state.pid == 0
    assert state.sandbox_exit is not None


def test_a_sandbox_starts_once(make_pod: MakePod) -> None:
    pod = make_pod()
    with pytest.raises(RequestFailed) as failed:
        pod.start()
    assert failed.value.failure.number == errno.EEXIST


def test_stop_lets_go_of_the_network_and_can_be_repeated(make_pod: MakePod) -> None:
    pod = make_pod()
    pod.run("c", "sleep", "1000")
    pod.done(m.StopSandbox(id=pod.control.next_id()))
    assert pod.exit_of("c").exit_code == 137
    pod.done(m.StopSandbox(id=pod.control.next_id()))
    links = [
        os.readlink(f"/proc/{pod.spawned.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pod.spawned.pid}/fd")
    ]
    assert [link for link in links if link.startswith("net:")] == [namespace("self", "net")]
    with pytest.raises(RequestFailed):
        pod.run("d", "sleep", "1000")


def test_spawner_survives_a_bad_request(spawner: Spawner, tmp_path: Path, make_pod: MakePod) -> None:
    with pytest.raises(RequestFailed) as failed:
        spawner.spawn("x", tmp_path / "missing")
    assert failed.value.failure.number == errno.ENOENT
    assert make_pod("after").output("c", "echo", "fine") == "fine"


def test_a_monitor_outlives_its_spawner(tmp_path: Path, layers: Path) -> None:
    own = Spawner()
    pod = Pod(own, tmp_path / "orphan", "orphan", layers)
    pod.start()
    for fd in pod.control.fds:
        os.close(fd)
    own.close()
    assert pod.output("c", "echo", "still here") == "still here"
    pod.shutdown()
    pod.cgroup_folder().parent.rmdir()


def test_pause_runs_with_the_credentials_asked_for(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    started = pod.start(process=process(user=m.User(user="65535", gid=65535), no_new_privs=True))
    for fd in pod.control.fds:
        os.close(fd)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{started.pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split() == ["65535"] * 4
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == 0


def test_joining_namespaces_is_undone(make_pod: MakePod) -> None:
    """The monitor enters the pod's network for a moment; it must come back."""
    pod = make_pod(pid="pod")
    pod.output("c", "echo", "x", pid_namespace="pod")
    assert namespace(pod.spawned.pid, "net") == namespace("self", "net")
    assert os.readlink(f"/proc/{pod.spawned.pid}/ns/pid_for_children") == namespace("self", "pid")

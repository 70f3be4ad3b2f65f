"""The codec: everything comes back as it went, and garbage is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from minikubelet.wire import channel
from minikubelet.wire import messages as m

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


PROCESS = m.Process(args=[b"sh", b"\xff\x00"], env=[b"A=\xfe"], user=m.User(user="web", supplemental=[1, 2]))


@pytest.mark.parametrize(
    "message",
    [
        m.SpawnMonitor(id=1, sandbox_id="s", run_dir="/run/x"),
        m.StartSandbox(id=2, process=PROCESS, sysctls={"a": "b"}, cgroups=[m.CgroupSettings(path="/x")]),
        m.StartExec(id=3, exec_id="e", container_id="c", process=PROCESS),
        m.Reply(
            id=4, body=m.State(protocol=1, sandbox_id="s", pid=0, containers=[m.ContainerReport(id="c")])
        ),
        m.Reply(id=5, body=m.Failure(step="mount", number=2, path="/x", detail="no")),
        m.ContainerExited(container_id="c", status=m.ExitStatus(exit_code=137, signal=9, finished_at=5)),
        m.Shutdown(id=6),
    ],
)
def test_round_trip(pair: Pair, message: m.Message) -> None:
    ours, theirs = pair
    channel.send(ours, message)
    assert channel.receive(theirs) == (message, [])


def test_descriptors_travel_and_are_close_on_exec(pair: Pair) -> None:
    ours, theirs = pair
    reader, writer = os.pipe()
    channel.send(ours, m.Shutdown(id=1), [reader, writer])
    _, fds = channel.receive(theirs)
    os.write(fds[1], b"x")
    assert os.read(reader, 1) == b"x"
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in (reader, writer, *fds):
        os.close(fd)


@pytest.mark.parametrize("size", [channel.INLINE_MAX - 200, channel.INLINE_MAX, 3_000_000])
def test_large_messages_with_descriptors(pair: Pair, size: int) -> None:
    ours, theirs = pair
    null = os.open("/dev/null", os.O_RDONLY)
    message = m.SpawnMonitor(id=1, sandbox_id="x" * size, run_dir="/")
    before = open_descriptors()
    channel.send(ours, message, [null])
    received, fds = channel.receive(theirs)
    assert received == message
    assert len(fds) == 1
    assert open_descriptors() == before + 1
    os.close(fds[0])
    os.close(null)


@pytest.mark.parametrize(
    "packet",
    [b"\x01", b"\x01{}", b'\x01{"type":"Nope"}', b"\x03{}", b"\x02", b"garbage", b"\x01" + b"[" * 60000],
)
def test_garbage_is_an_error_and_leaks_nothing(pair: Pair, packet: bytes) -> None:
    ours, theirs = pair
    null = os.open("/dev/null", os.O_RDONLY)
    before = open_descriptors()
    socket.send_fds(ours, [packet], [null] if packet != b"\x02" else [])
    with pytest.raises(channel.ProtocolError):
        channel.receive(theirs)
    assert open_descriptors() == before
    os.close(null)


def test_truncation_is_an_error(pair: Pair) -> None:
    ours, theirs = pair
    before = open_descriptors()
    ours.send(b"\x01" + b" " * channel.INLINE_MAX + b"{}")
    with pytest.raises(channel.ProtocolError):
        channel.receive(theirs)
    null = os.open("/dev/null", os.O_RDONLY)
    socket.send_fds(ours, [b"\x01{}"], [null] * 40)
    with pytest.raises(channel.ProtocolError):
        channel.receive(theirs)
    os.close(null)
    assert open_descriptors() == before


def test_the_end_is_told(pair: Pair) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        channel.receive(theirs)
    ours.close()
    with pytest.raises(channel.ChannelClosed):
        channel.receive(theirs)


def test_messages_of_other_versions_are_understood(pair: Pair) -> None:
    ours, theirs = pair
    ours.send(b'\x01{"type":"Shutdown","id":7,"a_field_of_the_future":{"x":1}}')
    assert channel.receive(theirs)[0] == m.Shutdown(id=7)

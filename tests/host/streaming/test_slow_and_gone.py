"""Slow readers hold their programs up; clients that vanish leave nothing behind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from tests.host.node import wait_for
from tests.host.streaming.scene import (
    BLOCK,
    MIB,
    PORT,
    SIZE,
    Make,
    Peaks,
    Received,
    Urls,
    every_transport,
    open_output,
    running,
    stands_still,
)
from tests.streaming_client import Sender, SpdyClient, open_exec, open_forward


@every_transport
def test_a_program_waits_for_a_slow_reader(pod: Urls, make: Make) -> None:
    size = 64 * MIB
    peaks = Peaks(pod.node)
    command = f"dd bs=64k count={size >> 16} if=/dev/zero"
    with make(pod.exec(*command.split(), stdin=False), receive_buffer=65536) as client:
        _, back = open_output(client)
        (writer,) = wait_for("the program", lambda: running(command, pod.node))
        wait_for("it stands still", lambda: stands_still(writer))
        assert writer.io_counters().write_chars < size
        received = Received(back)
        client.receive(received)
    assert received.count == size
    assert received.hash.hexdigest() == hashlib.sha256(bytes(size)).hexdigest()
    peaks.check()


@every_transport
def test_a_container_waits_for_a_slow_attach(start: Callable[..., Urls], make: Make) -> None:
    size = 64 * MIB
    script = f"read go; exec dd bs=64k count={size >> 16} if=/dev/zero"
    pod = start("sh", "-c", script, stdin=True)
    peaks = Peaks(pod.node)
    with make(pod.attach(stdin=True, stdout=True), receive_buffer=65536) as client:
        to, back = open_exec(client)
        client.socket.sendall(client.frame(to, b"go\n"))
        command = script.removeprefix("read go; exec ")
        (writer,) = wait_for("the program", lambda: running(command, pod.node))
        wait_for("it stands still", lambda: stands_still(writer))
        assert writer.io_counters().write_chars < size
        received = Received(back)
        client.receive(received)
    assert received.count == size
    assert pod.node.wait_exited(pod.container)["exitCode"] == 0
    peaks.check()


@every_transport
@pytest.mark.parametrize("moment", ["sending", "unread"])
def test_a_client_that_vanishes_ends_its_program(pod: Urls, make: Make, moment: str) -> None:
    before = pod.node.open_files()
    command = "sh -c cat; sleep 1000"
    client = make(pod.exec(*command.split(" ", 2)), receive_buffer=65536)
    to, back = open_exec(client)
    wait_for("the program", lambda: running(command, pod.node))
    sender = Sender(client, to, BLOCK, SIZE)
    sender.start()
    if moment == "sending":
        received = Received(back)

        def take(stream: int, data: memoryview) -> None:
            received(stream, data)
            client.ended = received.count > 8 * MIB

        client.receive(take)
    else:  # everything is full, both ways
        (copier,) = wait_for("its child", lambda: running("cat", pod.node))
        wait_for("it stands still", lambda: stands_still(copier))
    client.reset()
    sender.join()
    wait_for("the program ends", lambda: not running(command, pod.node) and not running("cat", pod.node))
    wait_for("its descriptors are closed", lambda: pod.node.open_files() == before)
    pod.node.crictl("exec", "--sync", pod.container, "true")


@every_transport
def test_a_client_that_vanishes_ends_its_connections(pod: Urls, make: Make) -> None:
    before = pod.node.open_files()
    protocol = "portforward.k8s.io" if make is SpdyClient else "v4.channel.k8s.io"
    client = make(pod.forward(PORT), protocol, receive_buffer=65536)
    to, _ = open_forward(client, PORT)
    sender = Sender(client, to, BLOCK, SIZE)
    sender.start()
    (copier,) = wait_for("the connection", lambda: running("cat", pod.node))
    wait_for("it stands still", lambda: stands_still(copier))
    client.reset()
    sender.join()
    wait_for("the connection ends", lambda: not running("cat", pod.node))
    wait_for("its descriptors are closed", lambda: pod.node.open_files() == before)


@every_transport
def test_a_vanished_attach_leaves_the_container_alone(start: Callable[..., Urls], make: Make) -> None:
    size = 32 * MIB
    pod = start("sh", "-c", f"read go; dd bs=64k count={size >> 16} if=/dev/zero; exit 7", stdin=True)
    before = pod.node.open_files()
    client = make(pod.attach(stdin=True, stdout=True), receive_buffer=65536)
    to, _ = open_exec(client)
    client.socket.sendall(client.frame(to, b"go\n"))
    command = f"dd bs=64k count={size >> 16} if=/dev/zero"
    (writer,) = wait_for("the program", lambda: running(command, pod.node))
    wait_for("it stands still", lambda: stands_still(writer))
    client.reset()
    assert pod.node.wait_exited(pod.container)["exitCode"] == 7
    wait_for("its descriptors are closed", lambda: pod.node.open_files() == before)

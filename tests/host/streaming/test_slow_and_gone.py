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
    programs,
    wait_for_files,
    wait_until_stuck,
)
from tests.streaming_client import Sender, SpdyClient, open_exec, open_forward


@every_transport
def test_a_program_waits_for_a_slow_reader(pod: Urls, make: Make) -> None:
    size = 64 * MIB
    peaks = Peaks(pod.node)
    command = f"dd bs=64k count={size >> 16} if=/dev/zero"
    with make(pod.exec(*command.split(), stdin=False), receive_buffer=65536) as client:
        _, back = open_output(client)
        assert wait_until_stuck(pod.node) < size
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
        client.send(client.frame(to, b"go\n"))
        assert wait_until_stuck(pod.node) < size
        received = Received(back)
        client.receive(received)
    assert received.count == size
    assert pod.node.wait_exited(pod.container)["exitCode"] == 0
    peaks.check()


@every_transport
@pytest.mark.parametrize("moment", ["sending", "unread"])
def test_a_client_that_vanishes_ends_its_program(pod: Urls, make: Make, moment: str) -> None:
    before = pod.node.open_files()
    others = programs(pod.node)
    client = make(pod.exec("sh", "-c", "cat; sleep 1000"), receive_buffer=65536)
    to, back = open_exec(client)
    sender = Sender(client, to, BLOCK, SIZE)
    sender.start()
    if moment == "sending":
        received = Received(back)

        def take(stream: int, data: memoryview) -> None:
            received(stream, data)
            client.ended = received.count > 8 * MIB

        client.receive(take)
    else:  # everything is full, both ways
        wait_until_stuck(pod.node)
    client.reset(sender)
    wait_for("the programs end", lambda: programs(pod.node) <= others)
    wait_for_files(pod.node, before)
    pod.node.crictl("exec", "--sync", pod.container, "true")


@every_transport
def test_a_client_that_vanishes_ends_its_connections(pod: Urls, make: Make) -> None:
    before, others = pod.node.open_files(), programs(pod.node)
    protocol = "portforward.k8s.io" if make is SpdyClient else "v4.channel.k8s.io"
    client = make(pod.forward(PORT), protocol, receive_buffer=65536)
    to, _ = open_forward(client, PORT)
    sender = Sender(client, to, BLOCK, SIZE)
    sender.start()
    wait_until_stuck(pod.node)
    client.reset(sender)
    wait_for("the connection ends", lambda: programs(pod.node) <= others)
    wait_for_files(pod.node, before)


@every_transport
def test_a_vanished_attach_leaves_the_container_alone(start: Callable[..., Urls], make: Make) -> None:
    size = 32 * MIB
    pod = start("sh", "-c", f"read go; dd bs=64k count={size >> 16} if=/dev/zero; exit 7", stdin=True)
    before = pod.node.open_files()
    client = make(pod.attach(stdin=True, stdout=True), receive_buffer=65536)
    to, _ = open_exec(client)
    client.send(client.frame(to, b"go\n"))
    assert wait_until_stuck(pod.node) < size
    client.reset()
    assert pod.node.wait_exited(pod.container)["exitCode"] == 7
    wait_for_files(pod.node, before)

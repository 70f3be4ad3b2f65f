"""Half-close, exit codes, terminals, stdin that ends once or stays."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.host.streaming.scene import BLOCK, MIB, SIZE, Make, Received, Urls, every_transport, expected_hash
from tests.streaming_client import Client, Sender, SpdyClient, open_exec


@every_transport
def test_half_close_ends_stdin_and_the_answer_still_comes(pod: Urls, make: Make) -> None:
    size = 8 * MIB + 17
    with make(pod.exec("sh", "-c", "sha256sum; exit 5")) as client:
        to, back = open_exec(client)
        received = Received(back, keep=True)
        sender = Sender(client, to, BLOCK, size)
        sender.start()
        client.receive(received)
        sender.join()
    assert received.data.split()[0].decode() == expected_hash(size)
    (status,) = [json.loads(text) for text in received.others.values() if text]
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "5"}]


@every_transport
def test_a_program_that_leaves_its_stdin_unread(pod: Urls, make: Make) -> None:
    with make(pod.exec("sh", "-c", "head -c 10 >/dev/null; echo enough")) as client:
        to, back = open_exec(client)
        sender = Sender(client, to, BLOCK, SIZE)
        sender.start()
        received = Received(back, keep=True)
        client.receive(received)
    assert received.data == b"enough\n"
    sender.join()


@every_transport
def test_resize(pod: Urls, make: Make) -> None:
    script = "until stty size | grep '^40 132$'; do sleep 0.05; done"
    with make(pod.exec("sh", "-c", script, tty=True)) as client:
        to, back = open_exec(client)
        resize = client.open(streamtype="resize") if isinstance(client, SpdyClient) else 4
        assert to >= 0
        client.send(client.frame(resize, b'{"Width":132,"Height":40}'))
        received = Received(back, keep=True)
        client.receive(received)
    assert received.data.endswith(b"40 132\r\n")


@every_transport
def test_stdin_once_ends_with_the_first_session(start: Callable[..., Urls], make: Make) -> None:
    size = 16 * MIB + 5
    pod = start("sh", "-c", "sha256sum; exit 4", stdin=True, stdin_once=True)
    with make(pod.attach(stdin=True, stdout=True)) as client:
        to, back = open_exec(client)
        sender = Sender(client, to, BLOCK, size)
        sender.start()
        received = Received(back, keep=True)
        client.receive(received)
        sender.join()
    assert received.data.split()[0].decode() == expected_hash(size)
    assert pod.node.wait_exited(pod.container)["exitCode"] == 4


@every_transport
def test_stdin_stays_open_for_the_next_session(start: Callable[..., Urls], make: Make) -> None:
    pod = start("sh", "-c", "while read line; do echo got $line; done; exit 3", stdin=True)
    for word in ("one", "two"):
        with make(pod.attach(stdin=True, stdout=True)) as client:
            to, back = open_exec(client)
            received = Received(back, keep=True)

            def take(
                stream: int, data: memoryview, received: Received = received, client: Client = client
            ) -> None:
                received(stream, data)
                client.ended = client.ended or received.data.endswith(b"\n")

            client.send(client.frame(to, f"{word}\n".encode()))
            client.finish(to)
            client.receive(take)
        assert received.data == f"got {word}\n".encode()
    assert pod.node.status(pod.container)["state"] == "CONTAINER_RUNNING"

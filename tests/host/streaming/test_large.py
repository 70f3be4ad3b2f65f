"""Large transfers through exec and port-forward: byte-exact and in bounded memory."""

from __future__ import annotations

import hashlib
import os
import threading

from tests.host.streaming.scene import (
    MIB,
    PORT,
    SIZE,
    Make,
    Peaks,
    Received,
    Urls,
    every_transport,
    expected_hash,
    to_and_fro,
)
from tests.streaming_client import FRAME, Client, SpdyClient, WebSocketClient, open_exec, open_forward


@every_transport
def test_exec_stdin_to_stdout(pod: Urls, make: Make) -> None:
    peaks = Peaks(pod.node)
    with make(pod.exec("cat")) as client:
        received = to_and_fro(client, *open_exec(client), SIZE)
    assert received.count == SIZE
    assert received.hash.hexdigest() == expected_hash(SIZE)
    assert b'"Success"' in b"".join(received.others.values())
    peaks.check()


@every_transport
def test_port_forward(pod: Urls, make: Make) -> None:
    peaks = Peaks(pod.node)
    protocol = "portforward.k8s.io" if make is SpdyClient else "v4.channel.k8s.io"
    with make(pod.forward(PORT), protocol) as client:
        to, back = open_forward(client, PORT)
        if make is WebSocketClient:  # each channel starts with its port
            _skip_port_numbers(client)
        received = to_and_fro(client, to, back, SIZE)
    assert received.count == SIZE
    assert received.hash.hexdigest() == expected_hash(SIZE)
    assert not any(received.others.values())
    peaks.check()


def _skip_port_numbers(client: Client) -> None:
    announced: dict[int, bytes] = {}

    def take(channel: int, data: memoryview) -> None:
        announced[channel] = bytes(data)
        client.ended = len(announced) == 2

    client.receive(take)
    client.ended = False
    assert announced == dict.fromkeys((0, 1), PORT.to_bytes(2, "little"))


def test_many_forwarded_connections_at_once(pod: Urls) -> None:
    """They share one SPDY connection; each has its own data back, whole."""
    count, size = 8, 4 * MIB
    with SpdyClient(pod.forward(PORT), "portforward.k8s.io") as client:
        streams = []
        for number in range(count):
            client.finish(client.open(streamtype="error", port=str(PORT), requestid=str(number)))
            streams.append(client.open(streamtype="data", port=str(PORT), requestid=str(number)))
        hashes = {stream: Received(stream) for stream in streams}
        blocks = {stream: os.urandom(FRAME) for stream in streams}

        def send() -> None:
            for _ in range(size // FRAME):
                for stream in streams:
                    client.send(client.frame(stream, blocks[stream]))
            for stream in streams:
                client.finish(stream)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        errors: dict[int, bytes] = {}

        def take(stream: int, data: memoryview) -> None:
            if stream in hashes:
                hashes[stream](stream, data)
            elif data:
                errors[stream] = bytes(data)

        client.receive(take)
        sender.join()
    assert not errors
    for stream in streams:
        assert hashes[stream].count == size
        whole = hashlib.sha256(blocks[stream] * (size // FRAME)).hexdigest()
        assert hashes[stream].hash.hexdigest() == whole

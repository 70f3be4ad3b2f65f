"""Bytes through exec and port-forward, lines into logs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from tests.bench.contenders import BenchError, Contender
from tests.bench.cri import Client, Pod
from tests.bench.measures import Bench, Measure
from tests.streaming_client import (
    Client as Stream,
)
from tests.streaming_client import Sender, SpdyClient, WebSocketClient, open_exec, open_forward

EXEC = Measure("exec cat, SPDY", "MiB/s", 1, more_is_better=True)
EXEC_WS = Measure("exec dd, WebSocket", "MiB/s", 1, more_is_better=True)
FORWARD = Measure("port-forward, SPDY", "MiB/s", 1, more_is_better=True)
LINES = Measure("log, 108-byte lines", "klines/s", 2, more_is_better=True)

MIB = 1 << 20
SIZE = int(os.environ.get("MINIKUBELET_BENCH_MIB", "256")) * MIB
COUNTED_CAT = ("dd", "bs=64k", f"count={SIZE >> 16}", "iflag=fullblock")
"""containerd 2.3 has no WebSocket protocol with half-close."""
ROUNDS = 3
PORT = 7
ECHO = ("nc", "-ll", "-p", str(PORT), "-e", "cat")
LINE = "x" * 107
"""And a newline."""
LOG_SECONDS = 2.0


def transfers(bench: Bench) -> None:
    """The same bytes to `cat` and back, in one session after the other."""
    for _ in range(ROUNDS):
        for contender in bench.contenders:
            with running(bench, contender, ECHO) as (client, pod):
                exec_url = client.exec_url(pod, ["cat"])
                measure(bench, contender, EXEC, exec_spdy, exec_url)
                exec_url = client.exec_url(pod, COUNTED_CAT)
                measure(bench, contender, EXEC_WS, exec_websocket, exec_url)
                measure(bench, contender, FORWARD, forward_spdy, client.forward_url(pod, PORT))


Opened = tuple[Stream, int, int]
"""A connection, the stream to send on and the one to receive from."""


def exec_spdy(url: str) -> Opened:
    client = SpdyClient(url)
    return client, *open_exec(client)


def exec_websocket(url: str) -> Opened:
    client = WebSocketClient(url, "v4.channel.k8s.io")
    return client, *open_exec(client)


def forward_spdy(url: str) -> Opened:
    client = SpdyClient(url, "portforward.k8s.io")
    return client, *open_forward(client, PORT)


@contextmanager
def running(bench: Bench, contender: Contender, command: tuple[str, ...]) -> Iterator[tuple[Client, Pod]]:
    with contender.client() as client:
        pod = client.up(bench.workload, command)
        try:
            yield client, pod
        finally:
            client.kill_container(pod)
            client.down(pod)


def measure(
    bench: Bench, contender: Contender, row: Measure, connect: Callable[[str], Opened], url: str
) -> None:
    """Send SIZE bytes while receiving; MiB a second of one direction. Raises BenchError if some are lost."""
    received = 0

    def count(stream: int, data: memoryview) -> None:
        nonlocal received
        if stream == output:
            received += len(data)

    opened, to, output = connect(url)
    with opened as client:
        sender = Sender(client, to, os.urandom(MIB), SIZE)
        start = time.perf_counter()
        sender.start()
        client.receive(count)
        seconds = time.perf_counter() - start
        sender.join()
    if received != SIZE:
        raise BenchError(f"{contender.name}, {row.title}: {received} of {SIZE} bytes came back")
    bench.add(row, contender, SIZE / MIB / seconds)


def logs(bench: Bench) -> None:
    """`yes` for a while: lines in the log by the time between the first and the last."""
    for _ in range(ROUNDS):
        for contender in bench.contenders:
            with running(bench, contender, ("yes", LINE)) as (client, pod):
                time.sleep(LOG_SECONDS)
                client.kill_container(pod)
                with open(client.log(pod), "rb") as log:
                    bench.add(LINES, contender, log_rate(log.fileno()) / 1000)


def log_rate(fd: int) -> float:
    """Lines a second; the last record may be a piece of one. Raises BenchError for anything else."""
    record = re.compile(rb"\S+ stdout (?:F x{107}|(P) x+)\n")
    lines, rest, first, last = 0, b"", b"", b""
    while chunk := os.read(fd, 16 * MIB):
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        whole += newline
        found = list(record.finditer(whole))
        if sum(match.end() - match.start() for match in found) != len(whole):
            raise BenchError(f"a log has other records than `yes` wrote: {whole[-200:]!r}")
        lines += sum(match[1] is None for match in found)
        first = first or whole.split(b" ", 1)[0]
        last = whole[whole.rfind(b"\n", 0, -1) + 1 :].split(b" ", 1)[0] or last
    return lines / (_time(last) - _time(first))


def _time(stamp: bytes) -> float:
    text = stamp.decode()
    fraction = re.search(r"\.(\d+)", text)
    seconds = datetime.fromisoformat(re.sub(r"\.\d+", "", text)).timestamp()
    return seconds + (float(f"0.{fraction[1]}") if fraction else 0.0)

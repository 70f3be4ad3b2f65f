"""What happens while the daemon is away, in numbers: ends, and lines of a log."""

from __future__ import annotations

import asyncio
import itertools
import re
from datetime import datetime
from pathlib import Path

from minikubelet.criapi import api_pb2 as api
from tests.host.node import Node, wait_for
from tests.host.runtime.client import Client

PODS, EACH = 5, 20
RESTARTS = 20
SECOND = 1_000_000_000


async def test_a_hundred_exits(node: Node, client: Client, tmp_path: Path) -> None:
    """Each code is exact, and each time within a second of what the program itself wrote last."""
    flags = tmp_path / "flags"
    flags.mkdir()
    mounts = [api.Mount(container_path="/flags", host_path=str(flags))]
    codes: dict[str, int] = {}
    for _ in range(PODS):
        pod = await client.run_pod()
        for number in range(EACH):
            code = len(codes)
            # No program of its own may come after the file: with a hundred at once that takes a while.
            script = (
                "while [ ! -e /flags/go ]; do sleep 0.2; done;"
                f"sleep 0.{code:02}; : > /flags/{code}; exit {code}"
            )
            config = client.container_config("sh", "-c", script, name=f"c{number}", mounts=mounts)
            codes[await client.run(pod, config)] = code
    node.kill()
    (flags / "go").touch()
    records = node.run / "pods"
    await asyncio.to_thread(
        wait_for, "all have ended", lambda: len(list(records.glob("*/exits/*"))) == len(codes)
    )
    await asyncio.sleep(1.5)  # the daemon must not take the time of its return for that of the end
    node.start()
    for container, code in codes.items():
        status = await client.wait_exited(container)
        ended = (flags / str(code)).stat().st_mtime_ns
        assert (status.exit_code, status.reason) == (code, "Error" if code else "Completed")
        assert ended - SECOND < status.finished_at < ended + SECOND, (status.finished_at - ended) / SECOND


async def test_a_thousand_lines_a_second(node: Node, client: Client, tmp_path: Path) -> None:
    """Twenty times killed: no line lost or doubled, and the program never waited for a second."""
    script = (
        "i=0; while [ ! -e /flags/go ]; do"
        " n=0; while [ $n -lt 50 ]; do i=$((i+1)); n=$((n+1)); echo $i; done; sleep 0.05; done; echo end $i"
    )
    flags = tmp_path / "flags"
    flags.mkdir()
    mounts = [api.Mount(container_path="/flags", host_path=str(flags))]
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path)))
    config = client.container_config("sh", "-c", script, log_path="app.log", mounts=mounts)
    app = await client.run(pod, config)
    for _ in range(RESTARTS):
        node.kill()
        await asyncio.sleep(0.1)
        await asyncio.to_thread(node.start)
    (flags / "go").touch()
    assert (await client.wait_exited(app)).exit_code == 0
    lines = (tmp_path / "app.log").read_text().splitlines()
    texts = [line.split(" ", 3)[3] for line in lines]
    count = len(texts) - 1
    assert texts == [*map(str, range(1, count + 1)), f"end {count}"]
    assert count > RESTARTS * 50
    times = [_seconds(line.split(" ", 1)[0]) for line in lines]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", stamp)).timestamp()

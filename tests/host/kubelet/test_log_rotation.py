"""Logs of a busy container, rotated by the kubelet and followed by a reader: each line is there once."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

from minikubelet.kubelet.api.crilog import LogOptions
from minikubelet.kubelet.api.follow import read_log
from tests.host.kubelet.runtimes import PATIENCE
from tests.host.kubelet.test_pods import Node

LINES = 30_000


def content(path: Path) -> list[str]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [line.split(" ", 3)[3] for line in data.decode().splitlines()]


async def test_rotation_loses_nothing(endpoint: str, tmp_path: Path) -> None:
    node = Node(endpoint, tmp_path)
    garbage = node.config.resources.garbage
    largest = 200_000
    garbage.log_max_size, garbage.log_max_files, garbage.log_monitor_interval = largest, 40, 0.2
    node.write(
        "busy",
        f"""
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command:
          - sh
          - -c
          - |
            i=0
            while [ $i -lt {LINES} ]; do
              echo line $i
              i=$((i + 1))
              [ $((i % 5000)) -ne 0 ] || sleep 0.7
            done
            echo the end
            exec sleep 1000
        """,
    )
    async with node.running():
        await node.until(lambda: node.container("busy").ready)
        folder = next((tmp_path / "logs").glob("*/app"))
        seen = bytearray()

        async def follow() -> None:
            options = LogOptions(follow=True)
            async for piece in read_log(str(folder / "0.log"), options, lambda: False, lambda _: None):
                seen.extend(piece)
                if seen.endswith(b"the end\n"):
                    return

        await asyncio.wait_for(follow(), 4 * PATIENCE)
        wanted = [f"line {number}" for number in range(LINES)] + ["the end"]
        assert seen.decode().splitlines() == wanted

        def settled() -> list[Path]:
            """The rotated files, once no rotation is due or under way: all but the last are compressed."""
            if (folder / "0.log").stat().st_size >= largest:
                return []
            pieces = sorted(each for each in folder.iterdir() if each.name != "0.log")
            return pieces if [each.suffix == ".gz" for each in pieces].count(False) == 1 else []

        pieces = await node.until(settled)
        assert len(pieces) >= 3 and pieces[-1].suffix != ".gz"
        written = [line for each in [*pieces, folder / "0.log"] for line in content(each)]
        assert written == wanted

"""Folders that turn into links between check and use: CVE-2021-30465, CVE-2024-45310, CVE-2025-0750."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc.aio

from minikubelet.criapi import api_pb2 as api
from tests.host.runtime.client import Client

ROUNDS = 40
AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""renameat2(2)"""


@contextlib.contextmanager
def turning(path: Path, target: Path) -> Iterator[list[int]]:
    """``path`` is a folder and a link to ``target`` by turns; counts the turns."""
    ending = threading.Event()
    turns = [0]
    other = path.with_name("other")
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    names = AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE

    def turn() -> None:
        while not ending.is_set():
            if exchange(*names) == 0:
                turns[0] += 1

    path.mkdir()
    other.symlink_to(target)
    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield turns
    finally:
        ending.set()
        thread.join()


async def test_a_mount_point_that_a_sibling_exchanges(client: Client, canary: Path, tmp_path: Path) -> None:
    """What is mounted in a volume lands in the container's root, or the start fails."""
    shared, payload = tmp_path / "shared", tmp_path / "payload"
    shared.mkdir()
    payload.mkdir()
    (payload / "mine").touch()
    pod = await client.run_pod()
    started = 0
    with turning(shared / "x", canary) as turns:
        for number in range(ROUNDS):
            mounts = [
                api.Mount(container_path="/data", host_path=str(shared)),
                api.Mount(container_path="/data/x/made", host_path=str(payload)),
            ]
            config = client.container_config("sleep", "1000", name=f"c{number}", mounts=mounts)
            app = await client.create(pod, config)
            try:
                await client.start(app)
            except grpc.aio.AioRpcError as exc:
                assert "mount bind on /data/x/made" in (exc.details() or "")
            else:
                started += 1
                seen = await client.output(app, "grep -c made /proc/mounts; cat /proc/mounts")
                assert seen.startswith("1\n"), seen
                assert (await client.exec(app, "test", "-e", f"{canary}/file")).exit_code != 0
            await client.remove_container(app)
            assert not (canary / "made").exists()
        assert turns[0] > ROUNDS
    assert started, "not one start got through: the race proves nothing"


async def test_a_log_that_becomes_a_link_before_it_is_reopened(
    client: Client, canary: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    pod = await client.run_pod(client.pod_config(log_directory=str(logs)))
    script = "while :; do echo line; sleep 0.01; done"
    app = await client.run(pod, client.container_config("sh", "-c", script, log_path="sub/app.log"))
    reopen = api.ReopenContainerLogRequest(container_id=app)
    (logs / "sub/app.log").rename(logs / "sub/old")
    for name in ("file", "etc/passwd", "new"):
        (logs / "sub/app.log").symlink_to(canary / name)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await client.runtime.ReopenContainerLog(reopen)
            assert not os.path.islink(logs / "sub/app.log"), "a link was taken for the log"
        (logs / "sub/app.log").unlink()
    (logs / "sub").rename(logs / "before")
    (logs / "sub").symlink_to(canary)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await client.runtime.ReopenContainerLog(reopen)
    assert not (canary / "app.log").exists()
    (logs / "sub").unlink()
    (logs / "before").rename(logs / "sub")
    await client.runtime.ReopenContainerLog(reopen)
    assert (logs / "sub/app.log").stat().st_nlink == 1

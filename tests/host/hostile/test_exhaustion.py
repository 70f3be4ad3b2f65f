"""Containers that make more of everything than is good for a node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path

import psutil

from minikubelet.criapi import api_pb2 as api
from tests.host.node import Node, wait_for
from tests.host.runtime.client import Client

ORPHANS = int(os.environ.get("MINIKUBELET_ORPHANS", "2000"))
LIFECYCLES = int(os.environ.get("MINIKUBELET_LIFECYCLES", "60"))


def zombies() -> int:
    # With the status asked for here, one that ends meanwhile is left out; asked for later it is an error.
    found = psutil.process_iter(["status"])
    return sum(process.info["status"] == psutil.STATUS_ZOMBIE for process in found)


async def test_orphans_are_reaped(client: Client) -> None:
    """Whoever is PID 1 of the namespace, the program itself or pause: nothing of them stays on the node."""
    before = zombies()
    script = f"i=0; while [ $i -lt {ORPHANS} ]; do (true &) ; i=$((i+1)); done; sleep 1000"
    config = client.container_config("sh", "-c", script, linux=api.LinuxContainerConfig())
    pod = await client.run_pod()
    app = await client.run(pod, config)
    assert (await client.status(app)).state == api.CONTAINER_RUNNING
    wait_for("orphans are reaped", lambda: zombies() <= before + 10)
    await client.remove_pod(pod)
    wait_for("nothing stays", lambda: zombies() <= before)


async def test_a_storm_of_execs(client: Client) -> None:
    """Each gets its own code and its own output."""
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))

    async def one(number: int) -> None:
        response = await client.exec(
            app, "sh", "-c", f"echo out{number}; echo err{number} >&2; exit {number}"
        )
        assert response.exit_code == number
        assert (response.stdout, response.stderr) == (b"out%d\n" % number, b"err%d\n" % number)

    await asyncio.gather(*(one(number) for number in range(100)))


async def test_lifecycles_keep_nothing(client: Client, node: Node) -> None:
    """Descriptors, threads and memory of the daemon after as many pods as one has patience for."""

    async def cycle() -> None:
        pod = await client.run_pod()
        app = await client.run(pod, client.container_config("true"))
        await client.wait_exited(app)
        await client.remove_pod(pod)

    daemon = psutil.Process(node.pid)
    for _ in range(20):
        await cycle()
    files, threads, memory = sum(node.open_files().values()), daemon.num_threads(), daemon.memory_info().rss
    for _ in range(LIFECYCLES):
        await cycle()
    wait_for("the same descriptors", lambda: sum(node.open_files().values()) <= files + 5)
    wait_for("as many threads", lambda: daemon.num_threads() <= threads + 5)  # gRPC's come and go
    assert daemon.memory_info().rss <= memory + (20 << 20)


def sockets_of(pid: int) -> set[str]:
    """Inodes of a process's sockets; what is closed meanwhile is left out."""
    found = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if target.startswith("socket:"):
                    found.add(target[len("socket:[") : -1])
    return found


async def test_users_of_the_host_reach_no_socket(client: Client, node: Node) -> None:
    """CVE-2020-15257, CVE-2024-25621: nothing listens where a pod on the host's network could reach it."""
    pod = await client.run_pod()
    await client.run(pod, client.container_config("sleep", "1000"))
    inodes: set[str] = set()
    for process in psutil.process_iter(["cmdline"]):
        if str(node.run) in " ".join(process.info["cmdline"] or []) or process.pid == node.pid:
            inodes |= sockets_of(process.pid)
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert any(row[6] in inodes and len(row) > 7 for row in rows), "the daemon's own socket is seen"
    assert not [row for row in rows if row[6] in inodes and len(row) > 7 and row[7].startswith("@")]
    assert stat.S_IMODE(os.stat(node.socket).st_mode) == 0o600
    for folder in (node.run, node.root):
        assert stat.S_IMODE(folder.stat().st_mode) in (0o700, 0o711), folder
    for path in (*node.run.rglob("*.sock"), *node.run.rglob("control")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

"""Requests that fail again and again take nothing with them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc.aio

from minikubelet.criapi import api_pb2 as api
from tests.host.node import Node, wait_for
from tests.host.runtime.client import Client

FAILURES = 300
SUBNET = "10.213.77.0/28"
ADDRESSES = 13
"""What a /28 has, but for its own address, the broadcast's and the bridge's."""


async def test_three_hundred_failures_lose_no_address(
    new_node: Callable[..., Node], busybox: str, tmp_path: Path
) -> None:
    """They fail before, in and after the network's part, or are given up at any moment."""
    config = tmp_path / "node.yaml"
    config.write_text(f"network:\n  subnet: {SUBNET}\n")
    node = new_node("--config", str(config))
    node.start()
    client = Client(node.config.listen, busybox)
    port = api.PortMapping(container_port=80, host_port=18_080)
    holder = await client.run_pod(client.pod_config(port_mappings=[port]))
    assert node.pod_ip(holder).startswith("10.213.77.")
    for number in range(FAILURES):
        await _fail(client, number, port)
    folders = node.run / "pods"
    wait_for("what was given up is gone", lambda: len(list(folders.iterdir())) == 1)
    pods = [holder]
    for _ in range(ADDRESSES - 1):
        pods.append(await client.run_pod())
    assert len({node.pod_ip(pod) for pod in pods}) == ADDRESSES
    with contextlib.closing(sqlite3.connect(f"file:{node.root}/state.db?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM sandboxes").fetchone() == (ADDRESSES,)
    assert len(list(folders.iterdir())) == ADDRESSES
    for pod in pods:
        await client.remove_pod(pod)
    await client.close()


async def _fail(client: Client, number: int, port: api.PortMapping) -> None:
    kind = number % 3
    if kind == 0:  # in pause
        linux = api.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_forward": "maybe"})
        config = client.pod_config(linux=linux)
    else:  # in the network, whose port is taken
        config = client.pod_config(port_mappings=[port])
    call = client.runtime.RunPodSandbox(api.RunPodSandboxRequest(config=config))
    if kind == 2:
        await asyncio.sleep(number % 10 / 1000)
        call.cancel()
    try:
        await call
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        return
    raise AssertionError("it did not fail")

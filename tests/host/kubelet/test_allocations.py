"""Devices of a plugin inside real containers, and resources that change while they run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient
from tests.host.kubelet.runtimes import PATIENCE
from tests.host.kubelet.test_pods import Node

ROOT = Path(__file__).resolve().parents[3]


async def logs_of(node: Node, pod: str) -> str:
    path = next((node.folder / "logs").glob(f"default_{pod}-host_*/app/0.log"))
    return path.read_text()


async def test_a_plugins_devices_reach_the_container(endpoint: str, tmp_path: Path) -> None:
    node = Node(endpoint, tmp_path)
    folder = tmp_path / "dp"
    folder.mkdir()
    node.config.resources.devices.device_plugin_dir = str(folder)
    node.config.retry_period = 0.5
    node.write(
        "gadget",
        """
        restartPolicy: Never
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c, "echo has $WIDGETS; test -c /dev/w1 && test -c /dev/w2 && ls /widgets"]
          resources: {limits: {example.com/widget: "2"}}
        """,
    )
    async with node.running():
        await node.until(lambda: os.path.exists(folder / "kubelet.sock"))
        command = [sys.executable, "-m", "tests.device_plugin", str(folder)]
        plugin = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=subprocess.DEVNULL)
        try:
            await node.until(lambda: node.pod("gadget").status.phase == "Succeeded")
        finally:
            plugin.terminate()
            await asyncio.wait_for(plugin.wait(), PATIENCE)
        text = await logs_of(node, "gadget")
        assert "has w1,w2" in text and "widget.sock" in text


async def test_new_amounts_reach_a_running_container(endpoint: str, tmp_path: Path) -> None:
    node = Node(endpoint, tmp_path)
    spec = """
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command: [sleep, "1000"]
          resources: {requests: {cpu: CPU}}
        """
    node.write("web", spec.replace("CPU", "100m"))
    async with node.running():
        await node.until(lambda: node.container("web").ready)
        before = node.container("web").container_id
        node.write("web", spec.replace("CPU", "200m"))
        events = node.kubelet.events
        await node.until(lambda: "ResizeCompleted" in {event.reason for event in events()})
        await node.until(lambda: node.container("web").allocated_resources == {"cpu": "200m"})
        app = node.container("web")
        assert app.container_id == before and app.restart_count == 0
        client = CriClient(node.config.container_runtime_endpoint)
        try:
            status = await client.container_status(before.rpartition("/")[2])
            assert status.state == api.CONTAINER_RUNNING
            assert status.resources.linux.cpu_shares == 204
        finally:
            await client.close()

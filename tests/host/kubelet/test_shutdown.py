"""A kubelet process that is told of a power failure: its pods end in order, and run again with the next."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient
from tests.host.kubelet.runtimes import CGROUP_PARENT, PATIENCE
from tests.host.kubelet.test_pods import Node
from tests.host.node import wait_for

SPEC = """
priorityClassName: CLASS
terminationGracePeriodSeconds: 20
containers:
- name: app
  image: IMAGE
  command: [sh, -c, "trap 'sleep 1; exit 0' TERM; echo trapped; while true; do sleep 0.1; done"]
"""


async def test_sigpwr_ends_pods_by_priority(endpoint: str, tmp_path: Path) -> None:
    node = Node(endpoint, tmp_path)
    node.write("proxy", SPEC.replace("CLASS", "system-node-critical"))
    node.write("web", SPEC.replace("CLASS", '""'))
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "shutdownGracePeriod": "30s",
        "shutdownGracePeriodCriticalPods": "10s",
        "cgroupsPerQOS": False,
        "cgroupRoot": CGROUP_PARENT,
        "enforceNodeAllocatable": [],
        "enableServer": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "minikubelet.cli.main", "kubelet"]
    command += ["--container-runtime-endpoint", endpoint, "--config", str(tmp_path / "config.json")]
    command += ["--manifests", str(node.manifests), "--root", str(tmp_path / "root")]
    command += ["--run", str(tmp_path / "run"), "--log-dir", str(tmp_path / "logs"), "--node-name", "host"]
    (tmp_path / "run").mkdir()
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    client = CriClient(endpoint)
    try:
        await asyncio.to_thread(wait_for, "both have set their traps", lambda: trapped(tmp_path / "logs"))
        process.send_signal(signal.SIGPWR)
        await asyncio.wait_for(process.wait(), 2 * PATIENCE)
        exited = await states(client, api.CONTAINER_EXITED)
        assert exited.keys() == {"proxy-host", "web-host"}
        assert all(status.exit_code == 0 for status in exited.values()), "each had the time it needed"
        assert exited["web-host"].finished_at < exited["proxy-host"].finished_at - 500_000_000
        node.config.cgroup_parent = CGROUP_PARENT
        async with node.running():
            await node.until(lambda: node.container("web").ready and node.container("proxy").ready)
            assert node.container("web").restart_count == 1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await client.close()


def trapped(logs: Path) -> bool:
    return [each.read_text().count("trapped") for each in logs.glob("*/app/0.log")] == [1, 1]


async def states(client: CriClient, wanted: api.ContainerState) -> dict[str, api.ContainerStatus]:
    """Pod name → status of its container, of those in that state."""
    found = {}
    for each in await client.list_containers():
        if each.state == wanted:
            name = each.labels["io.kubernetes.pod.name"]
            found[name] = await client.container_status(each.id)
    return found

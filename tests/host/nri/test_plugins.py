"""Unmodified plugins that others wrote: one that changes containers, one that watches them start and stop."""

from __future__ import annotations

import stat
from pathlib import Path

import grpc

from tests.host.node import Node, wait_for
from tests.host.nri.conftest import Start, runs_after_killing
from tests.host.runtime.client import Client, Refused

ULIMITS = "ulimits.nri.containerd.io/container.app"
SERVER = """#!/bin/sh
echo $$ > {folder}/pid
echo '{{"path": "/bin/busybox", "size": 7, "elapsed": 3}}'
exec sleep 1000
"""


async def test_resource_limits_by_annotation(client: Client, start_plugin: Start) -> None:
    start_plugin("ulimit-adjuster-0.4", "20")
    ulimits = "- type: RLIMIT_NOFILE\n  hard: 333\n  soft: 222\n"
    pod = await client.run_pod(client.pod_config(annotations={ULIMITS: ulimits}))
    app = await client.run(pod, client.container_config("sleep", "1000"))
    other = await client.run(pod, client.container_config("sleep", "1000", name="other"))
    assert await client.output(app, "ulimit -n; ulimit -Hn") == "222\n333"
    assert await client.output(other, "ulimit -n") != "222"


async def test_a_refusal_names_the_plugin(client: Client, start_plugin: Start) -> None:
    start_plugin("ulimit-adjuster-0.4", "20")
    pod = await client.run_pod(client.pod_config(annotations={ULIMITS: "- type: RLIMIT_NONE\n"}))
    with Refused(grpc.StatusCode.UNKNOWN) as call:
        await client.create(pod, client.container_config("sleep", "1000"))
    assert "20-nri-ulimit-adjuster-0.4" in call.details
    assert "RLIMIT_NONE" in call.details


async def test_pods_go_on_without_a_plugin_that_was_killed(client: Client, start_plugin: Start) -> None:
    await runs_after_killing(start_plugin("ulimit-adjuster-0.4", "20"), client)


async def test_a_plugin_follows_a_container_from_start_to_stop(
    node: Node, client: Client, start_plugin: Start, tmp_path: Path
) -> None:
    """It finds the image's name in an annotation, where containerd writes it."""
    server = tmp_path / "server"
    server.write_text(SERVER.format(folder=tmp_path))
    server.chmod(server.stat().st_mode | stat.S_IXUSR)
    results = tmp_path / "results"
    start_plugin("optimizer", "30", "--server-path", str(server), "--persist-dir", str(results))
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000"))

    wait_for("the plugin's server", lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    wait_for("what it saw", lambda: [f for f in results.rglob("*.csv") if "busybox,7" in f.read_text()])
    await client.remove_container(app)
    await client.remove_pod(pod)
    wait_for("the server's end", lambda: "SIGTERM" in (tmp_path / "optimizer.log").read_text())

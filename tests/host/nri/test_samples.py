"""Unmodified sample plugins of github.com/containerd/nri change and watch containers."""

from __future__ import annotations

from pathlib import Path

import grpc

from tests.host.node import Node, wait_for
from tests.host.nri.conftest import Start, runs_after_killing
from tests.host.runtime.client import Client, Refused


async def test_device_and_mount_by_annotation(client: Client, start_plugin: Start, tmp_path: Path) -> None:
    start_plugin("device-injector", "10")
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "note").write_text("from the plugin")
    mount = f"- source: {tmp_path}/share\n  destination: /opt/share\n  type: bind\n  options: [bind, ro]\n"
    annotations = {
        "devices.noderesource.dev/container.app": "- path: /dev/nri\n  type: c\n  major: 1\n  minor: 5\n",
        "mounts.noderesource.dev/container.app": mount,
    }
    pod = await client.run_pod(client.pod_config(annotations=annotations))
    app = await client.run(pod, client.container_config("sleep", "1000"))
    other = await client.run(pod, client.container_config("sleep", "1000", name="other"))

    assert await client.output(app, "head -c 3 /dev/nri | wc -c") == "3"
    assert await client.output(app, "cat /opt/share/note") == "from the plugin"
    assert await client.output(app, "touch /opt/share/x 2>/dev/null || echo refused") == "refused"
    assert await client.output(other, "ls -d /dev/nri /opt/share 2>/dev/null || echo none") == "none"


async def test_resource_limits_of_a_second_plugin(client: Client, start_plugin: Start) -> None:
    start_plugin("device-injector", "10")
    start_plugin("ulimit-adjuster", "20")
    ulimits = "- type: RLIMIT_NOFILE\n  hard: 333\n  soft: 222\n"
    pod = await client.run_pod(
        client.pod_config(annotations={"ulimits.noderesource.dev/container.app": ulimits})
    )
    app = await client.run(pod, client.container_config("sleep", "1000"))
    assert await client.output(app, "ulimit -n; ulimit -Hn") == "222\n333"


async def test_a_parameter_of_the_pods_network(client: Client, start_plugin: Start) -> None:
    start_plugin("device-injector", "10")
    annotations = {"sysctl.noderesource.dev/container.app": "net.core.somaxconn: '77'\n"}
    pod = await client.run_pod(client.pod_config(annotations=annotations))
    app = await client.run(pod, client.container_config("sleep", "1000"))
    assert await client.output(app, "cat /proc/sys/net/core/somaxconn") == "77"


async def test_a_parameter_of_the_host_is_refused(client: Client, start_plugin: Start) -> None:
    start_plugin("device-injector", "10")
    annotations = {"sysctl.noderesource.dev/container.app": "kernel.panic: '1'\n"}
    pod = await client.run_pod(client.pod_config(annotations=annotations))
    with Refused(grpc.StatusCode.INVALID_ARGUMENT) as call:
        await client.create(pod, client.container_config("sleep", "1000"))
    assert "adjust.linux.sysctl" in call.details


async def test_the_logger_sees_what_is_there_and_what_happens(
    node: Node, client: Client, start_plugin: Start, tmp_path: Path
) -> None:
    pod = await client.run_pod(client.pod_config(labels={"colour": "green"}))
    early = await client.run(pod, client.container_config("sleep", "1000", name="early"))
    start_plugin("logger", "30", "-add-env", "SEEN_BY")
    log = tmp_path / "logger.log"
    wanted = ["Synchronize", early, "green"]
    wait_for("what it saw first", lambda: all(word in log.read_text() for word in wanted))

    late = await client.run(pod, client.container_config("sh", "-c", "exit 3", name="late"))
    await client.wait_exited(late)
    told = await client.run(pod, client.container_config("sleep", "1000", name="told"))
    assert (await client.output(told, "echo $SEEN_BY")).startswith("logger-pid-")
    await client.remove_pod(pod)
    wanted = ["CreateContainer", "PostCreateContainer", "StartContainer", "PostStartContainer"]
    wanted += ["StopContainer", "RemoveContainer", "StopPodSandbox", "RemovePodSandbox"]
    wait_for("all events", lambda: all(event in log.read_text() for event in wanted))


async def test_pods_go_on_without_a_plugin_that_has_died(client: Client, start_plugin: Start) -> None:
    await runs_after_killing(start_plugin("device-injector", "10"), client)

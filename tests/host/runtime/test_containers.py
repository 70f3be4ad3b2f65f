"""Containers as a CRI client sees them: what runs in them, with what rights, and how they end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.node import PATIENCE, Node, wait_for
from tests.host.runtime.client import Client, Refused, until

DEFAULT_CAPABILITIES = "00000000a80425fb"
POD_PID = api.LinuxContainerConfig(
    security_context=api.LinuxContainerSecurityContext(namespace_options=api.NamespaceOption(pid=api.POD))
)


def security(**fields: object) -> api.LinuxContainerConfig:
    context = api.LinuxContainerSecurityContext(
        namespace_options=api.NamespaceOption(pid=api.CONTAINER),
        **fields,  # type: ignore[arg-type]
    )
    return api.LinuxContainerConfig(security_context=context)


async def test_credentials_are_exact(client: Client) -> None:
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000"))
    lines = (await client.output(app, "cat /proc/self/status")).splitlines()
    values = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert values["CapEff"] == values["CapPrm"] == values["CapBnd"] == DEFAULT_CAPABILITIES
    assert int(values["CapInh"], 16) == int(values["CapAmb"], 16) == 0
    assert values["Seccomp"] == "0"
    assert (await client.status(app)).user.linux.uid == 0


async def test_a_confined_user(client: Client) -> None:
    pod = await client.run_pod()
    linux = security(
        run_as_user=api.Int64Value(value=1000),
        run_as_group=api.Int64Value(value=29),
        supplemental_groups=[44],
        no_new_privs=True,
        readonly_rootfs=True,
        capabilities=api.Capability(drop_capabilities=["ALL"]),
        seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
    )
    app = await client.run(pod, client.container_config("sleep", "1000", linux=linux))
    assert await client.output(app, "id -u; id -g") == "1000\n29"
    status = await client.output(app, "grep -E 'Seccomp:|NoNewPrivs|CapBnd' /proc/self/status")
    assert status.split() == ["CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert (await client.exec(app, "touch", "/x")).exit_code != 0
    assert (await client.exec(app, "unshare", "-U", "true")).exit_code != 0
    user = (await client.status(app)).user.linux
    assert (user.uid, user.gid) == (1000, 29)
    assert set(user.supplemental_groups) >= {29, 44}


async def test_files_of_the_pod(client: Client) -> None:
    config = client.pod_config(
        hostname="web-0",
        dns_config=api.DNSConfig(servers=["192.0.2.1"], searches=["a.b"], options=["ndots:3"]),
        linux=api.LinuxPodSandboxConfig(sysctls={"net.core.somaxconn": "77"}),
    )
    app = await client.run(await client.run_pod(config), client.container_config("sleep", "1000"))
    assert await client.output(app, "hostname; cat /etc/hostname") == "web-0\nweb-0"
    assert (
        await client.output(app, "cat /etc/resolv.conf")
        == "search a.b\nnameserver 192.0.2.1\noptions ndots:3"
    )
    assert await client.output(app, "cat /proc/sys/net/core/somaxconn") == "77"
    assert "localhost" in await client.output(app, "cat /etc/hosts")


async def test_pid_namespaces(client: Client) -> None:
    pod = await client.run_pod()
    own = await client.run(pod, client.container_config("sleep", "1000", name="own"))
    shared = await client.run(pod, client.container_config("sleep", "1001", name="shared", linux=POD_PID))
    assert (await client.output(own, "cat /proc/1/cmdline | tr '\\0' ' '")).startswith("sleep")
    assert "pause" in await client.output(shared, "cat /proc/1/cmdline")
    target = api.LinuxContainerConfig(
        security_context=api.LinuxContainerSecurityContext(
            namespace_options=api.NamespaceOption(pid=api.TARGET, target_id=own)
        )
    )
    debug = await client.run(pod, client.container_config("sleep", "1002", name="debug", linux=target))
    assert "sleep 1000" in await client.output(debug, "cat /proc/1/cmdline | tr '\\0' ' '")


async def test_a_pod_that_shares_no_pids_never_shares_the_hosts(client: Client) -> None:
    config = client.pod_config()
    config.linux.security_context.namespace_options.pid = api.CONTAINER
    app = await client.run(
        await client.run_pod(config), client.container_config("sleep", "1000", linux=POD_PID)
    )
    assert (await client.output(app, "cat /proc/1/cmdline | tr '\\0' ' '")).startswith("sleep")


async def test_mounts(client: Client, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("hello")
    (tmp_path / "link").symlink_to("real")
    mounts = [
        api.Mount(container_path="/ro", host_path=str(tmp_path / "link"), readonly=True),
        api.Mount(container_path="/rw/deep", host_path=str(tmp_path / "real"), mount_options=["noexec"]),
    ]
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000", mounts=mounts))
    assert await client.output(app, "cat /ro/file") == "hello"
    assert (await client.exec(app, "touch", "/ro/x")).exit_code != 0
    await client.output(app, "echo more > /rw/deep/other")
    assert (tmp_path / "real/other").read_text() == "more\n"
    assert list((await client.status(app)).mounts) == mounts


async def test_an_exec_that_outlives_its_time_is_killed_with_its_children(client: Client) -> None:
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    with Refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        await client.exec(app, "sh", "-c", "sleep 777 & sleep 777", timeout=1)

    async def gone() -> bool:
        return "777" not in await client.output(app, "ps")

    await until("the program's children are gone", gone)


async def test_exec_answers_though_a_child_holds_the_output(client: Client) -> None:
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    response = await asyncio.wait_for(
        client.exec(app, "sh", "-c", "sleep 5000 & echo out; echo err >&2; exit 3"), PATIENCE
    )
    assert (response.stdout, response.stderr, response.exit_code) == (b"out\n", b"err\n", 3)


async def test_exec_output_ends_at_16_mib(client: Client) -> None:
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    response = await client.exec(app, "head", "-c", "20000000", "/dev/zero")
    assert (len(response.stdout), response.exit_code) == (16 << 20, 0)


async def test_ends_and_their_reasons(client: Client) -> None:
    pod = await client.run_pod()
    for code, reason in ((0, "Completed"), (7, "Error")):
        app = await client.run(pod, client.container_config("sh", "-c", f"exit {code}", name=f"c{code}"))
        status = await client.wait_exited(app)
        assert (status.exit_code, status.reason) == (code, reason)
        assert status.created_at <= status.started_at <= status.finished_at
    bad = await client.create(pod, client.container_config("/no/such", name="bad"))
    with Refused(grpc.StatusCode.INTERNAL) as call:
        await client.start(bad)
    assert "/no/such" in call.details
    status = await client.status(bad)
    assert (status.state, status.reason, status.exit_code) == (api.CONTAINER_EXITED, "StartError", 128)


async def test_the_stop_signal_and_its_patience(client: Client) -> None:
    pod = await client.run_pod()
    polite = client.container_config(
        *("sh", "-c", "trap 'exit 5' QUIT; touch /up; while :; do sleep 0.02; done"),
        stop_signal=api.SIGNAL_SIGQUIT,
    )
    app = await client.run(pod, polite)
    await client.output(app, "until [ -e /up ]; do sleep 0.02; done")
    await client.runtime.StopContainer(api.StopContainerRequest(container_id=app, timeout=600))
    assert (await client.status(app)).exit_code == 5
    deaf = await client.run(pod, client.container_config("sh", "-c", "trap '' TERM; sleep 1000", name="deaf"))
    await client.runtime.StopContainer(api.StopContainerRequest(container_id=deaf, timeout=1))
    assert (await client.status(deaf)).exit_code == 137


async def test_logs_go_on_after_rotation(client: Client, node: Node) -> None:
    folder = node.logs / "rotated"
    pod = await client.run_pod(client.pod_config(log_directory=str(folder)))
    script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.005; done"
    app = await client.run(pod, client.container_config("sh", "-c", script, log_path="app/0.log"))
    log = folder / "app/0.log"
    await asyncio.to_thread(wait_for, "lines before", lambda: log.read_text().count("\n") > 5)
    os.rename(log, folder / "app/0.log.1")
    await client.runtime.ReopenContainerLog(api.ReopenContainerLogRequest(container_id=app))
    await asyncio.to_thread(wait_for, "lines after", lambda: log.read_text().count("\n") > 5)
    await client.runtime.StopContainer(api.StopContainerRequest(container_id=app))
    text = (folder / "app/0.log.1").read_text() + (folder / "app/0.log").read_text()
    numbers = [int(line.split(" ", 3)[3]) for line in text.splitlines()]
    assert len(numbers) > 10
    assert numbers == list(range(len(numbers)))


async def test_limits_are_enforced_or_refused_but_never_dropped(client: Client) -> None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    linux = security()
    linux.resources.memory_limit_in_bytes = 64 << 20
    config = client.container_config("sleep", "1000", linux=linux)
    pod = await client.run_pod()
    if controllers.exists() and "memory" in controllers.read_text().split():
        app = await client.run(pod, config)
        assert await client.output(app, "cat /sys/fs/cgroup/memory.max") == str(64 << 20)
        return
    with Refused(grpc.StatusCode.FAILED_PRECONDITION) as call:
        await client.create(pod, config)
    assert "memory.max" in call.details


async def test_the_image_may_be_removed_under_a_container(client: Client, node: Node, busybox: str) -> None:
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    try:
        node.crictl("rmi", busybox)
        assert await client.output(app, "echo alive; ls /bin/busybox") == "alive\n/bin/busybox"
        assert (await client.status(app)).image.image == busybox
    finally:
        node.crictl("pull", busybox)


@pytest.mark.parametrize("length", [1, 12, 14, 63])
async def test_a_prefix_hits_nobody(client: Client, length: int) -> None:
    app = await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    await client.runtime.StopContainer(api.StopContainerRequest(container_id=app[:length]))
    await client.remove_container(app[:length])
    assert (await client.status(app)).state == api.CONTAINER_RUNNING
    with Refused(grpc.StatusCode.NOT_FOUND):
        await client.exec(app[:length], "true")

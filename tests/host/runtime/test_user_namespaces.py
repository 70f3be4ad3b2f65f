"""User namespaces as a CRI client sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.node import Node
from tests.host.runtime.client import Client, until

ROOT = 200_000
IDS = [api.IDMapping(host_id=ROOT, container_id=0, length=65_536)]
_MAP = {"host_id": ROOT, "container_id": 0, "length": 65_536}


def options() -> api.NamespaceOption:
    users = api.UserNamespace(mode=api.POD, uids=IDS, gids=IDS)
    return api.NamespaceOption(pid=api.CONTAINER, userns_options=users)


def pod_linux() -> api.LinuxPodSandboxConfig:
    return api.LinuxPodSandboxConfig(
        security_context=api.LinuxSandboxSecurityContext(namespace_options=options())
    )


def container_linux(**fields: object) -> api.LinuxContainerConfig:
    context = api.LinuxContainerSecurityContext(namespace_options=options(), **fields)  # type: ignore[arg-type]
    return api.LinuxContainerConfig(security_context=context)


async def test_a_pod_with_a_user_namespace(client: Client, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    pod = await client.run_pod(client.pod_config(linux=pod_linux()))
    mount = api.Mount(container_path="/data", host_path=str(volume), uidMappings=IDS, gidMappings=IDS)
    config = client.container_config("sleep", "1000", linux=container_linux(), mounts=[mount])
    app = await client.run(pod, config)
    assert (await client.output(app, "cat /proc/self/uid_map")).split() == ["0", str(ROOT), "65536"]
    assert await client.output(app, "touch /data/x && stat -c %u:%g /data/x /etc/hosts /bin /dev/null") == (
        "0:0\n0:0\n0:0\n0:0"
    )
    assert os.stat(volume / "x").st_uid == 0
    assert "lo" in await client.output(app, "ls /sys/class/net")
    status = await client.status(app)
    assert status.user.linux.uid == 0


async def test_seccomp_and_a_user_of_its_own(client: Client) -> None:
    pod = await client.run_pod(client.pod_config(linux=pod_linux()))
    linux = container_linux(
        run_as_user=api.Int64Value(value=1000),
        run_as_group=api.Int64Value(value=29),
        no_new_privs=True,
        readonly_rootfs=True,
        capabilities=api.Capability(drop_capabilities=["ALL"]),
        seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
    )
    app = await client.run(pod, client.container_config("sleep", "1000", linux=linux))
    assert await client.output(app, "id -u; id -g") == "1000\n29"
    status = await client.output(app, "grep -E 'Seccomp:|NoNewPrivs|CapBnd' /proc/self/status")
    assert status.split() == ["CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]


async def test_the_pod_network_works(client: Client) -> None:
    pod = await client.run_pod(client.pod_config(linux=pod_linux()))
    app = await client.run(pod, client.container_config("sleep", "1000", linux=container_linux()))
    assert "eth0" in await client.output(app, "ls /sys/class/net")

    async def up() -> bool:
        return await client.output(app, "cat /sys/class/net/eth0/operstate") == "up"

    await until("eth0 is up", up)  # the kernel looks at it a little later


@pytest.mark.parametrize("masked", [[], ["/proc/timer_list"]])
async def test_empty_lists_of_paths_hide_nothing(client: Client, masked: list[str]) -> None:
    """As the kubelet's ``procMount: Unmasked`` needs it; the host's knobs are out of reach all the same."""
    pod = await client.run_pod(client.pod_config(linux=pod_linux()))
    linux = container_linux(masked_paths=masked)
    app = await client.run(pod, client.container_config("sleep", "1000", linux=linux))
    lines = (await client.output(app, "cat /proc/self/mounts")).splitlines()
    below = [line.split()[1] for line in lines if line.split()[1].startswith(("/proc/", "/sys/firmware"))]
    assert below == masked
    for knob in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"):
        assert (await client.exec(app, "sh", "-c", f": >> {knob}")).exit_code != 0, knob


def test_it_outlives_the_daemon(node: Node, busybox: str) -> None:
    users = {"mode": 0, "uids": [_MAP], "gids": [_MAP]}
    security = {"linux": {"security_context": {"namespace_options": {"pid": 1, "userns_options": users}}}}
    pod = node.run_pod("users", **security)
    before = node.start_container(pod, "before", busybox, "sleep", "1000", **security)
    node.kill()
    node.start()
    assert node.crictl("exec", "--sync", before, "cat", "/proc/self/uid_map").split()[1] == str(ROOT)
    after = node.start_container(pod, "after", busybox, "cat", "/proc/self/uid_map", **security)
    assert node.wait_exited(after)["exitCode"] == 0
    assert node.crictl("logs", after).split() == ["0", str(ROOT), "65536"]
    node.crictl("rmp", "-f", pod)

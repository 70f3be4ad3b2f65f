"""Requests of a caller who should not be believed."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.runtime.client import Client, Refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("hostname", {"hostname": "a\nroot::0:0::/:/bin/sh"}),
        ("hostname", {"hostname": "../../etc"}),
        ("hostname", {"hostname": "a" * 65}),
        ("servers", {"dns_config": api.DNSConfig(servers=["192.0.2.1\nnameserver 192.0.2.2"])}),
        ("searches", {"dns_config": api.DNSConfig(searches=["a\noptions use-vc"])}),
        ("options", {"dns_config": api.DNSConfig(options=["ndots:1\nnameserver 192.0.2.2"])}),
        ("cgroup_parent", {"linux": api.LinuxPodSandboxConfig(cgroup_parent="/../../..")}),
        ("cgroup_parent", {"linux": api.LinuxPodSandboxConfig(cgroup_parent="/a/../../b")}),
        ("cgroup_parent", {"linux": api.LinuxPodSandboxConfig(cgroup_parent="/a\nb")}),
        ("log_directory", {"log_directory": "relative/../path"}),
    ],
)
async def test_lines_and_paths_in_a_pods_fields(client: Client, field: str, settings: dict[str, Any]) -> None:
    with Refused(INVALID) as call:
        await client.run_pod(client.pod_config(**settings))
    assert field in call.details


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "kernel.shm_rmid_forced/../core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "net/ipv4/../../kernel.core_pattern",
        "net..kernel.core_pattern",
        "kernel.shm_rmid_forced+kernel.core_pattern=x",
        "kernel.shm_rmid_forced\n",
        "vm.swappiness",
        "kernel.hostname",
        "",
    ],
)
async def test_sysctls_of_the_host(client: Client, name: str) -> None:
    """CVE-2022-0811."""
    linux = api.LinuxPodSandboxConfig(sysctls={name: "|/bin/attack"})
    with Refused(INVALID) as call:
        await client.run_pod(client.pod_config(linux=linux))
    assert "sysctl" in call.details


async def test_sysctls_of_a_namespace_the_pod_shares_with_the_host(client: Client) -> None:
    for name, options in {
        "net.ipv4.ip_forward": api.NamespaceOption(network=api.NODE),
        "kernel.shm_rmid_forced": api.NamespaceOption(ipc=api.NODE),
    }.items():
        context = api.LinuxSandboxSecurityContext(namespace_options=options)
        linux = api.LinuxPodSandboxConfig(sysctls={name: "1"}, security_context=context)
        with Refused(INVALID):
            await client.run_pod(client.pod_config(linux=linux))


@pytest.mark.parametrize("path", ["../escaped.log", "a/../../escaped.log", "/escaped.log", "a\nb", "."])
async def test_a_log_outside_its_folder(client: Client, tmp_path: Path, path: str) -> None:
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path / "logs")))
    with Refused(INVALID) as call:
        container = await client.create(pod, client.container_config("true", log_path=path))
        await client.start(container)
    assert "log_path" in call.details
    assert not [found for found in (tmp_path, Path("/")) if (found / "escaped.log").exists()]


async def test_links_planted_where_a_log_goes(client: Client, tmp_path: Path, canary: Path) -> None:
    """CVE-2021-25741 and its like: neither the last part nor one before it is followed."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "file.log").symlink_to(canary / "file")
    (logs / "folder").symlink_to(canary)
    os.mkfifo(logs / "fifo")
    pod = await client.run_pod(client.pod_config(log_directory=str(logs)))
    for path in ("file.log", "folder/new.log", "fifo"):
        with pytest.raises(grpc.aio.AioRpcError):
            config = client.container_config("echo", "x", log_path=path, name=path.replace("/", "-"))
            await client.start(await client.create(pod, config))


@pytest.mark.parametrize("content", [None, b"", b"{}", b"null", b"[]", b"{", "folder", "fifo", "device"])
async def test_a_seccomp_profile_that_is_none(client: Client, tmp_path: Path, content: bytes | str) -> None:
    """CVE-2023-2431: an error, never unconfined."""
    path = tmp_path / "profile.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "fifo":
        os.mkfifo(path)
    elif content == "device":
        path.symlink_to("/dev/zero")
    context = api.LinuxContainerSecurityContext(
        seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.Localhost, localhost_ref=str(path))
    )
    pod = await client.run_pod()
    config = client.container_config(
        "sleep", "1000", linux=api.LinuxContainerConfig(security_context=context)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.start(await client.create(pod, config))
    assert "seccomp" in (caught.value.details() or "").lower() or "profile" in (caught.value.details() or "")


async def test_a_seccomp_profile_with_a_mistyped_default(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALOW", "syscalls": []}))
    context = api.LinuxContainerSecurityContext(
        seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.Localhost, localhost_ref=str(path))
    )
    pod = await client.run_pod()
    config = client.container_config(
        "sleep", "1000", linux=api.LinuxContainerConfig(security_context=context)
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await client.start(await client.create(pod, config))


@pytest.mark.parametrize(
    "identifier", ["..", ".", "/", "*", "%", "../../etc", "a" * 5000, "a\nb", "' OR 1=1 --"]
)
async def test_identifiers_that_are_none(client: Client, identifier: str) -> None:
    await client.run(await client.run_pod(), client.container_config("sleep", "1000"))
    for call in (
        client.runtime.ContainerStatus(api.ContainerStatusRequest(container_id=identifier)),
        client.runtime.PodSandboxStatus(api.PodSandboxStatusRequest(pod_sandbox_id=identifier)),
        client.runtime.ExecSync(api.ExecSyncRequest(container_id=identifier, cmd=["true"])),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() in (INVALID, grpc.StatusCode.NOT_FOUND)
    await client.runtime.StopContainer(api.StopContainerRequest(container_id=identifier))
    await client.runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=identifier))
    containers = await client.runtime.ListContainers(api.ListContainersRequest())
    assert [each.state for each in containers.containers] == [api.CONTAINER_RUNNING]


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("container_path", {"mounts": [api.Mount(container_path="", host_path="/etc")]}),
        ("container_path", {"mounts": [api.Mount(container_path="/", host_path="/etc")]}),
        ("host_path", {"mounts": [api.Mount(container_path="/x", host_path="etc")]}),
        ("host_path", {"devices": [api.Device(host_path="/etc/passwd", container_path="/dev/x")]}),
        ("container_path", {"devices": [api.Device(host_path="/dev/null", container_path="../x")]}),
        (
            "permissions",
            {"devices": [api.Device(host_path="/dev/null", container_path="/dev/x", permissions="z")]},
        ),
        ("working_dir", {"working_dir": "../.."}),
        ("env", {"envs": [api.KeyValue(key="A=B", value=b"x")]}),
        ("env", {"envs": [api.KeyValue(key="", value=b"x")]}),
    ],
)
async def test_fields_of_a_container(client: Client, field: str, settings: dict[str, Any]) -> None:
    pod = await client.run_pod()
    with Refused(INVALID) as call:
        await client.start(await client.create(pod, client.container_config("true", **settings)))
    assert field in call.details


async def test_an_argument_the_kernel_does_not_take(client: Client) -> None:
    pod = await client.run_pod()
    container = await client.create(pod, client.container_config("echo", "x" * 200_000))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.start(container)
    assert "E2BIG" in (caught.value.details() or "")


async def test_calls_that_race_with_their_containers_end(client: Client) -> None:
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000"))
    execs = [client.exec(app, "sh", "-c", "sleep 0.02; yes | head -c 100000") for _ in range(20)]
    stop = client.runtime.StopContainer(api.StopContainerRequest(container_id=app))
    results = await asyncio.wait_for(asyncio.gather(*execs, stop, return_exceptions=True), 30)
    assert all(isinstance(each, grpc.aio.AioRpcError) or hasattr(each, "exit_code") for each in results[:-1])
    assert not isinstance(results[-1], BaseException)

"""Checkpoints restored by CRIU: the program goes on where it was, in another pod."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.linux.capabilities import names, of_process
from minikubelet.linux.mounts import mount, unmount
from tests.host.node import Node, wait_for
from tests.host.runtime.client import Client, Refused
from tests.host.runtime.test_checkpoint import criu
from tests.images.build import Image, Layer, Manifest, build_image
from tests.registry import Registry

__all__ = ["criu"]

COUNT = (
    "trap 'exit 7' TERM; echo kept > /root/made; rm /etc/group; echo in memory > /dev/shm/x; "
    "i=0; while :; do i=$((i+1)); echo $i; echo $i > /root/last; sleep 0.05; done"
)


@pytest.mark.usefixtures("criu")
async def test_counting_goes_on_in_another_pod(node: Node, client: Client, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mounts = [api.Mount(container_path="/data", host_path=str(tmp_path / "data"))]
    log = await _first(node, client, tmp_path, mounts)
    old = len(_lines(log))

    (tmp_path / "new").mkdir()
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path / "new"), hostname="newhost"))
    config = client.container_config("sh", "-c", COUNT, log_path="app.log", mounts=mounts)
    config.image.image = f"{tmp_path}/checkpoint.tar"
    app = await client.create(pod, config)
    await client.start(app)

    log = tmp_path / "new/app.log"
    await asyncio.to_thread(wait_for, "lines after the restore", lambda: len(_lines(log)) >= old + 5)
    numbers = [int(line.split(" ", 3)[3]) for line in _lines(log)]
    assert numbers == list(range(1, len(numbers) + 1))
    status = await client.status(app)
    assert status.state == api.CONTAINER_RUNNING
    assert status.annotations["restored"] == "true"
    assert await client.output(app, "cat /root/made") == "kept"
    assert await client.output(app, "ls /etc/group 2>/dev/null || echo gone") == "gone"
    assert await client.output(app, "hostname") == "newhost"
    assert "sh" in await client.output(app, "cat /proc/1/comm")
    assert await client.output(app, "touch /data/seen /dev/shm/y; ls /data") == "seen"
    assert await client.output(app, "touch /proc/sys/kernel/x 2>/dev/null || echo no") == "no"
    assert not os.path.exists(node.root / "containers" / app / "checkpoint")

    await client.runtime.StopContainer(api.StopContainerRequest(container_id=app, timeout=60))
    status = await client.status(app)
    assert (status.state, status.exit_code) == (api.CONTAINER_EXITED, 7)
    await client.runtime.RemoveContainer(api.RemoveContainerRequest(container_id=app))


async def _first(
    node: Node, client: Client, tmp_path: Path, mounts: list[api.Mount], script: str = COUNT, **fields: Any
) -> Path:
    """Run a container, checkpoint it to tmp_path and remove it with its pod; the path of its log."""
    (tmp_path / "old").mkdir()
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path / "old"), hostname="oldhost"))
    config = client.container_config("sh", "-c", script, log_path="app.log", mounts=mounts, **fields)
    app = await client.run(pod, config)
    log = tmp_path / "old/app.log"
    await asyncio.to_thread(wait_for, "the first lines", lambda: log.exists() and len(_lines(log)) >= 5)
    node.crictl("checkpoint", "--export", f"{tmp_path}/checkpoint.tar", app)
    await client.runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=pod))
    return log


def _lines(log: Path) -> list[str]:
    """Those that are whole: the last one may be half written."""
    text = log.read_text() if log.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


@pytest.mark.usefixtures("criu")
async def test_a_container_with_few_rights(node: Node, client: Client, tmp_path: Path) -> None:
    """User, capabilities, seccomp filter and read-only mounts come back; a daemon may come and go."""
    # CRIU reads other users' limits, for which it takes a capability that this machine may lack (prlimit(2)).
    user = 1234 if "CAP_SYS_RESOURCE" in names(of_process()["effective"]) else 0
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; [ $i -lt 1000000 ] || exit; done"
    linux = api.LinuxContainerConfig()
    secure = linux.security_context
    secure.namespace_options.pid = api.CONTAINER
    secure.run_as_user.value = user
    secure.no_new_privs = True
    secure.seccomp.profile_type = api.SecurityProfile.RuntimeDefault
    secure.capabilities.drop_capabilities.append("ALL")
    linux.resources.oom_score_adj = 500
    mounts = [api.Mount(container_path="/data", host_path=str(tmp_path), readonly=True)]
    log = await _first(node, client, tmp_path, mounts, script=script, linux=linux)
    old = len(_lines(log))

    (tmp_path / "new").mkdir()
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path / "new")))
    config = client.container_config("sh", "-c", script, log_path="app.log", mounts=mounts, linux=linux)
    config.image.image = f"{tmp_path}/checkpoint.tar"
    app = await client.create(pod, config)
    await client.start(app)
    log = tmp_path / "new/app.log"
    await asyncio.to_thread(wait_for, "lines after the restore", lambda: len(_lines(log)) >= old + 3)
    facts = dict(line.split(":\t") for line in (await client.output(app, "cat /proc/1/status")).splitlines())
    assert facts["Uid"].split() == [str(user)] * 4
    assert (facts["CapBnd"], facts["NoNewPrivs"], facts["Seccomp"]) == ("0" * 16, "1", "2")
    assert await client.output(app, "cat /proc/1/oom_score_adj") == "500"
    for target in ("/data", "/proc/sys", "/sys/fs/cgroup"):
        assert await client.output(app, f"grep -c ' {target} ro' /proc/1/mountinfo") == "1"

    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)
    assert (await client.status(app)).state == api.CONTAINER_RUNNING
    before = len(_lines(log))
    await asyncio.to_thread(wait_for, "more lines", lambda: len(_lines(log)) > before)
    await client.runtime.StopContainer(api.StopContainerRequest(container_id=app, timeout=0))
    assert (await client.status(app)).exit_code == 137


def _archive(path: Path, members: dict[str, bytes | str]) -> str:
    """A tar of what any checkpoint has, and of ``members``: files, symbolic links where they are str."""
    facts = json.dumps({"rootfsImageRef": "sha256:" + 64 * "0", "rootfsImage": "gone"}).encode()
    whole = {"config.dump": facts, "checkpoint/inventory.img": b"", **members}
    with tarfile.open(path, "w") as tar:
        for name, content in whole.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    ("members", "code", "told"),
    [
        ({}, grpc.StatusCode.NOT_FOUND, "is not here"),
        ({"config.dump": b"{}"}, grpc.StatusCode.INVALID_ARGUMENT, "rootfsImageRef"),
        ({"config.dump": b"{"}, grpc.StatusCode.INVALID_ARGUMENT, "config.dump"),
        ({"config.dump": "/etc/passwd"}, grpc.StatusCode.INVALID_ARGUMENT, "something else than files"),
        (
            {"checkpoint/core-1.img": "/etc/passwd"},
            grpc.StatusCode.INVALID_ARGUMENT,
            "something else than files",
        ),
        ({"checkpoint/.wh.x": b""}, grpc.StatusCode.INVALID_ARGUMENT, "something else than files"),
        ({"../../escaped": b"x"}, grpc.StatusCode.INVALID_ARGUMENT, "can't be unpacked"),
    ],
)
async def test_bad_archives(
    node: Node,
    client: Client,
    tmp_path: Path,
    members: dict[str, bytes | str],
    code: grpc.StatusCode,
    told: str,
) -> None:
    if shutil.which("criu") is None:
        pytest.skip("no criu (Debian: apt-get install criu)")
    pod = await client.run_pod()
    config = client.container_config("sh")
    config.image.image = _archive(tmp_path / "checkpoint.tar", members)
    with Refused(code) as call:
        await client.create(pod, config)
    assert told in call.details
    assert os.listdir(node.root / "trash") == [] and os.listdir(node.root / "containers") == []


async def test_archives_that_others_can_write(client: Client, tmp_path: Path) -> None:
    if shutil.which("criu") is None:
        pytest.skip("no criu (Debian: apt-get install criu)")
    pod = await client.run_pod()
    path = tmp_path / "checkpoint.tar"
    config = client.container_config("sh")
    config.image.image = _archive(path, {})
    path.chmod(0o622)
    with Refused(grpc.StatusCode.INVALID_ARGUMENT) as call:
        await client.create(pod, config)
    assert "writable by nobody else" in call.details
    path.chmod(0o600)
    os.chown(path, 1000, 1000)
    with Refused(grpc.StatusCode.INVALID_ARGUMENT) as call:
        await client.create(pod, config)
    assert "must belong to" in call.details
    os.unlink(path)
    os.symlink("/dev/zero", path)
    with Refused(grpc.StatusCode.INVALID_ARGUMENT):
        await client.create(pod, config)


@pytest.mark.usefixtures("criu")
async def test_what_criu_refuses(node: Node, client: Client, tmp_path: Path) -> None:
    """Images that CRIU can't read: the container ends with StartError, its reason told, and nothing stays."""
    await _first(node, client, tmp_path, [])
    with tarfile.open(tmp_path / "checkpoint.tar") as tar:
        tar.extractall(tmp_path / "parts", filter="fully_trusted")
    (tmp_path / "parts/checkpoint/core-1.img").write_bytes(b"nothing of the kind")
    with tarfile.open(tmp_path / "broken.tar", "w") as tar:
        for name in os.listdir(tmp_path / "parts"):
            tar.add(tmp_path / "parts" / name, name)
    (tmp_path / "broken.tar").chmod(0o600)
    pod = await client.run_pod()
    config = client.container_config("sh")
    config.image.image = f"{tmp_path}/broken.tar"
    app = await client.create(pod, config)
    with Refused(grpc.StatusCode.FAILED_PRECONDITION) as call:
        await client.start(app)
    assert "CRIU can't restore the checkpoint" in call.details and "core-1.img" in call.details
    status = await client.status(app)
    assert (status.state, status.reason, status.exit_code) == (api.CONTAINER_EXITED, "StartError", 128)


async def test_pods_that_can_not_be_restored_into(client: Client, tmp_path: Path) -> None:
    pod = await client.run_pod()
    config = client.container_config("sh", tty=True)
    config.image.image = _archive(tmp_path / "checkpoint.tar", {})
    with Refused(grpc.StatusCode.UNIMPLEMENTED) as call:
        await client.create(pod, config)
    assert "terminal" in call.details
    config.tty = False
    config.linux.security_context.readonly_rootfs = True
    with Refused(grpc.StatusCode.UNIMPLEMENTED) as call:
        await client.create(pod, config)
    assert "read-only root" in call.details
    config.linux.security_context.readonly_rootfs = False
    config.linux.security_context.namespace_options.pid = api.POD
    linux = api.LinuxPodSandboxConfig()
    linux.security_context.namespace_options.pid = api.POD
    pod = await client.run_pod(client.pod_config(linux=linux))
    with Refused(grpc.StatusCode.UNIMPLEMENTED) as call:
        await client.create(pod, config)
    assert "PIDs" in call.details


@pytest.mark.parametrize(
    "name", ["io.kubernetes.cri-o.annotations.checkpoint.name", "org.criu.checkpoint.container.name"]
)
async def test_images_that_are_checkpoints(node: Node, client: Client, registry: Registry, name: str) -> None:
    """What a registry has is no reason to run processes with rights that no pod was given."""
    made = build_image([Layer().file("config.dump", b"{}")], {})
    document = {**made.manifest, "annotations": {name: "app"}}
    top = Manifest(made.top.media_type, json.dumps(document).encode())
    registry.add("checkpoint:1", Image(top, {top.digest: top}, made.blobs))
    reference = f"{registry.address}/checkpoint:1"
    node.crictl("pull", reference)
    pod = await client.run_pod()
    config = client.container_config("sh")
    config.image.image = reference
    with Refused(grpc.StatusCode.UNIMPLEMENTED) as call:
        await client.create(pod, config)
    assert name in call.details and "config.image" in call.details
    node.crictl("rmi", reference)


@pytest.mark.usefixtures("criu")
async def test_mounts_below_a_mount(node: Node, client: Client, tmp_path: Path) -> None:
    """CRIU knows nothing of where they would come from now, and says so."""
    (tmp_path / "data/below").mkdir(parents=True)
    mount("below", str(tmp_path / "data/below"), "tmpfs", 0, "size=64k")
    try:
        mounts = [api.Mount(container_path="/data", host_path=str(tmp_path / "data"))]
        await _first(node, client, tmp_path, mounts)
        pod = await client.run_pod()
        config = client.container_config("sh", mounts=mounts)
        config.image.image = f"{tmp_path}/checkpoint.tar"
        app = await client.create(pod, config)
        with Refused(grpc.StatusCode.FAILED_PRECONDITION) as call:
            await client.start(app)
        assert "No mapping for" in call.details
        assert (await client.status(app)).reason == "StartError"
    finally:
        unmount(str(tmp_path / "data/below"))

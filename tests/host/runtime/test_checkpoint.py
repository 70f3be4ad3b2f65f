"""Checkpoints by CRIU: the archive is complete, and the container goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.node import Node, wait_for
from tests.host.runtime.client import Client, Refused

COUNT = "i=0; echo kept > /root/made; rm /etc/group; while :; do i=$((i+1)); echo $i; sleep 0.05; done"


@pytest.fixture
def criu() -> None:
    """CRIU that works on this kernel; Debian 12's doesn't on kernels whose vDSO has no DT_HASH."""
    program = shutil.which("criu")
    if program is None:
        pytest.skip("no criu (Debian: apt-get install criu)")
    done = subprocess.run([program, "check"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"criu check fails on this kernel: {done.stderr.strip().splitlines()[-1:]}")


@pytest.mark.usefixtures("criu")
async def test_a_counting_container(node: Node, client: Client, tmp_path: Path) -> None:
    logs = node.logs / "counting"
    logs.mkdir()
    (tmp_path / "data").mkdir()
    mounts = [api.Mount(container_path="/data", host_path=str(tmp_path / "data"))]
    pod = await client.run_pod(client.pod_config(log_directory=str(logs)))
    config = client.container_config("sh", "-c", COUNT, log_path="app.log", mounts=mounts)
    app = await client.run(pod, config)
    log = logs / "app.log"
    await asyncio.to_thread(wait_for, "the first lines", lambda: log.exists() and _lines(log) >= 5)

    archive = tmp_path / "checkpoint.tar"
    node.crictl("checkpoint", "--export", str(archive), app)

    before = _lines(log)
    status = await client.status(app)
    assert status.state == api.CONTAINER_RUNNING
    await asyncio.to_thread(wait_for, "more lines", lambda: _lines(log) >= before + 3)
    assert os.stat(archive).st_mode & 0o777 == 0o600
    assert os.listdir(node.root / "trash") == []
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        assert {"config.dump", "spec.dump", "status.dump", "status", "stats-dump", "dump.log"} <= set(names)
        assert any(name.startswith("checkpoint/core-") for name in names)
        assert any(name.startswith("checkpoint/pages-") for name in names)
        facts = json.load(_file(tar, "config.dump"))
        assert facts["id"] == app and facts["rootfsImageRef"] == status.image_ref
        assert json.load(_file(tar, "status.dump"))["metadata"] == {"name": "app"}
        assert json.load(_file(tar, "spec.dump"))["annotations"]["io.kubernetes.cri.sandbox-id"] == pod
        assert b"stdout F 1\n" in _file(tar, "container.log").read()
        with tarfile.open(fileobj=_file(tar, "rootfs-diff.tar")) as layer:
            assert _file(layer, "root/made").read() == b"kept\n"
            assert "etc/.wh.group" in layer.getnames()


def _lines(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


def _file(tar: tarfile.TarFile, name: str):  # type: ignore[no-untyped-def]
    content = tar.extractfile(name)
    assert content is not None, name
    return content


async def test_what_can_not_be_checkpointed(client: Client, tmp_path: Path) -> None:
    pod = await client.run_pod()
    app = await client.create(pod, client.container_config("sleep", "1000", tty=True))

    async def checkpoint(location: str) -> None:
        request = api.CheckpointContainerRequest(container_id=app, location=location)
        await client.runtime.CheckpointContainer(request)

    with Refused(grpc.StatusCode.FAILED_PRECONDITION):
        await checkpoint(f"{tmp_path}/archive")
    await client.start(app)
    for location in ("", "archive", "/a/../archive", f"{tmp_path}/nowhere/archive"):
        with Refused(grpc.StatusCode.INVALID_ARGUMENT) as call:
            await checkpoint(location)
        assert "location" in call.details
    if shutil.which("criu"):
        with Refused(grpc.StatusCode.FAILED_PRECONDITION) as call:
            await checkpoint(f"{tmp_path}/archive")
        assert "terminal" in call.details
    assert os.listdir(tmp_path) == []

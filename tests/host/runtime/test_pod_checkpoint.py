"""Whole pods checkpointed as of one moment, and restored."""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.node import Node, wait_for
from tests.host.runtime.client import Client, Refused
from tests.host.runtime.test_checkpoint import criu

__all__ = ["criu"]

WRITE = (
    "i=0; while :; do i=$((i+1)); echo $i > /shared/new; mv /shared/new /shared/x; echo $i; sleep 0.02; done"
)
READ = "while :; do [ ! -e /shared/x ] || cat /shared/x; sleep 0.02; done"


class Pair:
    """A pod with two containers, one of which repeats what the other counts."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder
        (folder / "shared").mkdir()
        self.output = folder / "checkpoint"
        self.output.mkdir(mode=0o700)
        self.containers: dict[str, str] = {}
        self.pod = ""

    def configs(self) -> dict[str, api.ContainerConfig]:
        mount = api.Mount(container_path="/shared", host_path=str(self.folder / "shared"))
        return {
            name: self.client.container_config(
                *("sh", "-c", script), name=name, log_path=f"{name}.log", mounts=[mount]
            )
            for name, script in (("writer", WRITE), ("reader", READ))
        }

    def pod_config(self, logs: str) -> api.PodSandboxConfig:
        return self.client.pod_config(log_directory=str(self.folder / logs), hostname="pair")

    async def run(self) -> None:
        self.pod = await self.client.run_pod(self.pod_config("old"))
        for name, config in self.configs().items():
            self.containers[name] = await self.client.run(self.pod, config)
        for name in self.containers:
            await self.written("old", name, 5)

    async def checkpoint(self, **more: Any) -> None:
        fields = {
            "pod_sandbox_id": self.pod,
            "output_path": str(self.output),
            "container_ids": list(self.containers.values()),
        }
        await self.client.runtime.CheckpointPod(api.CheckpointPodRequest(**(fields | more)))

    async def restore(self, **more: Any) -> api.RestorePodResponse:
        fields: dict[str, Any] = {
            "checkpoint_path": str(self.output),
            "config": self.pod_config("new"),
            "container_configs": list(self.configs().values()),
        }
        response: api.RestorePodResponse = await self.client.runtime.RestorePod(
            api.RestorePodRequest(**(fields | more))
        )
        return response

    def numbers(self, logs: str, name: str) -> list[int]:
        path = self.folder / logs / f"{name}.log"
        text = path.read_text() if path.exists() else ""
        return [int(line.split(" ", 3)[3]) for line in text[: text.rfind("\n") + 1].splitlines()]

    async def written(self, logs: str, name: str, count: int) -> None:
        await asyncio.to_thread(wait_for, f"lines of {name}", lambda: len(self.numbers(logs, name)) >= count)

    def captured(self) -> dict[str, int]:
        """The last number in each container's log within the checkpoint."""
        found = {}
        for member in json.loads((self.output / "pod.json").read_text())["members"]:
            with tarfile.open(self.output / member["file"]) as tar:
                content = tar.extractfile("container.log")
                assert content is not None
                found[member["name"]] = int(content.read().split()[-1])
        return found


@pytest.fixture
async def pair(client: Client, tmp_path: Path) -> Pair:
    return Pair(client, tmp_path)


@pytest.mark.usefixtures("criu")
async def test_a_pod_goes_on_as_of_one_moment(node: Node, pair: Pair) -> None:
    client = pair.client
    await pair.run()
    await pair.checkpoint()
    for name, container in pair.containers.items():
        assert (await client.status(container)).state == api.CONTAINER_RUNNING
        await pair.written("old", name, len(pair.numbers("old", name)) + 3)
    last = pair.captured()
    assert abs(last["writer"] - last["reader"]) <= 2, "they did not stand still together"
    assert sorted(os.listdir(pair.output)) == ["container-0.tar", "container-1.tar", "pod.json"]
    assert {os.stat(pair.output / name).st_mode & 0o777 for name in os.listdir(pair.output)} == {0o600}
    assert os.listdir(node.root / "trash") == []
    await client.remove_pod(pair.pod)

    before = {name: (pair.output / name).read_bytes() for name in os.listdir(pair.output)}
    response = await pair.restore()
    restored = {each.name: each.container_id for each in response.restored_containers}
    assert set(restored) == {"writer", "reader"}
    for name, container in restored.items():
        status = await client.status(container)
        assert (status.state, status.image.image) == (api.CONTAINER_CREATED, client.image)
        assert pair.numbers("new", name)[-1:] == [last[name]], "it has run, or its log is not the old one"
    for container in restored.values():
        await client.start(container)
    for name in restored:
        await pair.written("new", name, len(pair.numbers("old", name)) + 3)
    numbers = pair.numbers("new", "writer")
    assert numbers == list(range(1, len(numbers) + 1))
    assert {name: (pair.output / name).read_bytes() for name in before} == before


Fields = Callable[[Pair], dict[str, Any]]

WRONG_CHECKPOINTS: dict[str, Fields] = {
    "container_ids": lambda pair: {"container_ids": []},
    "container_ids[1]": lambda pair: {"container_ids": [pair.containers["reader"]] * 2},
    "output_path": lambda pair: {"output_path": "checkpoint"},
    "output_path: '/nowhere": lambda pair: {"output_path": "/nowhere/at/all"},
    "is not empty": lambda pair: {"output_path": str(pair.folder)},
    "options['tcp']": lambda pair: {"options": {"tcp": "true"}},
}
WRONG_RESTORES: dict[str, Fields] = {
    "container_configs: lacks writer": lambda pair: {"container_configs": [pair.configs()["reader"]]},
    "container_configs[1].metadata.name": lambda pair: {"container_configs": [pair.configs()["reader"]] * 2},
    "container_configs[0].command": lambda pair: {
        "container_configs": [
            pair.client.container_config("sh", "-c", "other", name="writer"),
            pair.configs()["reader"],
        ]
    },
    "checkpoint_path: '": lambda pair: {"checkpoint_path": str(pair.folder / "shared")},
    "checkpoint_path": lambda pair: {"checkpoint_path": "relative"},
    "options['x']": lambda pair: {"options": {"x": "y"}},
}


@pytest.mark.usefixtures("criu")
async def test_wrong_requests_leave_nothing(client: Client, pair: Pair) -> None:
    await pair.run()
    for text, fields in WRONG_CHECKPOINTS.items():
        with Refused(grpc.StatusCode.INVALID_ARGUMENT) as call:
            await pair.checkpoint(**fields(pair))
        assert text in call.details
    assert os.listdir(pair.output) == []
    await pair.checkpoint()
    await client.remove_pod(pair.pod)
    for text, fields in WRONG_RESTORES.items():
        with Refused(grpc.StatusCode.INVALID_ARGUMENT) as call:
            await pair.restore(**fields(pair))
        assert text in call.details
        assert not (await client.runtime.ListPodSandbox(api.ListPodSandboxRequest())).items
    os.chmod(pair.output, 0o777)
    with Refused(grpc.StatusCode.INVALID_ARGUMENT) as call:
        await pair.restore()
    assert "writable by nobody else" in call.details


@pytest.mark.usefixtures("criu")
async def test_one_that_fails_takes_back_the_others(client: Client, pair: Pair) -> None:
    await pair.run()
    tty = await client.run(pair.pod, client.container_config("sleep", "1000", name="tty", tty=True))
    with Refused(grpc.StatusCode.FAILED_PRECONDITION):
        await pair.checkpoint(container_ids=[*pair.containers.values(), tty])
    # What CRIU refuses, it tells in the middle: a mount below a mount that came with it.
    created = await client.create(pair.pod, client.container_config("sleep", "1000", name="created"))
    with Refused(grpc.StatusCode.FAILED_PRECONDITION):
        await pair.checkpoint(container_ids=[*pair.containers.values(), created])
    assert os.listdir(pair.output) == []
    for name, container in pair.containers.items():
        assert (await client.status(container)).state == api.CONTAINER_RUNNING
        await pair.written("old", name, len(pair.numbers("old", name)) + 3)

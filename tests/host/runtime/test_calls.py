"""Calls that are cancelled, repeated, or come all at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from minikubelet.criapi import api_pb2 as api
from tests.host.node import PATIENCE, Node
from tests.host.runtime.client import Client, Refused, until

POINTS = 40


async def cancelled_after(seconds: float, call: Any) -> bool:
    """Whether the call was cancelled before it was answered."""

    async def wait() -> None:
        await call

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(seconds)
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, grpc.aio.AioRpcError):
        return True
    return False


async def pods(client: Client) -> set[str]:
    answer = await client.runtime.ListPodSandbox(api.ListPodSandboxRequest())
    return {item.id for item in answer.items}


async def settled(node: Node, count: int) -> None:
    """Wait until no more than ``count`` pods have a folder."""

    async def few() -> bool:
        return len(os.listdir(node.run / "pods")) <= count

    await until(f"no more than {count} pods", few)


async def test_cancelled_sandboxes_leave_nothing_and_a_retry_succeeds(client: Client, node: Node) -> None:
    kept = 0
    for point in range(POINTS):
        config = client.pod_config()
        call = client.runtime.RunPodSandbox(api.RunPodSandboxRequest(config=config))
        await cancelled_after(point / POINTS * 0.02, call)
        try:
            await client.run_pod(config)
        except grpc.aio.AioRpcError as exc:  # it was answered just before
            assert exc.code() is grpc.StatusCode.ALREADY_EXISTS, exc.details()
        kept = len(await pods(client))
        await settled(node, kept)
    assert kept == POINTS
    for pod in await pods(client):
        await client.remove_pod(pod)
    await settled(node, 0)


async def test_a_cancelled_start_can_be_repeated(client: Client) -> None:
    pod = await client.run_pod()
    for point in range(POINTS):
        app = await client.create(pod, client.container_config("sleep", "1000", name=f"c{point}"))
        call = client.runtime.StartContainer(api.StartContainerRequest(container_id=app))
        await cancelled_after(point / POINTS * 0.015, call)
        try:
            await client.start(app)
        except grpc.aio.AioRpcError as exc:
            assert exc.code() is grpc.StatusCode.FAILED_PRECONDITION, exc.details()
        assert (await client.status(app)).state == api.CONTAINER_RUNNING
        await client.remove_container(app)


async def test_cancelled_removals_converge(client: Client, node: Node) -> None:
    for point in range(10):
        pod = await client.run_pod()
        await client.run(pod, client.container_config("sleep", "1000"))
        for call in (
            client.runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod)),
            client.runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=pod)),
        ):
            await cancelled_after(point / 2000, call)
        await client.remove_pod(pod)
    await settled(node, 0)
    assert not await pods(client)


async def test_fifty_identical_requests_make_one_sandbox(client: Client) -> None:
    config = client.pod_config()
    results = await asyncio.gather(*(client.run_pod(config) for _ in range(50)), return_exceptions=True)
    made = [result for result in results if isinstance(result, str)]
    codes = {result.code() for result in results if isinstance(result, grpc.aio.AioRpcError)}
    assert len(made) == 1
    assert codes == {grpc.StatusCode.ALREADY_EXISTS}
    assert await pods(client) == set(made)


async def test_many_pods_at_once(client: Client) -> None:
    async def life() -> None:
        pod = await client.run_pod()
        app = await client.run(pod, client.container_config("sleep", "1000"))
        assert (await client.exec(app, "true")).exit_code == 0
        await client.runtime.StopContainer(api.StopContainerRequest(container_id=app))
        await client.remove_pod(pod)

    await asyncio.gather(*(life() for _ in range(20)))
    assert not await pods(client)


async def test_everything_stops_and_goes_at_once(client: Client) -> None:
    pod = await client.run_pod()
    apps = [
        await client.run(pod, client.container_config("sleep", "1000", name=f"c{number}"))
        for number in range(5)
    ]
    calls = []
    for app in apps:
        calls += [
            client.runtime.StopContainer(api.StopContainerRequest(container_id=app, timeout=1)),
            client.runtime.RemoveContainer(api.RemoveContainerRequest(container_id=app)),
        ]
    for _ in range(3):
        calls += [
            client.runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod)),
            client.runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=pod)),
        ]
    await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
    assert not await pods(client)


async def test_events_tell_a_pods_life_in_order(client: Client) -> None:
    seen: list[tuple[str, int]] = []
    early: list[str] = []
    stream = client.runtime.GetContainerEvents(api.GetEventsRequest())

    async def listen() -> None:
        async for event in stream:
            seen.append((event.container_id, event.container_event_type))

    async def gone(pod: str) -> bool:
        return (pod, 3) in seen

    async def heard() -> bool:
        """Whether the stream is there: of a pod that went before it came nothing is told."""
        early.append(await client.run_pod())
        await client.remove_pod(early[-1])
        return bool(seen)

    listener = asyncio.ensure_future(listen())
    await until("the stream tells something", heard)
    await until("the early pod's end is told", lambda: gone(early[-1]))
    seen.clear()
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000"))
    await client.runtime.StopContainer(api.StopContainerRequest(container_id=app))
    await client.remove_container(app)
    await client.runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod))
    await client.remove_pod(pod)
    await until("the pod's end is told", lambda: gone(pod))
    stream.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listener
    assert seen == [(pod, 0), (pod, 1), (app, 0), (app, 1), (app, 2), (app, 3), (pod, 2), (pod, 3)]


async def test_a_lost_monitor_is_told_and_can_be_removed(client: Client) -> None:
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000"))
    request = api.PodSandboxStatusRequest(pod_sandbox_id=pod, verbose=True)
    info = json.loads((await client.runtime.PodSandboxStatus(request)).info["info"])
    os.kill(info["monitorPid"], signal.SIGKILL)
    status = await client.wait_exited(app)
    assert (status.exit_code, status.reason) == (137, "Error")
    assert "monitor" in status.message
    sandbox = (await client.runtime.PodSandboxStatus(request)).status
    assert sandbox.state == api.SANDBOX_NOTREADY
    with Refused(grpc.StatusCode.FAILED_PRECONDITION):
        await client.create(pod, client.container_config("true", name="late"))
    await client.remove_pod(pod)
    await client.run_pod()


async def test_a_second_daemon_on_the_same_folders_is_refused(node: Node) -> None:
    process = await asyncio.create_subprocess_exec(
        *node.command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode != 0
    assert b"another minikubelet daemon" in output
    assert Path(node.socket).exists()


async def test_statistics(client: Client) -> None:
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sh", "-c", "while :; do :; done"))
    await client.output(app, "head -c 1000000 /dev/zero > /file")

    async def measured() -> api.ContainerStats | None:
        request = api.ContainerStatsRequest(container_id=app)
        stats: api.ContainerStats = (await client.runtime.ContainerStats(request)).stats
        return stats if stats.writable_layer.used_bytes.value >= 1000000 else None

    stats = await until("the file is counted", measured)
    assert stats.attributes.id == app
    assert stats.cpu.usage_core_nano_seconds.value > 0
    assert stats.memory.working_set_bytes.value > 0
    answer = await client.runtime.ListPodSandboxStats(api.ListPodSandboxStatsRequest())
    (usage,) = answer.stats
    assert usage.attributes.id == pod
    assert usage.linux.network.default_interface.name == "eth0"
    assert [item.attributes.id for item in usage.linux.containers] == [app]
    assert usage.linux.process.process_count.value >= 2


async def test_streamed_lists_are_the_lists(client: Client) -> None:
    pod = await client.run_pod(client.pod_config(labels={"app": "one"}))
    other = await client.run_pod(client.pod_config(labels={"app": "two"}))
    app = await client.run(pod, client.container_config("sleep", "1000"))
    runtime = client.runtime
    wanted = api.PodSandboxFilter(label_selector={"app": "one"})
    pods_found = [
        item.id
        async for message in runtime.StreamPodSandboxes(api.StreamPodSandboxesRequest(filter=wanted))
        for item in message.pod_sandboxes
    ]
    assert pods_found == [pod]
    of_other = api.ContainerFilter(pod_sandbox_id=other)
    for choice, expected in ((api.ContainerFilter(), [app]), (of_other, [])):
        found = [
            item.id
            async for message in runtime.StreamContainers(api.StreamContainersRequest(filter=choice))
            for item in message.containers
        ]
        assert found == expected
    stats = [
        item.attributes.id
        async for message in runtime.StreamContainerStats(api.StreamContainerStatsRequest())
        for item in message.container_stats
    ]
    assert stats == [app]
    pod_stats = [
        item.attributes.id
        async for message in runtime.StreamPodSandboxStats(api.StreamPodSandboxStatsRequest())
        for item in message.pod_sandbox_stats
    ]
    metrics = [
        item.pod_sandbox_id
        async for message in runtime.StreamPodSandboxMetrics(api.StreamPodSandboxMetricsRequest())
        for item in message.pod_sandbox_metrics
    ]
    assert set(pod_stats) == set(metrics) == {pod, other}

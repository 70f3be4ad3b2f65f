"""Logs rotated without loss, images and sandboxes that nobody needs removed, links kept."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from pathlib import Path

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import log_links
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.gc import ImageGarbage
from minikubelet.kubelet.logrotate import LogRotation, remove_log
from minikubelet.kubelet.observed import RUNNING, ObservedContainer
from minikubelet.kubelet.resource_config import GarbageConfig
from tests.fake_images import CriError
from tests.unit.kubelet.harness import Harness, make_pod


class Reopening:
    """The part of a runtime that counts: it opens the log anew, or fails to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.path = ""
        self.count = 0

    async def reopen_container_log(self, container_id: str) -> None:
        from minikubelet.base.errors import Code, NodeError

        self.count += 1
        if self.fails:
            raise NodeError(Code.INTERNAL, "no")
        Path(self.path).touch()


def running(path: Path, identifier: str = "c1") -> ObservedContainer:
    return ObservedContainer(
        id=identifier,
        sandbox_id="s",
        pod_uid="u",
        name="app",
        attempt=0,
        state=RUNNING,
        created_at=1,
        hash="",
        restart_count=0,
        log_path=str(path),
    )


def rotation(runtime: Reopening, folder: Path, **config: object) -> LogRotation:
    return LogRotation(runtime, GarbageConfig(log_max_size=10, **config), str(folder))  # type: ignore[arg-type]


async def test_a_large_log_is_renamed_and_the_former_one_compressed(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("0123456789\n")
    (tmp_path / "0.log.20200101-000000").write_text("former\n")
    (tmp_path / "0.log.20190101-000000.gz.tmp").write_text("half")
    runtime = Reopening()
    runtime.path = str(path)
    assert await rotation(runtime, tmp_path).look([running(path)]) == 1
    pieces = sorted(each.name for each in tmp_path.iterdir())
    assert pieces[0] == "0.log" and path.read_text() == "" and runtime.count == 1
    assert gzip.decompress((tmp_path / "0.log.20200101-000000.gz").read_bytes()) == b"former\n"
    assert (tmp_path / pieces[2]).read_text() == "0123456789\n" and len(pieces) == 3


async def test_only_so_many_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("0123456789\n")
    for year in range(2010, 2016):
        (tmp_path / f"0.log.{year}0101-000000").write_text(str(year))
    (tmp_path / "10.log.20100101-000000").write_text("another container's")
    runtime = Reopening()
    runtime.path = str(path)
    await rotation(runtime, tmp_path, log_max_files=4).look([running(path)])
    mine = sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("0.log"))
    assert len(mine) == 4
    assert mine[1:3] == ["0.log.20140101-000000.gz", "0.log.20150101-000000.gz"]
    assert (tmp_path / "10.log.20100101-000000").exists()
    remove_log(str(path))
    assert [each.name for each in tmp_path.iterdir()] == ["10.log.20100101-000000"]


async def test_a_runtime_that_fails_gets_its_file_back(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("0123456789\n")
    assert await rotation(Reopening(fails=True), tmp_path).look([running(path)]) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["0.log"]


async def test_small_foreign_and_ended_logs_are_left_alone(tmp_path: Path) -> None:
    inside, outside = tmp_path / "logs", tmp_path / "elsewhere.log"
    inside.mkdir()
    outside.write_text("0123456789\n")
    small = inside / "0.log"
    small.write_text("1")
    link = inside / "1.log"
    link.symlink_to(outside)
    ended = running(outside)
    ended.state = api.CONTAINER_EXITED
    everyone = [running(small), running(outside), running(link), ended]
    assert await rotation(Reopening(), inside).look(everyone) == 0
    assert sorted(os.listdir(inside)) == ["0.log", "1.log"]


async def test_a_log_that_is_gone_is_opened_again(tmp_path: Path) -> None:
    runtime = Reopening()
    runtime.path = str(tmp_path / "0.log")
    await rotation(runtime, tmp_path).look([running(tmp_path / "0.log")])
    assert (tmp_path / "0.log").exists()


async def test_links_lead_to_logs_and_go_with_them(tmp_path: Path) -> None:
    links, logs = tmp_path / "links", tmp_path / "logs"
    logs.mkdir()
    config = KubeletConfig(log_dir=str(logs))
    assert log_links.folder(config) == "" and log_links.folder(KubeletConfig()) == "/var/log/containers"
    config.resources.garbage.container_links = str(links)
    target = logs / "0.log"
    target.touch()
    seen = running(target)
    log_links.add(config, make_pod(), seen)
    log_links.add(config, make_pod(), seen)
    links.joinpath("foreign.log").symlink_to(tmp_path / "nowhere")
    assert os.readlink(links / "web-node_default_app-c1.log") == str(target)
    assert log_links.remove_dead(config) == 0
    target.unlink()
    assert log_links.remove_dead(config) == 1 and [e.name for e in links.iterdir()] == ["foreign.log"]
    long = make_pod("w" * 250)
    name = log_links.link_name(long, seen)
    assert len(name) == 255 and name.endswith(".log")


# --- images --------------------------------------------------------------------------------------------


@pytest.fixture
async def garbage(harness: Harness) -> ImageGarbage:
    config = GarbageConfig(image_high_threshold=0, image_low_threshold=0, image_minimum_age=60)
    client = CriClient(harness.cri.endpoint)
    return ImageGarbage(client, config, EventRecorder("node"), harness.clock)


async def test_unused_images_go_least_recently_used_first(harness: Harness, garbage: ImageGarbage) -> None:
    for name in ("old:1", "busy:1", "pinned:1"):
        harness.cri.add_image(name)
    harness.cri.images["pinned:1"].pinned = True
    pod = make_pod("web", {"name": "app", "image": "busy:1"})
    assert await garbage.look([pod]) == 0, "they are all too young"
    harness.cri.add_image("new:1")
    await garbage.look([pod])
    harness.clock.advance(61)
    harness.cri.add_image("newest:1")
    assert await garbage.look([pod]) == 3000
    assert sorted(harness.cri.images) == ["busy:1", "newest:1", "pinned:1"]
    removed = [request.image.image for request in harness.cri.called("RemoveImage")]
    assert len(removed) == 3


async def test_full_names_are_recognised(harness: Harness, garbage: ImageGarbage) -> None:
    harness.cri.images.clear()
    harness.cri.add_image("docker.io/library/nginx:latest")
    await garbage.look([])
    harness.clock.advance(100)
    assert await garbage.look([make_pod("web", {"name": "app", "image": "nginx"})]) == 0
    assert await garbage.look([]) == 1000


async def test_images_below_the_threshold_stay_unless_too_old(
    harness: Harness, garbage: ImageGarbage
) -> None:
    garbage._config.image_high_threshold = 100
    garbage._config.image_maximum_age = 3600
    await garbage.look([])
    harness.clock.advance(3000)
    assert await garbage.look([]) == 0
    harness.clock.advance(1000)
    assert await garbage.look([]) == 1000


async def test_too_little_to_remove_is_an_event(harness: Harness, garbage: ImageGarbage) -> None:
    await garbage.look([])
    (event,) = garbage._events.list()
    assert event.reason == "FreeDiskSpaceFailed"
    assert re.search(
        r"image filesystem \(\d+% of \d+\.\d [KMGT]iB used\)\. Failed .* \(freed 0 bytes\)", event.message
    )


async def test_an_image_that_cannot_be_removed_holds_up_no_other(
    harness: Harness, garbage: ImageGarbage
) -> None:
    harness.cri.add_image("other:1")
    await garbage.look([])
    harness.clock.advance(100)
    harness.cri.fail_next["RemoveImage"] = [CriError(grpc.StatusCode.UNKNOWN, "in use")]
    assert await garbage.look([]) == 1000


async def test_a_sandbox_of_a_pod_that_is_gone_is_removed(harness: Harness) -> None:
    harness.config.resources.garbage.container_period = 0.05
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        sandbox = next(iter(harness.cri.sandboxes.values()))
        client = CriClient(harness.cri.endpoint)
        stray = api.PodSandboxConfig()
        stray.CopyFrom(harness.cri.called("RunPodSandbox")[0].config)
        stray.metadata.uid = stray.metadata.name = "stray"
        stray.labels["io.kubernetes.pod.uid"] = "stray"
        mine = await client.run_pod_sandbox(stray)
        stray = api.PodSandboxConfig(metadata=stray.metadata, labels=stray.labels)
        stray.metadata.uid = stray.metadata.name = "foreign"
        foreign = await client.run_pod_sandbox(stray)
        for each in (mine, foreign):
            await client.stop_pod_sandbox(each)
        await harness.until(lambda: mine not in harness.cri.sandboxes)
        await asyncio.sleep(0.2)
        assert {sandbox.status.id, foreign} == set(harness.cri.sandboxes)
        await client.close()

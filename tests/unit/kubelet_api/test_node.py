"""Health, configuration, metrics, statistics, node logs: shapes, names and edges."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from minikubelet.base import clock
from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api import node_routes
from minikubelet.kubelet.api.remote import TOKEN_FILE
from minikubelet.kubelet.metrics.families import Counter, Family, Histogram, Sample, render
from minikubelet.kubelet.metrics.starts import StartInstruments, StartMeter
from minikubelet.kubelet.objects.volumes import (
    EmptyDirVolumeSource,
    PersistentVolumeClaimVolumeSource,
    Volume,
)
from minikubelet.kubelet.podfiles import log_directory
from minikubelet.kubelet.server_config import ServerConfig
from minikubelet.kubelet.sinks import MemorySink
from tests.promtool import complaints, promtool
from tests.unit.kubelet_api import remote
from tests.unit.kubelet_api.remote import Ports
from tests.unit.kubelet_api.test_api import RUNNING, ended, make_pod

METRICS = ("/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes", "/metrics/slis")


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[Ports]:
    logs = tmp_path / "node-logs"
    logs.mkdir()
    made = Ports(tmp_path, ServerConfig(node_log_dir=str(logs)))
    made.pods.update(make_pod(RUNNING))
    await made.api.start()
    yield made
    await made.api.close()


async def text(ports: Ports, path: str) -> str:
    status, body = await ports.get(path, ports.admin)
    assert status == 200, (path, status, body)
    return body


async def test_health(ports: Ports) -> None:
    assert await text(ports, "/healthz") == "ok"
    for check in ("ping", "log", "syncloop"):
        assert await text(ports, f"/healthz/{check}") == "ok"
    assert (await ports.get("/healthz/else", ports.admin))[0] == 404
    assert "[+]syncloop ok\nhealthz check passed\n" in await text(ports, "/healthz?verbose")
    ports.wrong["syncloop"] = "the runtime is away"
    status, body = await ports.get("/healthz", ports.admin)
    assert status == 500
    assert "[-]syncloop failed: the runtime is away" in body


async def test_configz_shows_the_configuration_in_force(ports: Ports) -> None:
    config = json.loads(await text(ports, "/configz"))["kubeletconfig"]
    assert config["kind"] == "KubeletConfiguration"
    assert config["port"] == ports.server.port
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["httpCheckFrequency"] == "20s"
    assert config["maxPods"] == 110


async def test_summary_has_upstreams_shape(ports: Ports) -> None:
    summary = json.loads(await text(ports, "/stats/summary"))
    node = summary["node"]
    assert {"nodeName", "startTime", "cpu", "memory", "network", "fs", "runtime", "rlimit"} <= node.keys()
    assert node["cpu"]["usageCoreNanoSeconds"] > 0
    assert 0 < node["memory"]["workingSetBytes"] <= node["memory"]["usageBytes"]
    assert node["runtime"]["imageFs"]["usedBytes"] == 7
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", node["startTime"])
    (pod,) = summary["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "u1"}
    assert pod["cpu"]["usageCoreNanoSeconds"] == 1_500_000_000
    (container,) = pod["containers"]
    assert container["name"] == "app"
    assert container["startTime"] == "2026-01-02T03:04:05Z"
    assert container["memory"]["workingSetBytes"] == 4096
    assert container["swap"]["swapUsageBytes"] == 1
    assert {"usedBytes", "capacityBytes", "inodesUsed"} <= pod["ephemeral-storage"].keys()
    assert (await ports.get("/stats/summary", ports.admin, "POST"))[0] == 200
    short = json.loads(await text(ports, "/stats/summary?only_cpu_and_memory=true"))
    assert not {"network", "io", "process_stats"} & short["pods"][0].keys()
    assert "fs" not in short["node"]
    assert short["pods"][0]["containers"][0]["cpu"] == container["cpu"]


async def test_pods_that_have_ended_are_left_out(ports: Ports) -> None:
    pod = make_pod(ended("mk://c1"))
    pod.status.phase = "Succeeded"
    ports.pods.update(pod)
    assert json.loads(await text(ports, "/stats/summary"))["pods"] == []
    assert "pod_memory_working_set_bytes{" not in await text(ports, "/metrics/resource")


async def test_a_runtime_without_pod_statistics_is_summed_up(ports: Ports) -> None:
    ports.runtime.lacks = {"pod stats", "metrics"}
    (pod,) = json.loads(await text(ports, "/stats/summary"))["pods"]
    assert pod["cpu"]["usageCoreNanoSeconds"] == 1_500_000_000
    assert pod["memory"]["workingSetBytes"] == 4096
    metrics = await text(ports, "/metrics/cadvisor")
    assert re.search(r'container_cpu_usage_seconds_total\{.*container="app".*\} 1\.5 \d+', metrics)


async def test_a_runtime_that_fails_at_a_single_pod_is_asked_for_the_containers(ports: Ports) -> None:
    """containerd: one sandbox without a cgroup, and there are no statistics of any."""
    ports.runtime.lacks, ports.runtime.code = {"pod stats"}, Code.UNKNOWN
    (pod,) = json.loads(await text(ports, "/stats/summary"))["pods"]
    assert pod["cpu"]["usageCoreNanoSeconds"] == 1_500_000_000
    assert 'container_memory_working_set_bytes{container="app"' in await text(ports, "/metrics/resource")
    ports.runtime.lacks = set()
    assert "pod_memory_working_set_bytes{" in await text(ports, "/metrics/resource")


@pytest.mark.parametrize("code", [None, Code.UNKNOWN])
async def test_what_a_runtime_does_not_measure_is_taken_from_its_statistics(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, code: Code | None
) -> None:
    async def measured() -> list[api.PodSandboxMetrics]:
        if code is not None:
            raise NodeError(code, "one of them has no cgroup")
        return []

    monkeypatch.setattr(ports.runtime, "list_pod_sandbox_metrics", measured)
    metrics = await text(ports, "/metrics/cadvisor")
    assert re.search(r'container_cpu_usage_seconds_total\{.*container="app".*\} 1\.5 \d+', metrics)
    assert "container_memory_working_set_bytes{" in metrics


async def test_the_use_of_cpu_per_second(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the runtime doesn't tell, it is what was used from one look to the next."""
    now, used = 100.0, 1_000_000_000
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    real = remote.container_stats

    def stats() -> api.ContainerStats:
        made = real()
        made.cpu.usage_core_nano_seconds.value = used
        made.cpu.ClearField("usage_nano_cores")
        return made

    monkeypatch.setattr(remote, "container_stats", stats)
    summary = ports.backend.node.statistics.summary if ports.backend.node else None
    assert summary is not None

    async def look() -> list[int | None]:
        (pod,) = (await summary(only_cpu_and_memory=True))["pods"]
        return [pod["cpu"].get("usageNanoCores"), pod["containers"][0]["cpu"].get("usageNanoCores")]

    assert await look() == [None, None]
    now, used = 104.0, 3_000_000_000
    assert await look() == [500_000_000, 500_000_000]
    now, used = 104.5, 9_000_000_000
    assert await look() == [500_000_000, 500_000_000]  # too soon for another


async def test_sizes_of_volumes_and_logs_are_measured(ports: Ports) -> None:
    pod = make_pod(RUNNING)
    pod.spec.volumes = [
        Volume(name="data", empty_dir=EmptyDirVolumeSource()),
        Volume(name="mem", empty_dir=EmptyDirVolumeSource(medium="Memory")),
        Volume(name="kept", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="files")),
        Volume(name="gone", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="none")),
    ]
    ports.pods.update(pod)
    volumes = Path(ports.config.pod_dir("u1"), "volumes/kubernetes.io~empty-dir")
    claim = Path(ports.config.claims_dir, "default/files")
    for folder, size in ((volumes / "data", 300_000), (volumes / "mem", 5_000_000), (claim, 9_000_000)):
        folder.mkdir(parents=True)
        (folder / "blob").write_bytes(os.urandom(size))
    logs = Path(log_directory(ports.config, pod), "app")
    logs.mkdir(parents=True)
    (logs / "0.log").write_bytes(os.urandom(70_000))
    (shown,) = json.loads(await text(ports, "/stats/summary"))["pods"]
    log_sizes = shown["containers"][0]["logs"]
    assert 70_000 <= log_sizes["usedBytes"] < 80_000 and log_sizes["inodesUsed"] == 1
    by_name = {each["name"]: each for each in shown["volume"]}
    assert list(by_name) == ["data", "mem", "kept"]
    assert by_name["data"]["usedBytes"] >= 300_000
    assert by_name["data"]["inodesUsed"] == 2
    assert by_name["kept"]["pvcRef"] == {"name": "files", "namespace": "default"}
    assert by_name["kept"]["usedBytes"] >= 9_000_000
    # Neither what is in memory nor what outlives the pod is storage of its own.
    assert 300_000 <= shown["ephemeral-storage"]["usedBytes"] < 5_000_000
    metrics = await text(ports, "/metrics")
    labels = 'namespace="default",persistentvolumeclaim="files"'
    for name in ("capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"):
        assert re.search(rf"^kubelet_volume_stats_{name}\{{{labels}\}} \d+$", metrics, re.M), name
    for state in ("actual", "desired"):
        labels = f'plugin_name="kubernetes.io/empty-dir",state="{state}_state_of_world"'
        assert f"\nvolume_manager_total_volumes{{{labels}}} 2\n" in metrics
    where = 'uid="u1",namespace="default",pod="web",container="app"'
    assert re.search(rf"^kubelet_container_log_filesystem_used_bytes\{{{where}\}} \d+$", metrics, re.M)


async def test_a_slow_runtime_does_not_keep_the_kubelets_own_numbers(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> list[api.PodSandboxStats]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(node_routes, "_SIZES", 0.1)
    monkeypatch.setattr(ports.runtime, "list_pod_sandbox_stats", never)
    assert '\nkubelet_node_name{node="node"} 1\n' in await text(ports, "/metrics")


async def test_how_the_checks_have_gone(ports: Ports) -> None:
    await text(ports, "/healthz")
    ports.wrong["syncloop"] = "the runtime is away"
    assert (await ports.get("/healthz", ports.admin))[0] == 500
    excluded = await ports.get("/healthz?verbose&exclude=syncloop&exclude=nope", ports.admin)
    assert excluded == (
        200,
        "[+]ping ok\n[+]log ok\n[+]syncloop excluded: ok\n"
        'warn: some health checks cannot be excluded: no matches for "nope"\nhealthz check passed\n',
    )
    metrics = await text(ports, "/metrics/slis")
    for line in (
        'kubernetes_healthcheck{name="syncloop",type="healthz"} 0',
        'kubernetes_healthcheck{name="ping",type="healthz"} 1',
        'kubernetes_healthchecks_total{name="syncloop",status="error",type="healthz"} 1',
        'kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 3',
    ):
        assert f"\n{line}\n" in metrics


async def test_requests_are_counted_by_what_they_are_for(ports: Ports) -> None:
    for path in ("/metrics/cadvisor", "/pods", "/nobody/knows"):
        await ports.get(path, ports.admin)
    metrics = await text(ports, "/metrics")

    def labels(path: str) -> str:
        return f'{{method="GET",path="{path}",server_type="readwrite",long_running="false"}}'

    for path in ("metrics/cadvisor", "pods", "other"):
        assert f"\nkubelet_http_requests_total{labels(path)} 1\n" in metrics
        assert f"\nkubelet_http_inflight_requests{labels(path)} 0\n" in metrics
    assert f"\nkubelet_http_inflight_requests{labels('metrics')} 1\n" in metrics, "this very one"


def test_ended_containers_are_counted_once() -> None:
    counted = StartInstruments()
    meter = StartMeter(MemorySink(), counted)
    found = make_pod(ended("mk://old"))
    found.status.phase = "Running"
    meter.update(found)
    assert counted.terminated.values == {}, "an earlier kubelet has counted it"
    pod = make_pod(RUNNING)
    pod.metadata.uid = "u2"
    pod.status.phase = "Pending"
    meter.update(pod)
    for state, last in (
        (ended("mk://a"), None),
        (RUNNING, ended("mk://a")),
        (ended("mk://b"), ended("mk://a")),
    ):
        after = make_pod(state, last=last)
        after.metadata.uid = "u2"
        for _ in range(2):
            meter.update(after)
    assert counted.terminated.values == {("container", "0", ""): 2.0}
    assert counted.containers_per_pod.family().samples[-1].value == 2


async def test_metrics_have_upstreams_names(ports: Ports) -> None:
    ports.instruments.operation("run_podsandbox", 0.2, None)
    with ports.instruments.starting_pod("", user_namespace=False):
        pass
    ports.instruments.lifecycle.relisted(0.01)
    kubelet = await text(ports, "/metrics")
    for line in (
        'kubelet_node_name{node="node"} 1',
        "kubelet_running_pods 0",
        'kubelet_running_containers{container_state="running"} 0',
        'kubelet_runtime_operations_total{operation_type="run_podsandbox"} 1',
        'kubelet_runtime_operations_duration_seconds_bucket{operation_type="run_podsandbox",le="+Inf"} 1',
        "kubelet_started_pods_total 1",
        "kubelet_pleg_relist_duration_seconds_count 1",
        "kubelet_pod_start_duration_seconds_count 0",
    ):
        assert f"\n{line}" in kubelet, line
    assert "kubelet_http_requests_total{" in await text(ports, "/metrics")
    resource = await text(ports, "/metrics/resource")
    assert re.search(r"^node_cpu_usage_seconds_total [\d.]+ \d{13}$", resource, re.M)
    assert re.search(
        r'^container_cpu_usage_seconds_total\{container="app",pod="web",namespace="default"\} 1.5 \d+$',
        resource,
        re.M,
    )
    assert re.search(r"^container_swap_limit_bytes\{.*\} 3 \d+$", resource, re.M)
    assert 'pod_memory_working_set_bytes{pod="web",namespace="default"} 4096' in resource
    assert "\nresource_scrape_error 0\n" in resource
    probes = await text(ports, "/metrics/probes")
    where = 'pod="web",namespace="default",container="app",probe_type="Liveness"'
    assert f"\nprober_probe_duration_seconds_count{{{where}}} 1\n" in probes
    assert "\nprocess_start_time_seconds " in probes
    assert 'prober_probe_total{probe_type="Liveness",result="successful",container="app",pod="web"' in probes


async def test_metrics_are_compressed_for_who_can_read_that(ports: Ports) -> None:
    connector = aiohttp.TCPConnector(ssl=ports.trusting())
    async with aiohttp.ClientSession(connector=connector, headers=ports.admin) as session:
        for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
            headers = {"Accept-Encoding": accepted}
            async with session.get(f"{ports.base}/metrics", headers=headers) as response:
                assert response.headers.get("Content-Encoding") == encoding
                assert int(response.headers["Process-Start-Time-Unix"]) > 0
                assert "kubelet_node_name" in await response.text()


async def test_cadvisor_metrics_are_the_runtimes(ports: Ports) -> None:
    metrics = await text(ports, "/metrics/cadvisor")
    name = "container_cpu_usage_seconds_total"
    assert f'\n{name}{{container="app",pod="w\\"eb\\\\"}} 3 1770000000000\n' in metrics
    assert metrics.count(f"\n{name}{{") == 1  # twice the same series would spoil the whole scrape
    assert "nobody_described_me" not in metrics
    who = r'\{machine_id="[^"]*",system_uuid="[^"]*",boot_id="[-0-9a-f]{36}"\}'
    for machine in ("memory_bytes", "cpu_cores", "cpu_physical_cores", "cpu_sockets", "swap_bytes"):
        assert re.search(rf"^machine_{machine}{who} \d+$", metrics, re.M), machine
    assert "\ncontainer_scrape_error 0\n" in metrics


@pytest.mark.parametrize("path", METRICS)
async def test_promtool_finds_nothing_to_complain_about(ports: Ports, path: str) -> None:
    program = promtool()
    if program is None:
        pytest.skip("promtool is missing: scripts/test host --setup-only gets it")
    ports.instruments.operation("pull_image", 2, None)
    body = await text(ports, path)
    assert await asyncio.to_thread(complaints, program, body) == ""


def test_the_text_format() -> None:
    counter = Counter("c_total", "a\nb\\", ("x",))
    counter.inc(('q"\\\n',), 2)
    histogram = Histogram("h_seconds", "h", buckets=(0.5, 1))
    histogram.observe(0.5)
    histogram.observe(3)
    empty = Family("e", "none", "gauge")
    stamped = Family("g", "g", "gauge", [Sample({}, 1.25, timestamp_ms=7)])
    assert render([counter.family(), histogram.family(), empty, stamped]) == (
        "# HELP c_total a\\nb\\\\\n# TYPE c_total counter\n"
        'c_total{x="q\\"\\\\\\n"} 2\n'
        "# HELP h_seconds h\n# TYPE h_seconds histogram\n"
        'h_seconds_bucket{le="0.5"} 1\nh_seconds_bucket{le="1"} 1\nh_seconds_bucket{le="+Inf"} 2\n'
        "h_seconds_sum 3.5\nh_seconds_count 2\n"
        "# HELP g g\n# TYPE g gauge\ng 1.25 7\n"
    )


async def test_node_logs_stay_in_their_folder(ports: Ports) -> None:
    folder = Path(ports.server.node_log_dir)
    (folder / "sub").mkdir()
    (folder / "sub" / "a&b.log").write_text("0123456789")
    (folder / "link.log").symlink_to("sub/a&b.log")
    (folder / "out").symlink_to(ports.folder / "root")
    (folder / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    listing = await text(ports, "/logs/")
    assert '<a href="sub/">sub/</a>' in listing
    assert await text(ports, "/logs/sub/a&b.log") == "0123456789"
    assert await text(ports, "/logs/link.log") == "0123456789"
    assert (await ports.get("/logs/sub", ports.admin))[0] == 301
    for path in (
        f"/logs/../root/{TOKEN_FILE}",
        f"/logs/%2e%2e/root/{TOKEN_FILE}",
        f"/logs/sub/..%2f..%2froot%2f{TOKEN_FILE}",
        f"/logs/out/{TOKEN_FILE}",
        "/logs/passwd",
        "/logs/pipe",
        "/logs/nothing",
        "/logs/a%00b",
    ):
        status, body = await ports.get(path, ports.admin)
        assert status in (400, 403, 404), (path, status)
        assert "root:" not in body and ports.admin["Authorization"].split()[1] not in body
    assert (await ports.get("/logs//etc/passwd", ports.admin))[0] == 307
    for moment, status in (("Fri, 01 Jan 2100", 304), ("Mon, 01 Jan 2001", 200)):
        since = {**ports.admin, "If-Modified-Since": f"{moment} 00:00:00 GMT"}
        for path in ("/logs/link.log", "/logs/sub/"):
            assert (await ports.get(path, since))[0] == status
    for header, status, body in (
        ("bytes=2-4", 206, "234"),
        ("bytes=-3", 206, "789"),
        ("bytes=8-", 206, "89"),
        ("bytes=50-", 416, ""),
    ):
        got = await ports.get("/logs/link.log", {**ports.admin, "Range": header})
        assert got[0] == status
        assert not body or got[1] == body


async def test_run_answers_with_what_the_command_wrote(ports: Ports) -> None:
    def run(path: str) -> Any:
        return ports.get(path, ports.admin, "POST")

    assert await run("/run/default/web/app?cmd=ls%20-l") == (200, "out")
    assert await run("/run/default/web/u1/app?cmd=ls") == (200, "out")
    assert ports.runtime.asked == [["ls", "-l"], ["ls"]]
    ports.runtime.output.exit_code = 3
    assert await run("/run/default/web/app?cmd=ls") == (500, "command 'ls' exited with 3: out")
    assert (await run("/run/default/web/u2/app?cmd=ls"))[0] == 404
    assert (await run("/run/default/web/app"))[0] == 400
    assert (await ports.get("/run/default/web/app?cmd=ls", ports.admin))[0] == 405


async def test_checkpoint_names_its_file(ports: Ports) -> None:
    status, body = await ports.get("/checkpoint/default/web/app?timeout=5", ports.admin, "POST")
    assert status == 200
    (path,) = json.loads(body)["items"]
    assert re.fullmatch(r".*/checkpoints/checkpoint-web_default-app-[\dTZ:-]+\.tar", path)
    asked = ports.runtime.asked[-1]
    assert (asked.container_id, asked.location, asked.timeout) == ("c1", path, 5)
    ports.runtime.lacks = {"checkpoint"}
    status, body = await ports.get("/checkpoint/default/web/app", ports.admin, "POST")
    assert (status, body) == (501, "checkpointing of default/web/app failed (checkpoint)")
    assert (await ports.get("/checkpoint/default/nope/app", ports.admin, "POST"))[0] == 404


async def test_log_options(ports: Ports) -> None:
    for query, expected, words in (
        ("sinceTime=yesterday", 400, "is not a time"),
        ("sinceTime=2026-01-02T03:04:05", 400, "is not a time"),
        ("sinceTime=2026-01-02T03:04:05Z&sinceSeconds=3", 422, "at most one"),
        ("sinceSeconds=0", 422, "sinceSeconds: 0 is less than 1"),
        ("limitBytes=-0", 422, "limitBytes: 0 is less than 1"),
        ("limitBytes=" + "9" * 40, 400, "is not a whole number"),
        ("stream=Stdout&tailLines=1", 422, "mutually exclusive"),
    ):
        status, body = await ports.get(f"/containerLogs/default/web/app?{query}", ports.admin)
        assert (status, words in body) == (expected, True), body

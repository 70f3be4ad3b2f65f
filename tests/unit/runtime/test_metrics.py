"""ListPodSandboxMetrics: values from the kernel's files, and nothing for what the kernel doesn't tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikubelet.cri import metrics_to_proto
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime import metric_descriptors, metrics
from minikubelet.runtime.metrics import Sample
from minikubelet.runtime.models import Container, ImageFacts, LinuxResources, Sandbox
from minikubelet.runtime.stats import Disk
from tests.unit.runtime.fakes import container_config, sandbox_config

_FILES = {
    "cgroup.procs": "",
    "cgroup.threads": "",
    "cpu.stat": "usage_usec 7900000\nuser_usec 5000000\nsystem_usec 2000000\nnr_periods 9\n"
    "nr_throttled 4\nthrottled_usec 3100000\n",
    "cpu.max": "max 100000\n",
    "memory.current": "1000\n",
    "memory.max": "4000\n",
    "memory.peak": "2000\n",
    "memory.swap.current": "3\n",
    "memory.stat": "anon 100\nfile 500\nkernel 50\nfile_mapped 20\nactive_file 30\ninactive_file 300\n"
    "pgfault 11\npgmajfault 2\n",
    "memory.events": "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\n",
    "io.stat": "999:7 rbytes=10 wbytes=20 rios=1 wios=2\n",
    "pids.current": "5\n",
    "pids.max": "max\n",
}


def _container(cgroup: str = "/c") -> Container:
    sandbox = Sandbox(id="s", config=sandbox_config("web"), created_at=1, cgroup="/")
    container = Container(
        id="c",
        sandbox=sandbox,
        config=container_config("app", resources=LinuxResources(cpu_shares=512)),
        created_at=1,
        image_id="i",
        image=ImageFacts(layers=()),
        stop_signal="SIGTERM",
        log_path="",
        cgroup=cgroup,
    )
    container.status.started_at = 42_000_000_000
    container.status.pid = os.getpid()
    sandbox.status.pid = os.getpid()
    return container


def _measure(tmp_path: Path, files: dict[str, str]) -> metrics.PodMetrics:
    folder = tmp_path / "c"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    container = _container()
    disk = Disk(timestamp=1, path=str(tmp_path), bytes=77, inodes=3)
    return metrics.measure(container.sandbox, {"c": disk}, [container], str(tmp_path))


def _values(samples: list[Sample]) -> dict[tuple[str, ...], int]:
    """By name without ``container_`` and the labels beyond the base ones."""
    found = {}
    for sample in samples:
        assert len(sample.labels) == len(sample.descriptor.labels), sample
        name = sample.descriptor.name.removeprefix("container_")
        found[(name, *sample.labels[len(metric_descriptors.BASE) :])] = sample.value
    assert len(found) == len(samples), "a sample is there twice"
    return found


def test_everything_a_full_cgroup_tells(tmp_path: Path) -> None:
    pod = _measure(tmp_path, _FILES)
    values = _values(pod.containers["c"])
    expected = {
        ("start_time_seconds",): 42,
        ("cpu_usage_seconds_total",): 7,
        ("cpu_user_seconds_total",): 5,
        ("cpu_cfs_throttled_periods_total",): 4,
        ("cpu_cfs_throttled_seconds_total",): 3,
        ("memory_usage_bytes",): 1000,
        ("memory_working_set_bytes",): 700,
        ("memory_rss",): 100,
        ("memory_cache",): 500,
        ("memory_kernel_usage",): 50,
        ("memory_mapped_file",): 20,
        ("memory_max_usage_bytes",): 2000,
        ("memory_total_active_file_bytes",): 30,
        ("memory_swap",): 3,
        ("memory_failcnt",): 6,
        ("oom_events_total",): 1,
        ("memory_failures_total", "pgfault", "container"): 11,
        ("memory_failures_total", "pgmajfault", "container"): 2,
        ("fs_usage_bytes", "/"): 77,
        ("fs_reads_bytes_total", "999:7"): 10,
        ("fs_writes_total", "999:7"): 2,
        ("blkio_device_usage_total", "999:7", "999", "7", "Write"): 20,
        ("processes",): 0,
        ("threads",): 5,
        ("threads_max",): 0,
        ("spec_cpu_shares",): 512,
    }
    assert {key: values.get(key) for key in expected} == expected
    assert values[("fs_inodes_total", "/")] >= values[("fs_inodes_free", "/")]
    assert values[("ulimits_soft", "max_open_files")] > 0


def test_what_the_host_cannot_tell_is_left_out(tmp_path: Path) -> None:
    core = {name: _FILES[name] for name in ("cgroup.procs", "cgroup.threads", "cpu.stat")}
    names = {key[0] for key in _values(_measure(tmp_path, core).containers["c"])}
    assert {"cpu_usage_seconds_total", "memory_usage_bytes", "fs_usage_bytes", "processes"} <= names
    for absent in (
        "cpu_cfs_periods_total",
        "memory_cache",
        "memory_failcnt",
        "memory_swap",
        "oom_events_total",
        "fs_reads_total",
        "threads_max",
        "spec_memory_limit_bytes",
    ):
        assert absent not in names


def test_descriptors_of_processes_are_counted(tmp_path: Path) -> None:
    files = {**_FILES, "cgroup.procs": f"{os.getpid()}\n"}
    before = len(os.listdir("/proc/self/fd"))
    values = _values(_measure(tmp_path, files).containers["c"])
    assert values[("processes",)] == 1
    assert values[("file_descriptors",)] >= before - 2


def test_a_pods_network_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
    real_open = open

    def fake_open(path: str, *args: object, **kwargs: object) -> object:
        if path.endswith("/net/dev"):
            (tmp_path / "dev").write_text("head\nhead\n" + line)
            path = str(tmp_path / "dev")
        return real_open(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", fake_open)
    pod = _measure(tmp_path, {})
    assert _values(pod.own) == {
        ("network_receive_bytes_total", "eth0"): 1,
        ("network_receive_packets_total", "eth0"): 2,
        ("network_receive_errors_total", "eth0"): 3,
        ("network_receive_packets_dropped_total", "eth0"): 4,
        ("network_transmit_bytes_total", "eth0"): 5,
        ("network_transmit_packets_total", "eth0"): 6,
        ("network_transmit_errors_total", "eth0"): 7,
        ("network_transmit_packets_dropped_total", "eth0"): 8,
    }
    assert pod.own[0].labels == ("web", "default", "", "s", "", "eth0")


def test_every_sample_fits_a_descriptor_on_the_wire(tmp_path: Path) -> None:
    known = {item.name: item for item in metrics_to_proto.descriptors()}
    assert len(known) == len(metric_descriptors.ALL) == 49
    message = metrics_to_proto.pod(_measure(tmp_path, _FILES))
    (container,) = message.container_metrics
    assert container.container_id == "c"
    for metric in (*message.metrics, *container.metrics):
        assert len(metric.label_values) == len(known[metric.name].label_keys)
        assert metric.timestamp > 0
        assert known[metric.name].help
    kinds = {metric.name: metric.metric_type for metric in container.metrics}
    assert kinds["container_cpu_usage_seconds_total"] == api.COUNTER
    assert kinds["container_memory_usage_bytes"] == api.GAUGE

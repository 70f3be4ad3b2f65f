"""Limits that the kernel really enforces, on a host with every cgroup v2 controller and full capabilities."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minikubelet.linux.cgroup.mount import find_mount
from tests.host.node import CrictlFailed, Node, wait_for

MIB = 1 << 20


@pytest.fixture(autouse=True)
def in_the_machine() -> None:
    """These tests ask for more than most hosts have: elsewhere they would fail, not skip."""
    if not {"memory", "cpu", "pids", "cpuset"} <= find_mount().controllers:
        pytest.skip("this host's cgroup2 lacks controllers: run scripts/test vm")


def cgroup_of(node: Node, container: str) -> Path:
    pid = json.loads(node.crictl("inspect", container))["info"]["pid"]
    path = Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")
    return Path(find_mount().path + path)


def limits(**resources: object) -> dict[str, object]:
    return {"linux": {"resources": resources}}


def test_the_host_lacks_nothing(node: Node) -> None:
    conditions = json.loads(node.crictl("info"))["status"]["conditions"]
    assert all(each["status"] for each in conditions)
    assert {"memory", "cpu", "pids", "cpuset", "io"} <= find_mount().controllers


def test_more_memory_than_allowed_ends_it(node: Node, busybox: str) -> None:
    pod = node.run_pod("oom")
    hog = "echo up; exec dd if=/dev/zero of=/dev/null bs=128M"
    wanted = limits(memory_limit_in_bytes=32 * MIB)
    container = node.start_container(pod, "hog", busybox, "sh", "-c", hog, **wanted)
    status = node.wait_exited(container)
    assert (status["exitCode"], status["reason"]) == (137, "OOMKilled")
    frugal = node.start_container(pod, "frugal", busybox, "sh", "-c", "exit 0", **wanted)
    assert node.wait_exited(frugal)["reason"] == "Completed"


def test_an_oom_kill_beside_the_first_process_is_told(node: Node, busybox: str) -> None:
    pod = node.run_pod("child")
    script = "dd if=/dev/zero of=/dev/null bs=128M; echo survived $?; exit 5"
    wanted = limits(memory_limit_in_bytes=32 * MIB)
    container = node.start_container(pod, "parent", busybox, "sh", "-c", script, **wanted)
    status = node.wait_exited(container)
    assert status["exitCode"] == 5
    assert "survived 137" in node.crictl("logs", container)


def test_files_of_the_cgroup(node: Node, busybox: str) -> None:
    pod = node.run_pod("files")
    wanted = limits(
        cpu_period=100_000,
        cpu_quota=50_000,
        cpu_shares=512,
        cpuset_cpus="0",
        memory_limit_in_bytes=64 * MIB,
        oom_score_adj=-500,
        unified={"pids.max": "20"},
    )
    container = node.start_container(pod, "main", busybox, "sleep", "100000", **wanted)
    folder = cgroup_of(node, container)
    assert (folder / "cpu.max").read_text() == "50000 100000\n"
    assert 1 < int((folder / "cpu.weight").read_text()) < 100
    assert (folder / "cpuset.cpus.effective").read_text() == "0\n"
    assert (folder / "memory.max").read_text() == f"{64 * MIB}\n"
    assert (folder / "pids.max").read_text() == "20\n"
    pid = json.loads(node.crictl("inspect", container))["info"]["pid"]
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "-500\n"

    node.crictl("update", "--cpu-quota", "20000", "--cpu-period", "100000", container)
    assert (folder / "cpu.max").read_text() == "20000 100000\n"

    fork = "for i in $(seq 30); do sleep 1000 & done"
    with pytest.raises(CrictlFailed, match=r"(?i)fork"):
        node.crictl("exec", "--sync", container, "sh", "-c", fork)


def test_a_cpu_quota_throttles(node: Node, busybox: str) -> None:
    pod = node.run_pod("throttled")
    wanted = limits(cpu_period=100_000, cpu_quota=10_000)
    container = node.start_container(pod, "busy", busybox, "sh", "-c", "while :; do :; done", **wanted)
    stat = cgroup_of(node, container) / "cpu.stat"

    def throttled() -> bool:
        return int(dict(line.split() for line in stat.read_text().splitlines())["nr_throttled"]) > 3

    wait_for("the kernel throttles it", throttled)


def test_stats_tell_memory(node: Node, busybox: str) -> None:
    pod = node.run_pod("stats")
    script = "dd if=/dev/zero of=/dev/shm/file bs=1M count=20 && echo filled && sleep 100000"
    container = node.start_container(pod, "main", busybox, "sh", "-c", script)
    wait_for("its memory is in use", lambda: "filled" in node.crictl("logs", container))
    (entry,) = node.json("stats")["stats"]
    assert int(entry["memory"]["workingSetBytes"]["value"]) > 20 * MIB

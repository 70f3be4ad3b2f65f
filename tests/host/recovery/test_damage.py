"""State that is damaged or gone, a reboot, a dead spawner: the daemon serves, and the other pods are well."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from minikubelet.linux import mounts
from tests.host.node import PATIENCE, CrictlFailed, Node, wait_for
from tests.host.recovery.test_restart import _kill_pod_processes

MakeNode = Callable[..., Node]


def _edit(node: Node, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(node.root / "state.db")) as db:
        assert db.execute(statement, values).rowcount == 1
        db.commit()


def _remove(node: Node, pod: str) -> None:
    """RemovePodSandbox of an ID that may be unknown, for which crictl asks first."""
    with contextlib.suppress(CrictlFailed):
        node.crictl("rmp", "--force", pod)


@pytest.mark.parametrize("column", ["config", "status", "made_cgroups"])
@pytest.mark.parametrize("content", ["", "{", "null", '{"metadata": 7}'])
def test_a_damaged_record_of_a_pod(node: Node, busybox: str, column: str, content: str) -> None:
    bad, good = node.run_pod("bad"), node.run_pod("good")
    node.start_container(bad, "main", busybox, "sleep", "1000")
    container = node.start_container(good, "main", busybox, "sleep", "1000")
    before = node.status(container)
    node.kill()
    _edit(node, f"UPDATE sandboxes SET {column}=? WHERE id=?", content, bad)
    node.start()
    assert node.status(container) == before
    assert node.crictl("exec", "--sync", container, "hostname") == "good"
    _remove(node, bad)
    assert node.crictl("pods", "--quiet").split() == [good]
    again = node.run_pod("bad")  # its name, its address and its cgroup are free
    assert node.pod_ip(again) != node.pod_ip(good)


@pytest.mark.parametrize("column", ["config", "status", "image"])
def test_a_damaged_record_of_a_container(node: Node, busybox: str, column: str) -> None:
    pod = node.run_pod("pod")
    bad = node.start_container(pod, "bad", busybox, "sleep", "1000")
    good = node.start_container(pod, "good", busybox, "sleep", "1000")
    before = node.status(good)
    node.kill()
    _edit(node, f"UPDATE containers SET {column}=? WHERE id=?", "{", bad)
    node.start()
    assert node.status(good) == before
    assert node.crictl("ps", "--all", "--quiet").split() == [good]
    node.start_container(pod, "bad", busybox, "sleep", "1000")
    processes = node.crictl("exec", "--sync", good, "ps")
    assert "sleep" in processes


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "gone", "log"])
def test_a_damaged_database(new_node: MakeNode, busybox: str, damage: str) -> None:
    """Nothing can be known any more of the pods in it: they end, and the node works."""
    node = new_node()
    node.start()
    node.crictl("pull", busybox)
    node.start_container(node.run_pod("old"), "main", busybox, "sleep", "1000")
    node.kill()
    path = node.root / "state.db"
    content = path.read_bytes()
    if damage == "gone":
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            (node.root / name).unlink(missing_ok=True)
    elif damage == "log":
        (node.root / "state.db-wal").write_bytes(os.urandom(50_000))
    else:
        wrong = {"empty": b"", "half": content[: len(content) // 2], "garbage": os.urandom(len(content))}
        path.write_bytes(wrong[damage])
        for name in ("state.db-wal", "state.db-shm"):
            (node.root / name).unlink(missing_ok=True)
    node.start()
    node.crictl("pull", busybox)
    pods = node.crictl("pods", "--quiet").split()
    container = node.start_container(node.run_pod("new"), "main", busybox, "sleep", "1000")
    assert node.crictl("exec", "--sync", container, "hostname") == "new"
    for pod in pods:  # what a damaged log has left
        node.crictl("rmp", "--force", pod)


@pytest.mark.parametrize("content", ["empty", "garbage", "folder", "fifo", "gone"])
def test_a_damaged_exit_record(node: Node, busybox: str, content: str) -> None:
    pod = node.run_pod("exits")
    container = node.start_container(pod, "main", busybox, "sh", "-c", "sleep 0.2; exit 7")
    other = node.start_container(node.run_pod("other"), "main", busybox, "sleep", "1000")
    record = node.run / "pods" / pod / "exits" / container
    node.kill()
    wait_for("its end is written down", record.exists)
    _kill_pod_processes(node, pod)
    record.unlink()
    if content == "folder":
        record.mkdir()
    elif content == "fifo":
        os.mkfifo(record)
    elif content != "gone":
        record.write_bytes(b"" if content == "empty" else os.urandom(300))
    node.start()
    status = node.status(container)
    assert (status["state"], status["exitCode"]) == ("CONTAINER_EXITED", 137)
    assert node.status(other)["state"] == "CONTAINER_RUNNING"
    node.crictl("rmp", "--force", pod)


def test_a_reboot(node: Node, busybox: str) -> None:
    """No process lives any more, and what is in memory only (the run folder, the cgroups) is gone."""
    pods = [node.run_pod(f"pod{number}") for number in range(3)]
    apps = [node.start_container(pod, "main", busybox, "sleep", "1000") for pod in pods]
    created = node.create(pods[0], "created", busybox, "true")
    node.kill()
    for pod in pods:
        _kill_pod_processes(node, pod)
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{node.run}/"):
            mounts.unmount(line.split()[4])
    shutil.rmtree(node.run)
    node.start()
    listed = node.json("pods")["items"]
    assert {pod["state"] for pod in listed} == {"SANDBOX_NOTREADY"} and len(listed) == 3
    assert {node.status(app)["state"] for app in apps} == {"CONTAINER_EXITED"}
    assert node.status(created)["state"] in ("CONTAINER_CREATED", "CONTAINER_EXITED")
    with contextlib.closing(sqlite3.connect(f"file:{node.root}/state.db?mode=ro", uri=True)) as db:
        (table,) = (
            name for (name,) in db.execute("SELECT name FROM sqlite_master") if name.endswith("leases")
        )
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    node.run_pod("after")
    for pod in pods:
        node.crictl("rmp", pod)


def test_a_dead_spawner(node: Node, busybox: str) -> None:
    old = node.start_container(node.run_pod("old"), "main", busybox, "sleep", "1000")
    (spawner,) = psutil.Process(node.pid).children()
    spawner.kill()
    assert psutil.wait_procs([spawner], PATIENCE)[0], "it is not gone"
    new = node.start_container(node.run_pod("new"), "main", busybox, "sleep", "1000")
    for name, container in {"old": old, "new": new}.items():
        assert node.crictl("exec", "--sync", container, "hostname") == name

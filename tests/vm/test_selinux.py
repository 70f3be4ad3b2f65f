"""SELinux labels, on a kernel that is booted with SELinux and gets a small policy that enforces nothing.

    sudo MINIKUBELET_PATIENCE=6 scripts/vm --append security=selinux -- \\
        .venv/bin/python -m pytest --lane vm tests/vm/test_selinux.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from minikubelet.linux import selinux
from tests.host.node import CrictlFailed, Node, wait_for
from tests.vm import selinux_policy

SELINUXFS = Path("/sys/fs/selinux")
LEVEL = "s0:c1,c2"
PROCESS = f"system_u:system_r:container_t:{LEVEL}"
FILE = f"system_u:object_r:container_file_t:{LEVEL}"
OURS = "system_u:system_r:kernel_t:s0"


@pytest.fixture(scope="module", autouse=True)
def policy(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before any daemon starts."""
    if not SELINUXFS.is_dir():
        pytest.skip("this kernel runs without SELinux: boot it with security=selinux")
    if shutil.which("checkpolicy") is None:
        pytest.skip("no checkpolicy: install checkpolicy")
    if not (SELINUXFS / "enforce").exists():
        subprocess.run(["mount", "-t", "selinuxfs", "selinuxfs", str(SELINUXFS)], check=True)
    if selinux.enabled():
        pytest.skip("this host has a policy of its own, which no test changes")
    selinux_policy.load(tmp_path_factory.mktemp("policy"), SELINUXFS)
    assert selinux.enabled() and selinux.valid(PROCESS)


def options(**fields: object) -> dict[str, object]:
    return {"linux": {"security_context": {"selinux_options": fields}}}


LABELLED = options(level=LEVEL)
SHOW = "tr -d '\\0' < /proc/self/attr/current"


def label(path: Path) -> str:
    return os.getxattr(path, "security.selinux").rstrip(b"\0").decode()


def test_processes_files_and_memory(node: Node, busybox: str) -> None:
    pod = node.run_pod("labels", **LABELLED)
    container = node.start_container(pod, "main", busybox, "sh", "-c", f"{SHOW}; echo; sleep 100000")
    assert node.crictl("exec", "--sync", container, "sh", "-c", SHOW) == PROCESS
    wait_for("its output", lambda: node.crictl("logs", container).strip() == PROCESS)
    pid = json.loads(node.crictl("inspect", container))["info"]["pid"]
    root = Path(f"/proc/{pid}/root")
    for path in ("", "bin", "dev", "dev/shm", "dev/pts", "etc/hosts", "etc/resolv.conf"):
        assert label(root / path) == FILE, path


def test_volumes_that_ask_for_it_are_relabelled(node: Node, busybox: str, tmp_path: Path) -> None:
    for name in ("asked", "left"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "asked" / "link").symlink_to(tmp_path / "left" / "file")
    mounts = [
        {"container_path": "/asked", "host_path": str(tmp_path / "asked"), "selinux_relabel": True},
        {"container_path": "/left", "host_path": str(tmp_path / "left")},
    ]
    pod = node.run_pod("volumes", **LABELLED)
    node.start_container(pod, "main", busybox, "sleep", "100000", mounts=mounts)
    assert [label(tmp_path / "asked" / name) for name in ("", "file")] == [FILE, FILE]
    assert FILE not in [label(tmp_path / "left" / name) for name in ("", "file")]


def test_a_container_may_have_a_level_of_its_own(node: Node, busybox: str) -> None:
    pod = node.run_pod("own", **LABELLED)
    container = node.start_container(pod, "main", busybox, "sh", "-c", SHOW, **options(level="s0:c7"))
    node.wait_exited(container)
    assert node.crictl("logs", container).strip() == "system_u:system_r:container_t:s0:c7"


def test_what_the_policy_does_not_know_is_refused(node: Node, busybox: str) -> None:
    pod = node.run_pod("unknown")
    with pytest.raises(CrictlFailed, match="does not know 'system_u:system_r:other_t:"):
        node.start_container(pod, "main", busybox, "true", **options(type="other_t"))


def test_who_asks_for_nothing_keeps_the_daemons_label(node: Node, busybox: str) -> None:
    container = node.start_container(node.run_pod("plain"), "main", busybox, "sh", "-c", SHOW)
    node.wait_exited(container)
    assert node.crictl("logs", container).strip() == OURS

"""A full disk: calls that need room fail at once and say so, all others work."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minikubelet.linux.mounts import mount
from tests.host.node import PATIENCE, CrictlFailed, Node

MakeNode = Callable[..., Node]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The test's folder, with 96 MiB of its own."""
    mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=96m,mode=711")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(folder: Path) -> Path:
    """Write until there is no room for anything, not even for what the daemon gave back meanwhile."""
    path = folder / "fill"
    with open(path, "wb", buffering=0) as file:
        for _ in range(100):
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
            try:
                (folder / "more").write_bytes(bytes(4097))
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
                return path
            finally:
                (folder / "more").unlink(missing_ok=True)
    raise AssertionError("there is always room")


def test_a_full_disk(small_disk: Path, new_node: MakeNode, busybox: str) -> None:
    node = new_node()
    node.start()
    node.crictl("pull", busybox)
    pod = node.run_pod("early")
    kept, stopped, removed = (
        node.start_container(pod, name, busybox, "sleep", "1000") for name in ("kept", "stopped", "removed")
    )
    late = node.pod_file("late")
    filling = fill(small_disk)
    began = time.monotonic()
    with pytest.raises(CrictlFailed) as caught:
        node.crictl("runp", late)
    assert "No space left on device" in caught.value.output
    assert node.crictl("exec", "--sync", kept, "echo", "well") == "well"
    node.crictl("stop", "--timeout", "0", stopped)
    assert node.status(stopped)["exitCode"] == 137
    node.crictl("rm", "--force", removed)
    assert time.monotonic() - began < PATIENCE, "nothing waited for room"
    filling.unlink()
    node.crictl("rmp", "--force", node.crictl("runp", late))
    states = {kept: "CONTAINER_RUNNING", stopped: "CONTAINER_EXITED"}
    assert {container: node.status(container)["state"] for container in states} == states, node.log()
    node.kill()
    node.start()
    assert {container: node.status(container)["state"] for container in states} == states, node.log()
    assert removed not in node.crictl("ps", "--all", "--quiet")

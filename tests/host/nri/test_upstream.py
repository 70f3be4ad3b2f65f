"""containerd's own NRI tests, unmodified: plugins made of NRI's stub see and adjust pods and containers.

Left out: those that restart containerd, and those of limits, which want cgroup v2's controllers.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.node import PEERS, Node

SOCKET = Path("/var/run/nri-test.sock")
"""Where they look for the runtime's socket; it can't be chosen."""


@pytest.fixture
def socket(node: Node) -> Iterator[None]:
    """The node's socket where the tests look for it."""
    SOCKET.symlink_to(node.config.nri_path)
    yield
    SOCKET.unlink()


@pytest.mark.usefixtures("socket")
@pytest.mark.parametrize(
    "test",
    [
        "TestNriPluginSetup",
        "TestNriPluginSynchronization",
        "TestNriMountInjection",
        "TestNriEnvironmentInjection",
        "TestNriAnnotationInjection",
        "TestNriLinuxDeviceInjection",
        "TestNriPluginNetworkingSynchronization",
        "TestNriPluginNetworkingLifecycle",
    ],
)
def test_of_containerd(node: Node, busybox: str, tmp_path: Path, test: str) -> None:
    program = PEERS / "containerd-integration"
    if not program.exists():
        pytest.skip("no NRI tests of containerd: scripts/peers containerd-tests")
    images = tmp_path / "images.toml"
    images.write_text(f'BusyBox = "{busybox}"\n')
    command = [str(program), "-test.v", "-test.run", f"^{test}$", "-test.timeout", "2m"]
    command += ["-cri-endpoint", node.config.listen, "-image-list", str(images)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert f"--- PASS: {test}" in done.stdout, "it must have run"

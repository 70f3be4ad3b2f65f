from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.contenders import BenchError
from tests.host.kubelet import runtimes

ROOT = Path(__file__).resolve().parents[3]


def peers_bin() -> Path:
    command = [sys.executable, str(ROOT / "scripts" / "peers"), "--bin-dir"]
    return Path(subprocess.check_output(command, text=True).strip())


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder with a short name: sockets live in it."""
    made = Path(tempfile.mkdtemp(prefix="mkk-", dir="/tmp"))
    made.chmod(0o711)  # the root of a user namespace is nobody special on the way to a rootfs
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module", params=["containerd", "minikubelet"])
def endpoint(request: pytest.FixtureRequest, home: Path) -> Iterator[str]:
    """The CRI socket of a runtime that has the test image."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param == "minikubelet":
        with runtimes.minikubelet(home / "m") as socket:
            yield socket
        return
    bin_dir = peers_bin()
    if not (bin_dir / "containerd").exists():
        pytest.skip("containerd is not built: run scripts/peers containerd runc")
    try:
        with runtimes.containerd(home / "c", bin_dir) as socket:
            yield socket
    except BenchError as exc:
        pytest.skip(f"containerd does not start here: {exc}")

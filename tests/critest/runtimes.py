"""The runtimes that the suite can talk to: those of the benchmark, on folders of their own."""

from __future__ import annotations

from pathlib import Path

from minikubelet.base.config import DaemonConfig
from tests.bench.containerd import BRIDGE, Containerd
from tests.bench.contenders import ROOT, Contender, Minikubelet
from tests.critest.images import SANDBOX_IMAGE

NAMES = ("minikubelet", "containerd")
PROGRAM = ROOT / ".venv" / "bin" / "minikubelet"
PAUSE = ROOT / "minikubelet" / "spawner" / "pause"


def runtime(name: str, home: Path, bin_dir: Path, certs_dir: Path) -> Contender:
    if name == "containerd":
        return Containerd(home, bin_dir, certs_dir, SANDBOX_IMAGE)
    return Minikubelet(home, PROGRAM, certs_dir)


def bridge(name: str, home: Path) -> str:
    """The link that the runtime makes for its pods and has to take away."""
    if name == "containerd":
        return BRIDGE
    return f"mk-{DaemonConfig(root=str(home / 'root')).instance}"

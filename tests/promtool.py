"""Prometheus' own linter for metrics."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

_PEERS = Path(__file__).resolve().parents[1] / "scripts" / "peers"


def promtool() -> str | None:
    """Where it is: installed, or taken out of Debian's package by scripts/test."""
    command = [sys.executable, str(_PEERS), "--bin-dir"]
    folder = subprocess.check_output(command, text=True).strip()
    return shutil.which("promtool") or shutil.which("promtool", path=folder)


def complaints(program: str, metrics: str) -> str:
    """What it finds wrong; empty: nothing."""
    command = [program, "check", "metrics"]
    done = subprocess.run(command, input=metrics, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}" or ("" if done.returncode == 0 else f"exit code {done.returncode}")

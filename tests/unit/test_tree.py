"""docs/architecture.md names every module, with what its docstring says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_tree_of_the_architecture_page_is_true() -> None:
    script = Path(__file__).resolve().parents[2] / "scripts" / "tree"
    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

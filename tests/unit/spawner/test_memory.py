"""What the spawner doesn't import, since each monitor would have its share of it."""

from __future__ import annotations

import subprocess
import sys

from minikubelet.runtime import spawner_client

_HEAVY = {
    "ast",
    "asyncio",
    "calendar",
    "dataclasses",
    "inspect",
    "locale",
    "logging",
    "runpy",
    "subprocess",
    "tempfile",
    "tokenize",
    "traceback",
}


def test_the_spawner_is_lean() -> None:
    boot = spawner_client._BOOT.replace("sys.exit(main(sys.argv[1:]))", "print(*sys.modules)")
    command = [sys.executable, "-I", "-c", boot, spawner_client._PACKAGE_PARENT]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "minikubelet.spawner.monitor" in told
    assert not _HEAVY & set(told)

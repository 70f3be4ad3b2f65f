"""Attacks, and what holds after each of them: the host is as before, and `node` finds no leak."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.node import Node
from tests.host.runtime.client import Client
from tests.images.build import Layer, build_image
from tests.images.catalog import PATH, base_layer
from tests.registry import Registry

WATCHED = (
    os.path.realpath(sys.executable),
    *("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"),
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname"),
)


def fingerprint(folder: Path) -> dict[str, object]:
    """What an attack wants to change: files of the host, its devices, and a folder with a canary."""
    seen: dict[str, object] = {
        path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in WATCHED if os.path.exists(path)
    }
    null = os.stat("/dev/null")
    seen["/dev/null"] = (null.st_mode, null.st_rdev, null.st_uid)
    seen["canary"] = [
        (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    ]
    return seen


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder of the host with files named like those a runtime writes and mounts over."""
    folder = tmp_path / "canary"
    (folder / "etc").mkdir(parents=True)
    for name in ("hosts", "hostname", "resolv.conf", "passwd", "group", "null", "file", "etc/passwd"):
        (folder / name).write_text(f"canary {name}\n")
    return folder


@pytest.fixture(autouse=True)
def host_unchanged(canary: Path) -> Iterator[None]:
    before = fingerprint(canary)
    yield
    assert fingerprint(canary) == before


@pytest.fixture
async def client(node: Node, busybox: str, host_unchanged: None) -> AsyncIterator[Client]:
    made = Client(node.config.listen, busybox)
    yield made
    await made.close()


@pytest.fixture
def serve(node: Node, registry: Registry, busybox: str) -> Iterator[Callable[..., str]]:
    """Serve an image of busybox under one more layer, and pull it: ``serve(layer, User="x")``."""
    served: list[str] = []

    def add(layer: Layer | None = None, **config: Any) -> str:
        image = build_image(
            [base_layer(), layer or Layer()], {"Env": [PATH], "Cmd": ["sleep", "1000"], **config}
        )
        reference = registry.add(f"hostile/{image.digest[7:19]}:1", image)
        node.crictl("pull", reference)
        served.append(reference)
        return reference

    yield add
    for reference in served:
        node.crictl("rmi", reference)

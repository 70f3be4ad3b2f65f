"""Pipes between a container and its monitor when descriptors run out in the middle."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minikubelet.spawner.container import Container
from minikubelet.spawner.loop import Loop
from minikubelet.spawner.streams import Streams


@pytest.mark.parametrize("left", [0, 1, 2])
def test_nothing_stays_open(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    pipe2, made = os.pipe2, list[int]()

    def scarce(flags: int) -> tuple[int, int]:
        if len(made) == left:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(left)
        return pipe2(flags)

    container: Any = Container.__new__(Container)
    loop = Loop()
    container._request = SimpleNamespace(process=SimpleNamespace(tty=False, stdin=True, stdin_once=False))
    container._pod = SimpleNamespace(host=SimpleNamespace(null=-1))
    before = os.listdir("/proc/self/fd")
    container.streams = Streams(loop, None, lambda: None)
    monkeypatch.setattr(os, "pipe2", scarce)
    with pytest.raises(OSError, match="Too many open files"):
        container._connect(cast(Any, SimpleNamespace()))
    monkeypatch.undo()
    container.streams.close()
    assert os.listdir("/proc/self/fd") == before
    assert len(made) == left

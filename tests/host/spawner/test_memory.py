"""How much memory is a monitor's own (docs/performance.md, "Where a monitor's memory goes")."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

import pytest

from minikubelet.wire import messages as m
from tests.host.spawner.conftest import MakePod

BOUND = 1650
"""KiB of a monitor that has answered one request: it has 1400, and made after its fork it would have 1720."""


def private_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError("no Private_Dirty")


@pytest.mark.skipif(os.sysconf("SC_PAGE_SIZE") != 4096, reason="the bound is one of pages of 4 KiB")
def test_a_monitor_shares_what_it_finds_made(make_pod: MakePod) -> None:
    pods = [make_pod(f"p{number}", start=False) for number in range(7)]
    for pod in pods:
        pod.control.ask(m.GetState(id=pod.control.next_id()), m.State)
    assert median(private_kib(pod.spawned.pid) for pod in pods) < BOUND

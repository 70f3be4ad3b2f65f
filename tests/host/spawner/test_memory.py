"""How much memory is a monitor's own (docs/performance.md, "Where a monitor's memory goes")."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from minikubelet.wire import messages as m
from tests.host.spawner.conftest import MakePod

BOUND = 1650
"""KiB of a monitor that has answered one request. Were it made after its fork, it would be about 1800."""


def private_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError("no Private_Dirty")


def test_a_monitor_shares_what_it_finds_made(make_pod: MakePod) -> None:
    pods = [make_pod(f"p{number}", start=False) for number in range(7)]
    for pod in pods:
        pod.control.ask(m.GetState(id=pod.control.next_id()), m.State)
    assert median(private_kib(pod.spawned.pid) for pod in pods) < BOUND

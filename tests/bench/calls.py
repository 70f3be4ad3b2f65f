"""Lists and measurements beside many pods: what a kubelet asks for all the time."""

from __future__ import annotations

import time
from contextlib import ExitStack

from minikubelet.criapi import api_pb2 as api
from tests.bench.contenders import BenchError
from tests.bench.cri import CALL_SECONDS, Client
from tests.bench.measures import Bench, Measure, bring_up, take_down

CONTAINERS = Measure("ListContainers, {pods} pods", "ms", 2)
SANDBOXES = Measure("ListPodSandbox, {pods} pods", "ms", 2)
STATS = Measure("ListContainerStats, {pods} pods", "ms", 1 / 10)
POD_STATS = Measure("ListPodSandboxStats, {pods} pods", "ms")

ROUNDS = 6
CALLS = 10
STATS_CALLS = 2
PAUSE_SECONDS = 1.0


def lists(bench: Bench) -> None:
    """All pods of both runtimes are up; asked in turn. Raises BenchError if a list lacks some."""
    with ExitStack() as stack:
        clients = []
        for contender in bench.contenders:
            pods = bring_up(bench, contender)
            stack.callback(take_down, bench, contender, pods)
            clients.append((contender, stack.enter_context(contender.client())))
        time.sleep(PAUSE_SECONDS)
        for _ in range(ROUNDS):
            for contender, client in clients:
                client.version()  # connects
                _check(contender.name, client, bench.pods)
                for _ in range(CALLS):
                    with bench.timed(CONTAINERS, contender):
                        client.runtime.ListContainers(api.ListContainersRequest(), timeout=CALL_SECONDS)
                    with bench.timed(SANDBOXES, contender):
                        client.runtime.ListPodSandbox(api.ListPodSandboxRequest(), timeout=CALL_SECONDS)
                for _ in range(STATS_CALLS):
                    with bench.timed(STATS, contender):
                        client.runtime.ListContainerStats(
                            api.ListContainerStatsRequest(), timeout=CALL_SECONDS
                        )
                    with bench.timed(POD_STATS, contender):
                        client.runtime.ListPodSandboxStats(
                            api.ListPodSandboxStatsRequest(), timeout=CALL_SECONDS
                        )


def _check(name: str, client: Client, wanted: int) -> None:
    containers = client.runtime.ListContainers(api.ListContainersRequest(), timeout=CALL_SECONDS).containers
    sandboxes = client.runtime.ListPodSandbox(api.ListPodSandboxRequest(), timeout=CALL_SECONDS).items
    stats = client.runtime.ListContainerStats(api.ListContainerStatsRequest(), timeout=CALL_SECONDS).stats
    measured = sum(each.cpu.usage_core_nano_seconds.value > 0 for each in stats)
    if min(len(containers), len(sandboxes), measured) < wanted:
        raise BenchError(
            f"{name} lists {len(containers)} containers, {len(sandboxes)} sandboxes, {measured} measured"
        )

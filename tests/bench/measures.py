"""What is measured, and the code that measures it."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from tests.bench.contenders import BenchError, Contender
from tests.bench.cri import Client, Pod
from tests.images.build import Image
from tests.registry import Registry

BLOCK = 5
"""Pods measured on one runtime before it is the other's turn, so that drift of the machine hits both."""
EXECS = 3
PULLS = 3
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    title: str
    unit: str
    wanted: float = 0.0
    """The ratio to containerd's value to reach (the value itself in `unit`, if `absolute`); 0: no wish."""
    more_is_better: bool = False
    absolute: bool = False


VERSION = Measure("Version (the client's own cost)", "ms")
RUN = Measure("RunPodSandbox", "ms")
CREATE = Measure("CreateContainer", "ms")
START = Measure("StartContainer", "ms")
UP = Measure("pod up", "ms", 1 / 8)
EXEC = Measure("ExecSync", "ms", 1 / 6)
STOP = Measure("stop container + sandbox", "ms")
REMOVE = Measure("remove container + sandbox", "ms")
DOWN = Measure("stop + remove", "ms", 1 / 8)
UP_RATE = Measure("pods up, {clients} clients", "pods/s", 6, more_is_better=True)
CYCLE_RATE = Measure("pods up and down, {clients} clients", "pods/s", 6, more_is_better=True)
POD_PSS = Measure("PSS a pod", "MiB", 2.0, absolute=True)
IDLE_PSS = Measure("daemon PSS, idle", "MiB")
LOADED_PSS = Measure("daemon PSS, {pods} pods", "MiB")
PULL = Measure("pull + unpack", "s", 1)

Samples = dict[Measure, dict[str, list[float]]]


@dataclass
class Bench:
    """One run: the runtimes, the images to use, and the samples so far."""

    contenders: Sequence[Contender]
    registry: Registry
    workload: str
    """Reference of the image that pods run."""
    big: Callable[[], Image]
    iterations: int = 30
    clients: int = 10
    pods: int = 50

    def __post_init__(self) -> None:
        self.samples: Samples = defaultdict(lambda: defaultdict(list))

    def add(self, measure: Measure, contender: Contender, value: float) -> None:
        self.samples[measure][contender.name].append(value)

    @contextmanager
    def timed(self, measure: Measure, contender: Contender) -> Iterator[None]:
        """Add the wall time of the block, in milliseconds."""
        start = time.perf_counter()
        yield
        self.add(measure, contender, (time.perf_counter() - start) * 1e3)


def warm_up(bench: Bench) -> None:
    """Pull the workload's image and bring one pod up and down: caches, lazily made bridges and tables."""
    for contender in bench.contenders:
        with contender.client() as client:
            client.pull(bench.workload)
            pod = client.up(bench.workload)
            client.exec_sync(pod)
            client.down(pod)


def lifecycle(bench: Bench) -> None:
    """One pod at a time, call by call."""
    for start in range(0, bench.iterations, BLOCK):
        for contender in bench.contenders:
            with contender.client() as client:
                client.version()  # connects
                for _ in range(min(BLOCK, bench.iterations - start)):
                    one_pod(bench, contender, client)


def one_pod(bench: Bench, contender: Contender, client: Client) -> None:
    pod = client.new_pod()
    with bench.timed(VERSION, contender):
        client.version()
    with bench.timed(UP, contender):
        with bench.timed(RUN, contender):
            client.run_sandbox(pod)
        with bench.timed(CREATE, contender):
            client.create(pod, bench.workload)
        with bench.timed(START, contender):
            client.start(pod)
    for _ in range(EXECS):
        with bench.timed(EXEC, contender):
            client.exec_sync(pod)
    # A kubelet's order: everything stops first; records are removed later.
    with bench.timed(DOWN, contender):
        with bench.timed(STOP, contender):
            client.stop_container(pod)
            client.stop_sandbox(pod)
        with bench.timed(REMOVE, contender):
            client.remove_container(pod)
            client.remove_sandbox(pod)


def throughput(bench: Bench) -> None:
    """Several clients at once, each on a connection of its own: all pods up, then all of them down."""
    for _ in range(2):
        for contender in bench.contenders:
            start = time.perf_counter()
            pods = bring_up(bench, contender)
            up_seconds = time.perf_counter() - start
            start = time.perf_counter()
            take_down(bench, contender, pods)
            down_seconds = time.perf_counter() - start
            bench.add(UP_RATE, contender, len(pods) / up_seconds)
            bench.add(CYCLE_RATE, contender, len(pods) / (up_seconds + down_seconds))


def bring_up(bench: Bench, contender: Contender) -> list[Pod]:
    """Start `bench.pods` pods from `bench.clients` threads. Raises BenchError unless all run."""
    share = -(-bench.pods // bench.clients)

    def work(_: int) -> list[Pod]:
        with contender.client() as client:
            return [client.up(bench.workload) for _ in range(share)]

    with ThreadPoolExecutor(bench.clients) as pool:
        pods = [pod for some in pool.map(work, range(bench.clients)) for pod in some]
    with contender.client() as client:
        dead = [pod.sandbox for pod in pods if not client.is_running(pod)]
    if dead:
        raise BenchError(f"{contender.name}: {len(dead)} of {len(pods)} pods don't run: {dead[0]}")
    return pods


def take_down(bench: Bench, contender: Contender, pods: Sequence[Pod]) -> None:
    def work(number: int) -> None:
        with contender.client() as client:
            for pod in pods[number :: bench.clients]:
                client.down(pod)

    with ThreadPoolExecutor(bench.clients) as pool:
        list(pool.map(work, range(bench.clients)))


def memory(bench: Bench) -> None:
    """Proportional set sizes (proc_pid_smaps(5)) without pods, then beside many."""
    for contender in bench.contenders:
        time.sleep(SETTLE_SECONDS)
        contender.mark_idle()
        bench.add(IDLE_PSS, contender, pss_mib(contender.idle_processes()))
        pods = bring_up(bench, contender)
        time.sleep(SETTLE_SECONDS)
        helpers = list(contender.helpers())
        bench.add(LOADED_PSS, contender, pss_mib(contender.idle_processes()))
        bench.add(POD_PSS, contender, pss_mib(helpers) / len(pods))
        take_down(bench, contender, pods)
        if len(helpers) < len(pods):
            raise BenchError(f"{contender.name}: found {len(helpers)} processes beside {len(pods)} pods")


def pss_mib(processes: Sequence[psutil.Process]) -> float:
    return sum(pss_kib(process.pid) for process in processes) / 1024


def pss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))


def pull(bench: Bench) -> None:
    """Pull and unpack a large image that isn't there yet. Raises BenchError if some of it was after all."""
    reference = bench.registry.add("bench/big:1", bench.big())
    for _ in range(PULLS):
        for contender in bench.contenders:
            with contender.client() as client:
                os.sync()
                before = bench.registry.count("GET", "/v2/bench/big/blobs/*")
                start = time.perf_counter()
                client.pull(reference)
                bench.add(PULL, contender, time.perf_counter() - start)
                fetched = bench.registry.count("GET", "/v2/bench/big/blobs/*") - before
                if fetched < len(bench.big().layers) + 1:
                    raise BenchError(f"{contender.name} fetched only {fetched} blobs: some were there before")
                client.remove_image(reference)

"""``scripts/bench kubelet``: both kubelets over both runtimes, in one run."""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.bench.containerd import Containerd
from tests.bench.contenders import ROOT, BenchError, Contender, Minikubelet, unmount_below
from tests.bench.measures import pss_mib
from tests.bench.report import fraction, machine
from tests.differential import drivers
from tests.images import catalog
from tests.registry import Registry
from tests.upstream_kubelet import UpstreamKubelet, find_kubelet

OURS, UPSTREAM = "minikubelet", "upstream+containerd"
MIXED = ("upstream+minikubelet", "minikubelet+containerd")
NODES = (OURS, UPSTREAM, *MIXED)
POLL = 0.005
TIMEOUT = 120.0
SETTLE = 10.0
"""Seconds between the last pod's start and the look at idle use."""
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
    - name: web
      image: {image}
      command: [sh, -c, "trap 'exit 0' TERM; httpd -f -p 8080 -h /etc & wait"]
      ports: [{{containerPort: 8080}}]
      readinessProbe: {{httpGet: {{path: /passwd, port: 8080}}, periodSeconds: 1}}
"""
Pod = dict[str, Any]


class WholeNode(Minikubelet):
    """Runtime and kubelet in one daemon, as it is meant to be used."""

    def command(self) -> list[str]:
        words = [word for word in super().command() if word != "--no-kubelet"]
        (self.home / "manifests").mkdir(exist_ok=True)
        return [*words, "--manifests", str(self.home / "manifests"), "--enable-server=false"]


@dataclass
class Node:
    """A kubelet and its runtime under measurement."""

    name: str
    manifests: Path
    runtime: Contender
    kubelet: psutil.Process | None
    """None where it is the runtime's daemon."""
    pods_url: str
    socket: Path | None = None

    def pods(self) -> list[Pod]:
        """What the kubelet says of its pods."""
        if self.socket is not None:
            return drivers.Ours(self.socket.parent.parent, "").pods()
        with urllib.request.urlopen(self.pods_url, timeout=30) as answer:
            return json.load(answer)["items"] or []

    def processes(self) -> list[psutil.Process]:
        """Kubelet and runtime without what there is per pod."""
        mine = self.runtime.idle_processes()
        return [*mine, *([self.kubelet] if self.kubelet else [])]


@dataclass
class Row:
    """One line of the table."""

    title: str
    unit: str
    wanted: float
    """The ratio of ours to upstream + containerd to reach."""
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def is_ready(pod: Pod) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def names_ready(node: Node) -> set[str]:
    """Names, as in the manifests, of pods that are Ready."""
    ready = [pod for pod in node.pods() if is_ready(pod)]
    return {str(pod["metadata"]["name"]).removesuffix(f"-{pod['spec'].get('nodeName', '')}") for pod in ready}


class Measures:
    """The rows, filled by node."""

    def __init__(self, image: str, pods: int) -> None:
        self._image = image
        self._pods = pods
        self.ready = Row("manifest to Ready", "ms", 1 / 6)
        self.gone = Row("removal until the sandbox is gone", "ms", 0)
        self.all_ready = Row(f"{pods} manifests to Ready", "ms", 1 / 6)
        self.all_gone = Row(f"removal of {pods} pods", "ms", 0)
        self.cpu = Row(f"idle CPU, {pods} pods, 1 s probes", "% of a core", 1)
        self.memory = Row(f"PSS without pods' own, {pods} pods", "MiB", 1 / 2)
        self.per_pod = Row("PSS a pod", "MiB", 1 / 2)
        self.total = Row(f"PSS in all, {pods} pods", "MiB", 1 / 2)
        self._count = 0

    @property
    def rows(self) -> list[Row]:
        return [
            self.ready,
            self.gone,
            self.all_ready,
            self.all_gone,
            self.cpu,
            self.memory,
            self.per_pod,
            self.total,
        ]

    def one(self, node: Node, *, count: bool = True) -> None:
        """One pod up and away."""
        ready, gone = self._cycle(node, 1, lambda: None)
        if count:
            self.ready.samples[node.name].append(ready)
            self.gone.samples[node.name].append(gone)

    def many(self, node: Node, seconds: float) -> None:
        """Many pods at once; ``seconds`` of doing nothing but probing in between."""

        def idle() -> None:
            time.sleep(SETTLE)
            before = {process.pid: _cpu(process) for process in node.processes()}
            started = time.monotonic()
            time.sleep(seconds)
            passed = time.monotonic() - started
            used = sum(_cpu(process) - before.get(process.pid, 0.0) for process in node.processes())
            self.cpu.samples[node.name].append(100 * used / passed)
            daemons, helpers = pss_mib(node.processes()), pss_mib(list(node.runtime.helpers()))
            self.memory.samples[node.name].append(daemons)
            self.per_pod.samples[node.name].append(helpers / self._pods)
            self.total.samples[node.name].append(daemons + helpers)

        ready, gone = self._cycle(node, self._pods, idle)
        self.all_ready.samples[node.name].append(ready)
        self.all_gone.samples[node.name].append(gone)

    def _cycle(self, node: Node, pods: int, between: Any) -> tuple[float, float]:
        """Milliseconds until all are Ready, and until no sandbox of theirs is."""
        names = []
        start = time.perf_counter()
        for _ in range(pods):
            self._count += 1
            names.append(f"bench-{self._count}")
            fresh = node.manifests.parent / f".{names[-1]}"
            fresh.write_text(MANIFEST.format(name=names[-1], image=self._image))
            fresh.rename(node.manifests / f"{names[-1]}.yaml")
        _wait(node, "pods are Ready", lambda: names_ready(node) >= set(names))
        ready = time.perf_counter() - start
        between()
        endpoint = f"unix://{node.runtime.socket}"
        start = time.perf_counter()
        for name in names:
            (node.manifests / f"{name}.yaml").unlink()
        _wait(node, "sandboxes are gone", lambda: not drivers.ready_sandboxes(endpoint))
        return ready * 1e3, (time.perf_counter() - start) * 1e3


def _wait(node: Node, what: str, probe: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not probe():
        if time.monotonic() > deadline:
            raise BenchError(f"{node.name}: {what}: not within {TIMEOUT:.0f} s")
        time.sleep(POLL)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def started(name: str, home: Path, program: Path, certs: Path, pause: str, peers: Path) -> Iterator[Node]:
    """One node, with its runtime. Raises BenchError."""
    runtime: Contender
    if name == OURS:
        runtime = WholeNode(home / "r", program, certs)
    elif name.endswith("containerd"):
        runtime = Containerd(home / "r", peers, certs, pause)
    else:
        runtime = Minikubelet(home / "r", program, certs)
    with ExitStack() as stack:
        stack.callback(runtime.stop)
        runtime.start(tmpfs=True)
        if name == OURS:
            socket = runtime.home / "run" / "kubelet.sock"
            yield Node(name, runtime.home / "manifests", runtime, None, "", socket)
        elif name.startswith("upstream"):
            kubelet = UpstreamKubelet(home / "k", f"unix://{runtime.socket}", settings=drivers.SETTINGS)
            (home / "k").mkdir()
            stack.enter_context(kubelet)
            url = f"http://127.0.0.1:{kubelet.read_only_port}/pods"
            yield Node(name, kubelet.manifests, runtime, psutil.Process(kubelet.pid), url)
        else:
            yield stack.enter_context(_ours_alone(name, home, program, runtime))


@contextlib.contextmanager
def _ours_alone(name: str, home: Path, program: Path, runtime: Contender) -> Iterator[Node]:
    folder = home / "k"
    for each in ("manifests", "run", "root", "logs"):
        (folder / each).mkdir(parents=True)
    command = [
        *(str(program), "kubelet", "--container-runtime-endpoint", f"unix://{runtime.socket}"),
        *("--manifests", str(folder / "manifests"), "--run", str(folder / "run")),
        *("--root", str(folder / "root"), "--log-dir", str(folder / "logs"), "--enable-server=false"),
        "--healthz-port=0",
    ]
    with open(folder / "kubelet.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    node = Node(
        name,
        folder / "manifests",
        runtime,
        psutil.Process(process.pid),
        "",
        folder / "run" / "kubelet.sock",
    )

    def answers() -> bool:
        if process.poll() is not None:
            raise BenchError((folder / "kubelet.log").read_text()[-2000:])
        with contextlib.suppress(OSError):
            node.pods()
            return True
        return False

    try:
        _wait(node, "the kubelet answers", answers)
        yield node
    finally:
        process.terminate()
        process.wait(60)
        unmount_below(folder)


def table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Medians, and ours to upstream + containerd."""
    lines = [["", *names, "ratio", "wanted", ""]]
    for row in rows:
        medians = {name: statistics.median(values) for name, values in row.samples.items()}
        cells = [f"{medians[name]:.1f} {row.unit}" if name in medians else "" for name in names]
        ratio = medians[OURS] / medians[UPSTREAM] if medians.keys() >= {OURS, UPSTREAM} else None
        shown = "" if ratio is None else fraction(ratio)
        wanted = f"<= {fraction(row.wanted)}" if row.wanted else ""
        verdict = "" if ratio is None or not row.wanted else "met" if ratio <= row.wanted else "MISSED"
        lines.append([row.title, *cells, shown, wanted, verdict])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench kubelet",
        description="Measure our kubelet beside the upstream one, each over both runtimes (as root).",
    )
    parser.add_argument("--node", action="append", choices=NODES, help="measure this one only; repeatable")
    parser.add_argument("--iterations", type=int, default=10, help="single pods (default 10)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of many pods (default 2)")
    parser.add_argument("--pods", type=int, default=20, help="pods at once (default 20)")
    parser.add_argument("--idle", type=float, default=20, help="seconds of idling (default 20)")
    parser.add_argument("--program", type=Path, default=ROOT / ".venv/bin/minikubelet")
    return parser.parse_args(arguments)


def _peers() -> Path:
    script = str(ROOT / "scripts" / "peers")
    wanted = ["containerd", "runc", "kubelet"]
    if subprocess.run([sys.executable, script, *wanted], check=False).returncode or find_kubelet() is None:
        raise BenchError("could not build containerd, runc and the upstream kubelet")
    return Path(subprocess.check_output([sys.executable, script, "--bin-dir"], text=True).strip())


def main(arguments: Sequence[str]) -> int:
    """One node after the other: two kubelets at once would disturb each other."""
    options = parse(arguments)
    names = options.node or NODES
    try:
        peers = _peers() if set(names) - {OURS} else Path()
        with tempfile.TemporaryDirectory(prefix="mkb-", dir="/tmp") as scratch, Registry() as registry:
            home = Path(scratch)
            from tests.bench.main import write_hosts

            write_hosts(home / "certs.d", registry)
            image = registry.add("bench/busybox:1", catalog.busybox())
            pause = registry.add("bench/pause:1", catalog.pause())
            measures = Measures(image, options.pods)
            for index, name in enumerate(names):
                print(f"bench: {name}", file=sys.stderr)
                places = (options.program, home / "certs.d", pause, peers)
                (home / f"n{index}").mkdir()
                with started(name, home / f"n{index}", *places) as node:
                    measures.one(node, count=False)
                    for _ in range(options.iterations):
                        measures.one(node)
                    for _ in range(options.rounds):
                        measures.many(node, options.idle)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(table(measures.rows, names))
    return 0

"""What a kubelet writes into the kernel's cgroups: the tree below ``kubepods``, read from outside.

Paths are shown without UIDs and IDs, and amounts that follow from the size of the machine relative to it, so
that results of different machines can be compared.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minikubelet.kubelet.allocatable import max_tasks
from minikubelet.kubelet.resources import node_cpus, node_memory
from minikubelet.linux.cgroup.mount import find_mount
from tests.differential.case import Pod, statuses

ROOT = f"/mkdiff-{os.getpid()}"
"""The cgroupRoot of the kubelets that are looked at."""
CONTROLLERS = frozenset(("cpu", "memory", "pids"))
"""Without these a kubelet makes no tree."""
_FILES = re.compile(
    r"cpu\.(max|weight)|cpuset\.cpus|memory\.(max|high|min|low|swap\.max|oom\.group)|pids\.max"
    r"|hugetlb\.2MB(\.rsvd)?\.max"
)
PLACES = ("kubepods", "kubepods/burstable", "kubepods/besteffort")
"""Where pods are by their QoS class."""
DAEMONS = ("systemReservedCgroup", "kubeReservedCgroup")
"""Settings that name a cgroup of daemons, which has to be there."""
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
ZRAM = Path("/sys/block/zram0")
Values = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """What amounts may follow from."""

    memory: int
    """Bytes."""
    cpus: int
    tasks: int
    """As many as the kernel runs at most."""

    @classmethod
    def this(cls) -> Machine:
        """The one that runs this."""
        return cls(node_memory(), node_cpus(), max_tasks())

    def shown(self, name: str, text: str) -> str:
        """A file's content; an amount of the machine's own order relative to the machine."""
        if name == "cpuset.cpus" and text == f"0-{self.cpus - 1}":
            return "ALL"
        if not text.isdecimal():
            return text
        amount = int(text)
        if amount >= 1 << 62:
            return "max"
        if name.startswith("memory.") and self.memory // 2 < amount <= self.memory:
            less = self.memory - amount
            # Either a round amount is kept back, or it is a share.
            return f"MEMORY - {less}" if less % (1 << 20) == 0 else f"MEMORY * {amount / self.memory:.3f}"
        if name == "pids.max" and self.tasks // 2 < amount <= self.tasks:
            return f"TASKS - {self.tasks - amount}"
        return text

    def shown_weight(self, text: str) -> str:
        """The cpu.weight of all pods: by how many of the machine's processors they have."""
        weights = {
            1 + ((self.cpus * 1000 - less) * 1024 // 1000 - 2) * 9999 // 262142: less
            for less in range(0, self.cpus * 1000, 100)
        }
        return f"CPUS - {weights[int(text)] / 1000:g}" if int(text) in weights else text


class Tree:
    """The cgroups of a kubelet's pods."""

    def __init__(self, root: Path, machine: Machine, daemons: Mapping[str, Path]) -> None:
        self._root = root
        """What ``kubepods`` is in."""
        self._machine = machine
        self._daemons = daemons
        """The daemons' cgroups by the settings that name them."""

    def pod(self, pod: Pod) -> Values:
        """The place of a pod's cgroup, its values and those of its running containers."""
        found: Values = {}
        for place in PLACES:
            folder = self._root / place / f"pod{pod['metadata']['uid']}"
            if folder.is_dir():
                found[place] = {"pod": self.values(folder)} | self._containers(folder, pod)
        return found

    def _containers(self, folder: Path, pod: Pod) -> Values:
        """By name; what is no container's is the sandbox's."""
        names = {each.get("containerID", "").rpartition("/")[2]: each["name"] for each in statuses(pod)}
        found: Values = {}
        for inner in filter(Path.is_dir, folder.iterdir()):
            if scores := _oom_scores(inner):  # else it has ended
                found[names.get(inner.name, "sandbox")] = self.values(inner) | {"oom_score_adj": scores}
        return found

    def node(self) -> Values:
        """The values of all pods together, of the two QoS classes that have a cgroup, and of daemons."""
        found = {place: self.values(self._root / place) for place in PLACES}
        if weight := found[PLACES[0]].get("cpu.weight"):
            found[PLACES[0]]["cpu.weight"] = self._machine.shown_weight(weight)
        return found | {name: self.values(folder) for name, folder in self._daemons.items()}

    def values(self, folder: Path) -> Values:
        """``{file: content}`` of one cgroup, without empty files."""
        found: Values = {}
        with contextlib.suppress(FileNotFoundError):  # its container has just ended
            for path in sorted(folder.iterdir()):
                if _FILES.fullmatch(path.name) and (text := path.read_text().strip()):
                    found[path.name] = self._machine.shown(path.name, text)
        return found


def _oom_scores(folder: Path) -> str:
    """The oom_score_adj of a cgroup's processes: one, unless they differ; empty if none is left."""
    scores = set()
    with contextlib.suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            scores.add(Path(f"/proc/{pid}/oom_score_adj").read_text().strip())
    return " ".join(sorted(scores))


@contextlib.contextmanager
def prepared(settings: Mapping[str, Any]) -> Iterator[Tree]:
    """The machine with the cgroups, and swap, that a kubelet's settings speak of, and a few huge pages."""
    folder = Path(find_mount().path + ROOT)
    daemons = {name: Path(find_mount().path + settings[name]) for name in DAEMONS if name in settings}
    for each in (folder, *daemons.values()):
        each.mkdir()
    HUGE_PAGES.write_text("16")
    try:
        with swap() if "memorySwap" in settings else contextlib.nullcontext():
            yield Tree(folder, Machine.this(), daemons)
    finally:
        HUGE_PAGES.write_text("0")
        for each in (folder, *daemons.values()):
            for path, _, _ in os.walk(each, topdown=False):
                os.rmdir(path)


@contextlib.contextmanager
def swap() -> Iterator[None]:
    """As much swap as there is memory, compressed in memory: a request's share of it is the request."""
    subprocess.run(["modprobe", "zram"], check=True)
    (ZRAM / "disksize").write_text(str(node_memory()))
    subprocess.run(["mkswap", "/dev/zram0"], check=True, capture_output=True)
    subprocess.run(["swapon", "/dev/zram0"], check=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=True)
        (ZRAM / "reset").write_text("1")

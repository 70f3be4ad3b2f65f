"""What a test left on the machine (mounts, links, cgroups, tables, processes) and a daemon in its state."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from minikubelet.base.config import DaemonConfig
from minikubelet.linux.cgroup.mount import find_mount

SECONDS = 10.0
"""How long the kernel may take to let go of namespaces and their links, and cgroups of their last process."""
PR_SET_CHILD_SUBREAPER = 36
STRICT = bool(os.environ.get("CI"))
"""Whether this machine is ours alone: else other programs' mounts and links may come and go meanwhile."""


def become_subreaper() -> None:
    """Make every process that our descendants leave behind our child: none can hide (prctl(2))."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


@dataclass(frozen=True)
class Snapshot:
    """What can leak; the difference of two snapshots has."""

    processes: frozenset[str] = field(default_factory=frozenset)
    mounts: frozenset[str] = field(default_factory=frozenset)
    links: frozenset[str] = field(default_factory=frozenset)
    cgroups: frozenset[str] = field(default_factory=frozenset)
    tables: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def take(cls) -> Snapshot:
        if not STRICT:
            return cls(processes=_processes())
        return cls(_processes(), _mounts(), frozenset(os.listdir("/sys/class/net")), _cgroups(), _tables())

    def since(self, before: Snapshot) -> list[str]:
        """What is here and wasn't then, one line each."""
        return [
            f"{kind}: {each}"
            for kind in vars(self)
            for each in sorted(getattr(self, kind) - getattr(before, kind))
        ]


def wait_until_clean(before: Snapshot) -> list[str]:
    """What is left since `before`, once the kernel had time to clean up."""
    deadline = time.monotonic() + SECONDS
    while True:
        left = Snapshot.take().since(before)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def left_by_pods(config: DaemonConfig) -> list[str]:
    """What pods of this daemon left although all of them are removed. The daemon may still run."""
    deadline = time.monotonic() + SECONDS
    while True:
        left = [*_left_below(config), *_leases(config), *_ports(config)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _left_below(config: DaemonConfig) -> list[str]:
    folders = {
        "pod's run folder": f"{config.run}/pods",
        "container's layer": f"{config.root}/containers",
        "trash": f"{config.root}/trash",
        "trash of the run folder": f"{config.run}/trash",
        "what a CNI network knows of a pod": f"{config.root}/cni",
        "kubelet's pod": f"{config.root}/kubelet/pods",
    }
    left = [
        f"{what}: {folder}/{name}"
        for what, folder in folders.items()
        if os.path.isdir(folder)
        for name in os.listdir(folder)
    ]
    ours = (config.run + "/", config.root + "/")
    return left + [f"mount: {each}" for each in _mounts() if each.startswith(ours)]


def _leases(config: DaemonConfig) -> list[str]:
    """Rows of every table about pods, as a reader beside the daemon sees them."""
    left = []
    with contextlib.closing(sqlite3.connect(f"file:{config.root}/state.db?mode=ro", uri=True)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        pods = [n for n in names if any(w in n for w in ("lease", "sandbox", "container", "port", "hold"))]
        assert any("lease" in name for name in pods), f"no table of leases among {names}"
        for name in pods:
            left += [f"row of {name}: {row}" for row in db.execute(f'SELECT * FROM "{name}"')]
    return left


def _ports(config: DaemonConfig) -> list[str]:
    """Elements of the port maps."""
    table = f"minikubelet_{config.instance}"
    found = subprocess.run(
        ["nft", "list", "table", "inet", table], capture_output=True, text=True, check=False
    )
    return [
        f"host port: {line.strip()}"
        for line in found.stdout.splitlines()
        if line.strip().startswith("elements = ")
    ]


def remove_host_objects(config: DaemonConfig) -> None:
    """Take away what a daemon keeps for its next start: bridge, nftables table, cgroup, links to logs."""
    run = ("nft", "delete", "table", "inet", f"minikubelet_{config.instance}")
    subprocess.run(run, capture_output=True, check=False)
    subprocess.run(["ip", "link", "delete", f"mk-{config.instance}"], capture_output=True, check=False)
    with contextlib.suppress(OSError):
        os.rmdir(find_mount().path + config.cgroup_root)
    # A kubelet that ends before its pods' logs go takes these away at its next start.
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)


def _processes() -> frozenset[str]:
    """Our descendants, but those that a daemon always has. Orphans that ended are waited for."""
    found = set()
    usual = _usual()
    reap_orphans()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE and process.pid not in usual:
                found.add(f"{process.pid} {' '.join(process.cmdline())[:200]}")
    return frozenset(found)


def reap_orphans() -> None:
    """Wait for those of our children that have ended, but daemons: fixtures do that."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if process.status() == psutil.STATUS_ZOMBIE and process.pid not in _daemons:
                os.waitpid(process.pid, os.WNOHANG)


def _usual() -> set[int]:
    """The daemons that fixtures run, and their spawners."""
    usual = set(_daemons)
    for daemon in _daemons:
        with contextlib.suppress(psutil.NoSuchProcess):
            usual |= {spawner.pid for spawner in psutil.Process(daemon).children()}
    return usual


_daemons: set[int] = set()


def expect(pid: int) -> None:
    """Say that a daemon is a fixture's, which ends it: it may be started anew in the middle of a test."""
    _daemons.add(pid)


def unexpect(pid: int) -> None:
    """Say that a daemon has ended."""
    _daemons.discard(pid)


def _mounts() -> frozenset[str]:
    """Mount points and their sources (proc_pid_mountinfo(5))."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return frozenset(f"{line.split()[4]} {' '.join(line.partition(' - ')[2].split()[:2])}" for line in lines)


def _cgroups() -> frozenset[str]:
    """All but the folder that daemons share: the last one to end takes it away, the next makes it anew."""
    mount = find_mount().path
    shared = mount + DaemonConfig().cgroup_root
    return frozenset(path for path, _, _ in os.walk(mount) if path != shared) if mount else frozenset()


def _tables() -> frozenset[str]:
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    return frozenset(done.stdout.splitlines())

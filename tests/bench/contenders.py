"""A runtime under measurement: started on folders of its own, removed without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.bench.cri import Client

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0 * float(os.environ.get("MINIKUBELET_PATIENCE", "1"))
STOP_SECONDS = START_SECONDS


class BenchError(Exception):
    """The benchmark can't go on; the message is for the person who started it."""


class Contender:
    """What both runtimes have in common. `home` is a folder for the contender's files; `stop` removes it."""

    name = ""
    volatile: Sequence[str] = ()
    """Folders in ``home`` of what a machine has in /run: on most that is a tmpfs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "cri.sock"
        self.cgroup_parent = f"/minikubelet-bench-{os.getpid()}/{self.name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: set[int] = set()

    def command(self) -> list[str]:
        """The daemon's command line; writes the configuration it needs into `home`."""
        raise NotImplementedError

    def start(self, *, tmpfs: bool = False) -> None:
        """Start the daemon and wait until it reports RuntimeReady and NetworkReady. Raises BenchError.

        With ``tmpfs`` its ``volatile`` folders are on one each.
        """
        self.home.mkdir(parents=True)
        for folder in self.volatile if tmpfs else ():
            (self.home / folder).mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(self.home / folder)]
            subprocess.run(mount, check=True)
        with open(self.home / "daemon.log", "wb") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment()
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self._process.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} is not ready after {START_SECONDS:.0f} s\n{self.log_tail()}")
            time.sleep(0.05)
        self.mark_idle()

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def client(self) -> Client:
        return Client(self.socket, self.home / "logs", self.cgroup_parent)

    def stop(self) -> None:
        """Remove every pod and image, end the daemon, and clean up what it leaves; every step is tried."""
        with ExitStack() as steps:  # runs the last one pushed first
            steps.callback(shutil.rmtree, self.home, ignore_errors=True)
            steps.callback(remove_cgroups, self.cgroup_parent)
            steps.callback(unmount_below, self.home)
            steps.callback(self.clean_up)
            steps.callback(self._end_helpers)
            if self._process is not None:
                steps.callback(self._end, self._process)
                if self._process.poll() is None:
                    steps.callback(self._remove_everything)

    def clean_up(self) -> None:
        """Remove what lies outside `home`."""

    def daemon_processes(self) -> list[psutil.Process]:
        """The daemon and, once pods run, everything that it started in the host's PID namespace."""
        if self._process is None or self._process.poll() is not None:
            return []
        daemon = psutil.Process(self._process.pid)
        return [
            daemon,
            *(child for child in daemon.children(recursive=True) if in_host_pid_namespace(child.pid)),
        ]

    def mark_idle(self) -> None:
        """Take note that no pod runs now: what runs besides belongs to the daemon."""
        self._idle = {process.pid for process in self.daemon_processes()}

    def idle_processes(self) -> list[psutil.Process]:
        """Those that run whether there are pods or not."""
        return [process for process in self.daemon_processes() if process.pid in self._idle]

    def helpers(self) -> Iterator[psutil.Process]:
        """Per-pod processes beside pause and workload."""
        raise NotImplementedError

    def log_tail(self) -> str:
        lines = (self.home / "daemon.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])

    def _ready(self) -> bool:
        if not self.socket.exists():
            return False
        with self.client() as client:
            return client.is_ready()

    def _remove_everything(self) -> None:
        with self.client() as client:
            client.remove_everything()

    def _end_helpers(self) -> None:
        for process in list(self.helpers()):
            process.kill()
            process.wait(STOP_SECONDS)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Minikubelet(Contender):
    """This project's daemon, without its kubelet."""

    name = "minikubelet"
    volatile = ("run",)

    def __init__(self, home: Path, program: Path, certs_dir: Path) -> None:
        super().__init__(home)
        self.program = program
        self.certs_dir = certs_dir

    def command(self) -> list[str]:
        folders = ["--root", str(self.home / "root"), "--run", str(self.home / "run")]
        listen = ["--listen", f"unix://{self.socket}", "--certs-dir", str(self.certs_dir)]
        return [str(self.program), "daemon", "--no-kubelet", *folders, *listen, "--unenforced-limits=allow"]

    def helpers(self) -> Iterator[psutil.Process]:
        """The monitors: what came since the daemon was idle, and any that lost their parent."""
        seen = {process.pid for process in self.daemon_processes()} - self._idle
        run = str(self.home / "run")
        for process in psutil.process_iter(["cmdline"]):
            orphan = process.info["cmdline"] and run in " ".join(process.info["cmdline"])
            ours = self._process is not None and process.pid == self._process.pid
            if process.pid in seen or (orphan and not ours and process.pid not in self._idle):
                yield process


def in_host_pid_namespace(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:  # it has ended
        return False


def unmount_below(directory: Path) -> None:
    """Lazily unmount every mount point below `directory`, deepest first."""
    with open("/proc/self/mountinfo") as table:
        points = [line.split()[4].encode().decode("unicode_escape") for line in table]
    for point in sorted((each for each in points if each.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False)


def remove_cgroups(parent: str) -> None:
    """Remove the cgroup `parent` with all below it from every hierarchy, and its own parent if empty."""
    mounts = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]
    for mount in mounts:
        top = mount / parent.lstrip("/")
        found = [Path(path) for path, _, _ in os.walk(top, topdown=False)]
        for cgroup in [*found, top.parent]:
            if cgroup.is_dir() and cgroup != mount:
                try:
                    cgroup.rmdir()
                except OSError:  # not empty: another contender's
                    continue

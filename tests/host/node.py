"""A daemon on folders of its own, and the real crictl to talk to it with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from minikubelet.base.config import DaemonConfig
from tests.host import leaks
from tests.ports import listens

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("minikubelet")
PEERS = Path(os.environ.get("MINIKUBELET_PEERS", "/var/cache/minikubelet-peers")) / "bin"
T = TypeVar("T")
PATIENCE = 60.0 * float(os.environ.get("MINIKUBELET_PATIENCE", "1"))
"""Seconds until something that should happen counts as not happening; more on slow machines."""


def find_crictl() -> Path | None:
    """The one that scripts/peers built, or the machine's."""
    found = PEERS / "crictl"
    if found.exists():
        return found
    elsewhere = shutil.which("crictl")
    return Path(elsewhere) if elsewhere else None


def wait_for(what: str, probe: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Ask until the answer is true; returns it. Fails with `what` and the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; last answer: {answer!r}"
        time.sleep(0.02)


class CrictlFailed(AssertionError):
    """crictl's exit code wasn't 0."""

    def __init__(self, command: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"crictl {' '.join(command)}: exit code {code}\n{output}")
        self.code = code
        self.output = output


class Node:
    """`minikubelet daemon` below `home`; pods live on when it stops, until `finish`."""

    def __init__(self, home: Path, certs_dir: Path, *options: str, kubelet: bool = False) -> None:
        self.home = home
        self.root, self.run, self.logs = home / "root", home / "run", home / "logs"
        self.manifests = home / "manifests"
        self.socket = home / "cri.sock"
        self.config = DaemonConfig(
            root=str(self.root), run=str(self.run), listen=f"unix://{self.socket}", kubelet=kubelet
        )
        self.command = [
            *(str(PROGRAM), "daemon", "--root", str(self.root), "--run", str(self.run)),
            *("--listen", self.config.listen, "--certs-dir", str(certs_dir)),
            *(("--manifests", str(self.manifests)) if kubelet else ("--no-kubelet",)),
            *options,
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.crictl_path = find_crictl()
        for folder in (self.logs, self.manifests):
            folder.mkdir(parents=True, exist_ok=True)

    # The daemon's life.

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        assert self.process is None
        with open(self.home / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        leaks.expect(self.process.pid)
        wait_for("the daemon answers", self._answers)
        if self.config.kubelet:
            wait_for("its kubelet listens", self._kubelet_listens)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log()}"
        with contextlib.suppress(CrictlFailed):
            self.crictl("version")
            return True
        return False

    def _kubelet_listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log()}"
        return listens(self.config.kubelet_socket)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM, as a service manager does; returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None
        leaks.unexpect(process.pid)
        process.send_signal(number)
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def finish(self) -> None:
        """Remove all pods and images, stop the daemon; fails if anything is left, then takes it away."""
        if self.process is None:
            self.start()
        problems: list[str] = []
        if self.config.kubelet:  # it removes its pods itself; crictl would find them gone
            for manifest in self.manifests.iterdir():
                manifest.unlink()
            with contextlib.suppress(AssertionError):  # what is left then is told below
                wait_for(
                    "the kubelet's pods are gone", lambda: not self.crictl("pods", "--quiet"), 4 * PATIENCE
                )
        for command in (("rmp", "--all", "--force"), ("rmi", "--all")):
            try:
                self.crictl(*command)
            except CrictlFailed as exc:
                problems.append(str(exc))
        try:
            problems += [f"left behind: {left}" for left in leaks.left_by_pods(self.config)]
            if self.stop() != 0:
                problems.append("the daemon's exit code isn't 0")
        finally:
            leaks.remove_host_objects(self.config)
        assert not problems, "\n".join([*problems, self.log()])

    def log(self) -> str:
        path = self.home / "daemon.log"
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""

    def open_files(self) -> dict[str, int]:
        """The daemon's and the spawner's descriptors by kind, e.g. {"socket": 4}."""
        kinds: dict[str, int] = {}
        daemon = psutil.Process(self.pid)
        for process in (daemon, *daemon.children()):
            name = "daemon" if process == daemon else "spawner"
            folder = f"/proc/{process.pid}/fd"
            with contextlib.suppress(OSError):  # one may be gone that others have not waited for yet
                for fd in os.listdir(folder):
                    with contextlib.suppress(OSError):
                        kind = f"{name} {_kind(os.readlink(f'{folder}/{fd}'))}"
                        kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    # crictl.

    def crictl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run crictl; its standard output, stripped. Raises CrictlFailed."""
        assert self.crictl_path is not None, "no crictl: the `node` fixture skips in that case"
        command = [str(each) for each in arguments]
        endpoint = ("--runtime-endpoint", self.config.listen, "--image-endpoint", self.config.listen)
        done = subprocess.run(
            [self.crictl_path, "--config", "/dev/null", "--timeout", f"{PATIENCE:.0f}s", *endpoint, *command],
            capture_output=True,
            text=True,
            check=False,
            input=stdin,
        )
        if done.returncode != 0:
            raise CrictlFailed(command, done.returncode, done.stdout + done.stderr)
        return done.stdout.strip()

    def json(self, *arguments: str) -> Any:
        """Run crictl with `-o json` and parse what it prints."""
        return json.loads(self.crictl(*arguments, "-o", "json"))

    # A user's files.

    def write(self, name: str, document: dict[str, Any]) -> Path:
        path = self.home / f"{name}.json"
        path.write_text(json.dumps(document))
        return path

    def pod_file(self, name: str, **settings: Any) -> Path:
        """A PodSandboxConfig as crictl reads it; `settings` override its fields."""
        document: dict[str, Any] = {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "attempt": 0},
            "hostname": name,
            "log_directory": str(self.logs / name),
            "linux": {},
        }
        return self.write(f"pod-{name}", document | settings)

    def container_file(self, name: str, image: str, *command: str, **settings: Any) -> Path:
        """A ContainerConfig as crictl reads it."""
        document: dict[str, Any] = {
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": image},
            "log_path": f"{name}.log",
            "linux": {},
        }
        if command:
            document["command"] = list(command)
        return self.write(f"container-{name}", document | settings)

    def run_pod(self, name: str, **settings: Any) -> str:
        """RunPodSandbox; its ID."""
        return self.crictl("runp", self.pod_file(name, **settings))

    def create(self, pod: str, name: str, image: str, *command: str, **settings: Any) -> str:
        """CreateContainer in the pod with this ID; its ID."""
        sandbox = json.loads(self.crictl("inspectp", pod))["status"]["metadata"]["name"]
        files = (self.container_file(name, image, *command, **settings), self.home / f"pod-{sandbox}.json")
        return self.crictl("create", pod, *files)

    def start_container(self, pod: str, name: str, image: str, *command: str, **settings: Any) -> str:
        """CreateContainer and StartContainer; its ID."""
        container = self.create(pod, name, image, *command, **settings)
        self.crictl("start", container)
        return container

    def status(self, container: str) -> dict[str, Any]:
        """The `status` of `crictl inspect`."""
        status: dict[str, Any] = json.loads(self.crictl("inspect", container))["status"]
        return status

    def wait_exited(self, container: str) -> dict[str, Any]:
        """Its status once it has exited."""

        def exited() -> dict[str, Any] | None:
            status = self.status(container)
            return status if status["state"] == "CONTAINER_EXITED" else None

        status = wait_for(f"{container} exits", exited)
        assert status is not None
        return status

    def pod_ip(self, pod: str) -> str:
        address: str = json.loads(self.crictl("inspectp", pod))["status"]["network"]["ip"]
        return address


def _kind(link: str) -> str:
    return link.partition(":")[0] if ":[" in link or link.startswith("anon_inode") else "file"

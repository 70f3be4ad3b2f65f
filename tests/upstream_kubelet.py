"""An unmodified upstream kubelet on any CRI socket, with folders of its own and nothing left when it ends.

It runs in a mount namespace of its own, in which the few paths that are fixed in its code (device plugins,
/var/log/containers, the kernel settings it would change) are covered by its own files. Its folder is a shared
mount, so that the volumes it mounts are seen by the runtime outside.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import yaml

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from tests.host import leaks
from tests.ports import free_port

PEERS = Path(os.environ.get("MINIKUBELET_PEERS", "/var/cache/minikubelet-peers")) / "bin"
PATIENCE = 60.0 * float(os.environ.get("MINIKUBELET_PATIENCE", "1"))
"""Seconds until something that should happen counts as not happening."""
T = TypeVar("T")

COVERED = ("/var/lib/kubelet", "/var/log/containers")
"""Folders whose names are fixed in the kubelet."""
KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What it writes below /proc/sys when it starts; it gets files of its own there."""

CONFIG: dict[str, Any] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": "127.0.0.1",
    "healthzPort": 0,
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "failCgroupV1": False,
    "cgroupsPerQOS": False,
    "enforceNodeAllocatable": [],
    "registerNode": False,
    "enableControllerAttachDetach": False,
    "makeIPTablesUtilChains": False,
    "oomScoreAdj": 0,
    "maxPods": 200,
    "fileCheckFrequency": "1s",
    "volumeStatsAggPeriod": "10s",
    "syncFrequency": "10s",
    "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
    "imageGCHighThresholdPercent": 100,
    "imageGCLowThresholdPercent": 99,
}
"""Works on hosts whose controllers are on cgroup v1; the machine's disks and memory play no part in tests."""


def find_kubelet() -> Path | None:
    """The one that scripts/peers built, if it did."""
    path = PEERS / "kubelet"
    return path if path.exists() else None


def wait_for(what: str, probe: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Ask until the answer is true; returns it. AssertionError with the last answer after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; last answer: {answer!r}"
        time.sleep(0.1)


class UpstreamKubelet:
    """One kubelet; a context manager that starts and stops it. Its pods live on when it stops.

    ``home`` must be an empty or new folder with a short name: sockets live below it. ``settings`` override
    fields of KubeletConfiguration, ``flags`` are added to the command line. ``client`` is the certificate and
    the key that it is asked with.
    """

    def __init__(
        self,
        home: Path,
        endpoint: str,
        *,
        settings: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        node_name: str = "host",
        client: tuple[Path, Path] | None = None,
    ) -> None:
        self.home = home
        self.endpoint = endpoint
        self.node_name = node_name
        self.manifests = home / "manifests"
        self.root = home / "root"
        self.pod_logs = home / "pods"
        self.log_file = home / "kubelet.log"
        self.config = {
            **CONFIG,
            "port": free_port(),
            "readOnlyPort": free_port(),
            "staticPodPath": str(self.manifests),
            "podLogsDir": str(self.pod_logs),
            "volumePluginDir": str(home / "volume-plugins"),
            "containerRuntimeEndpoint": endpoint,
            **(settings or {}),
        }
        self.port, self.read_only_port = int(self.config["port"]), int(self.config["readOnlyPort"])
        self.flags = list(flags)
        self.process: subprocess.Popen[bytes] | None = None
        self._unverified = ssl.create_default_context()
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE
        if client is not None:
            self._unverified.load_cert_chain(*client)

    # --- its life --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is healthy. It may be started again after `stop`."""
        assert self.process is None
        kubelet = find_kubelet()
        assert kubelet is not None, "no kubelet: build it with scripts/peers kubelet"
        for folder in (self.manifests, self.root, self.pod_logs):
            folder.mkdir(parents=True, exist_ok=True)
        (self.home / "config.json").write_text(json.dumps(self.config, indent=1))
        self._share_home()
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "unchanged", "sh", "-euc", self._script(kubelet)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        leaks.expect(self.process.pid)
        try:
            wait_for("the upstream kubelet is healthy", self._healthy)
        except BaseException:
            self.stop()
            raise

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and take its mounts away; files below `home` stay."""
        process, self.process = self.process, None
        if process is not None:
            leaks.unexpect(process.pid)
            process.send_signal(number)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        unmount_below(self.home)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self, characters: int = 8000) -> str:
        """The end of its log."""
        return self.log_file.read_text(errors="replace")[-characters:] if self.log_file.exists() else ""

    def _share_home(self) -> None:
        """Make `home` a mount that propagates."""
        subprocess.run(["mount", "--bind", self.home, self.home], check=True)
        subprocess.run(["mount", "--make-shared", self.home], check=True)

    def _script(self, kubelet: Path) -> str:
        """What the shell does in the new mount namespace before it becomes the kubelet."""
        own = self.home / "covers"
        lines = []
        for path in COVERED:
            there = next(each for each in (Path(path), *Path(path).parents) if each.exists())
            # Where the parent is a shared mount, the cover would show outside as well.
            lines.append(f"mount --make-private $(findmnt --noheadings --output TARGET --target {there})")
            lines.append(f"mount -t tmpfs upstream-kubelet {there} && mkdir -p {path}")
        lines.append("mount --make-private /proc")
        for name in KERNEL_SETTINGS:
            source = Path("/proc/sys", name)
            if not source.exists():
                continue
            copy = own / "sys" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(source.read_text())
            lines.append(f"mount --bind {shlex.quote(str(copy))} {source}")
        command = [
            str(kubelet),
            *("--config", str(self.home / "config.json"), "--root-dir", str(self.root)),
            *("--cert-dir", str(self.home / "pki"), "--hostname-override", self.node_name),
            *self.flags,
        ]
        return "\n".join([*lines, f"exec {shlex.join(command)}"])

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the kubelet ended ({self.process.returncode}):\n{self.log()}"
        try:
            return self.get("/healthz") == b"ok"
        except OSError:
            return False

    # --- manifests -------------------------------------------------------------------------------------

    def write(self, name: str, manifest: Mapping[str, Any] | str) -> None:
        """Put a static pod's manifest in place, whole at once."""
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(dict(manifest))
        fresh = self.home / f".{name}.new"
        fresh.write_text(text)
        fresh.rename(self.manifests / f"{name}.yaml")

    def remove(self, name: str) -> None:
        (self.manifests / f"{name}.yaml").unlink(missing_ok=True)

    def drain(self) -> None:
        """Take all manifests away and wait until no pod is known and none runs."""
        for manifest in self.manifests.iterdir():
            manifest.unlink()
        wait_for("all pods are gone", lambda: not self.pods() and not self.running_pods())

    # --- its HTTP API ----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Takes its self-signed certificate."""
        return self._unverified

    def get(self, path: str, method: str = "GET") -> bytes:
        """A request to its API. OSError if it isn't there, HTTPError (which is one too) from 400 on."""
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE, context=self._unverified) as answer:
            body: bytes = answer.read()
            return body

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def pods(self) -> list[dict[str, Any]]:
        """Pods from its sources, with the status that it computed."""
        return self.json("/pods").get("items") or []

    def running_pods(self) -> set[str]:
        """Names of pods whose sandbox is ready: asked of the runtime, for /runningpods may be 2 s old."""
        target = self.endpoint.replace("unix:///", "unix:/")
        with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            answer = services.RUNTIME.connect(channel).ListPodSandbox(api.ListPodSandboxRequest())
        return {each.metadata.name for each in answer.items if each.state == api.SANDBOX_READY}

    def pod(self, name: str) -> dict[str, Any] | None:
        """The pod with that name in its manifest; static pods get the node's name appended."""
        names = {name, f"{name}-{self.node_name}"}
        return next((each for each in self.pods() if each["metadata"]["name"] in names), None)

    def wait_pod(
        self, name: str, what: str, condition: Callable[[dict[str, Any]], object], seconds: float = PATIENCE
    ) -> dict[str, Any]:
        """Wait until a pod is there and meets a condition; the pod. Fails with its status and the log."""
        found: list[dict[str, Any]] = []

        def probe() -> bool:
            pod = self.pod(name)
            found[:] = [pod] if pod else []
            return pod is not None and bool(condition(pod))

        try:
            wait_for(f"pod {name}: {what}", probe, seconds)
        except AssertionError as exc:
            status = json.dumps([each.get("status") for each in found], indent=1)
            raise AssertionError(f"{exc}\n{status}\n{self.log()}") from None
        return found[0]

    def wait_ready(self, name: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until a pod's condition Ready is True; the pod."""
        return self.wait_pod(name, "Ready", is_ready, seconds)

    def wait_gone(self, name: str) -> None:
        """Wait until a pod is neither known nor running."""
        full = f"{name}-{self.node_name}"
        wait_for(f"pod {name} is gone", lambda: not self.pod(name) and full not in self.running_pods())


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def container_status(pod: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A container's status, of whatever kind the container is. LookupError if there is none."""
    status = pod.get("status", {})
    kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    for each in (each for kind in kinds for each in status.get(kind) or []):
        if each["name"] == name:
            return dict(each)
    raise LookupError(name)


def unmount_below(folder: Path) -> None:
    """Unmount what is mounted at and below a folder, the last first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    for point in reversed([each for each in points if each == str(folder) or each.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)

"""Runtimes that the kubelet is tried over: containerd, and minikubelet's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc

from minikubelet.base.config import DaemonConfig
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import node_pb2 as node
from minikubelet.criapi import services
from minikubelet.linux.cgroup.mount import find_mount
from tests.bench.containerd import Containerd, cni_folder
from tests.bench.contenders import remove_cgroups
from tests.host import leaks
from tests.images import catalog
from tests.images.layout import oci_archive
from tests.ports import listens

BRIDGE = "mkkubtest0"
SUBNET = "10.211.0.0/16"
IMAGE = "localhost/kubelet/busybox:1"
PAUSE = "localhost/kubelet/pause:1"
OWN_PARENT = "/k8s.io"
"""Where containerd puts pods that name no parent, and leaves it."""
PATIENCE = 60.0 * float(os.environ.get("MINIKUBELET_PATIENCE", "1"))
"""Seconds that a daemon may take to serve."""
CGROUP_PARENT = f"/mkkubtest-{os.getpid()}"
"""Where pods go in all tests; made and removed with the runtime, since runtimes leave such parents alone."""


class TestContainerd(Containerd):
    """containerd on a plain bridge: no masquerade and no port maps, so that iptables is left alone."""

    __test__ = False
    # By default it passes no limits of huge pages on; they are looked at where cgroup2 has all controllers.
    cri_options = ("disable_hugetlb_controller = false",) if "memory" in find_mount().controllers else ()

    def _write_cni(self) -> None:
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": SUBNET}]],
            "dataDir": str(self.home / "leases"),
        }
        bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipam": ipam}
        conflist = {"cniVersion": "1.0.0", "name": "minikubelet-kubelet-test", "plugins": [bridge]}
        cni_folder()
        (self.home / "cni").mkdir()
        (self.home / "cni" / "10-test.conflist").write_text(json.dumps(conflist))

    def clean_up(self) -> None:
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, stderr=subprocess.DEVNULL)

    def load(self, name: str, archive: bytes) -> None:
        """Import an OCI archive into the namespace that CRI uses."""
        file = self.home / f"{name}.tar"
        file.write_bytes(archive)
        command = [
            str(self.bin_dir / "ctr"),
            "-a",
            str(self.socket),
            "-n",
            "k8s.io",
            "image",
            "import",
            str(file),
        ]
        subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def containerd(home: Path, bin_dir: Path) -> Iterator[str]:
    """A containerd with the test image loaded; its CRI endpoint."""
    runtime = TestContainerd(home, bin_dir, home / "certs", PAUSE)
    runtime.cgroup_parent = CGROUP_PARENT
    os.makedirs(find_mount().path + CGROUP_PARENT, exist_ok=True)
    kept = os.path.isdir(find_mount().path + OWN_PARENT)
    os.makedirs(find_mount().path + OWN_PARENT, exist_ok=True)
    try:
        # The plugin would make it with the first pod and keep it, which looks like a leak of that test.
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=False, capture_output=True)
        runtime.start()
        runtime.load("images", oci_archive({IMAGE: catalog.busybox(), PAUSE: catalog.pause()}))
        yield f"unix://{runtime.socket}"
    finally:
        runtime.stop()
        if not kept:
            remove_cgroups(OWN_PARENT)


@contextlib.contextmanager
def minikubelet(home: Path) -> Iterator[str]:
    """This project's own runtime, without its kubelet, with the test image loaded; its CRI endpoint."""
    home.mkdir(parents=True)
    socket = home / "cri.sock"
    command = [sys.executable, "-m", "minikubelet.cli.main", "daemon", "--no-kubelet"]
    command += ["--root", str(home / "root"), "--run", str(home / "run"), "--listen", f"unix://{socket}"]
    command += ["--unenforced-limits=allow"]
    with open(home / "daemon.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    leaks.expect(process.pid)
    os.makedirs(find_mount().path + CGROUP_PARENT, exist_ok=True)
    try:
        _wait_for(socket, process, home / "daemon.log")
        asyncio.run(_load(str(socket), oci_archive({IMAGE: catalog.busybox()})))
        yield f"unix://{socket}"
    finally:
        with contextlib.suppress(grpc.RpcError):
            _remove_pods(socket)
        process.terminate()
        process.wait(PATIENCE)
        leaks.unexpect(process.pid)
        remove_cgroups(CGROUP_PARENT)
        leaks.remove_host_objects(DaemonConfig(root=str(home / "root"), run=str(home / "run")))


def _wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not listens(socket):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the daemon does not serve:\n{log.read_text()}")
        time.sleep(0.05)


def _remove_pods(socket: Path) -> None:
    """Whatever a kubelet didn't get round to: monitors outlive their daemon."""
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        runtime = services.RUNTIME.connect(channel)
        for each in runtime.ListPodSandbox(api.ListPodSandboxRequest()).items:
            runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=each.id))


async def _load(socket: str, archive: bytes) -> None:
    """Load an archive through the node's own image service."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        store = services.IMAGE_STORE.connect(channel)

        async def pieces() -> AsyncIterator[node.LoadChunk]:
            for start in range(0, len(archive), 1 << 20):
                yield node.LoadChunk(data=archive[start : start + (1 << 20)])

        async for _ in store.Load(pieces()):
            pass

"""Runtimes that the kubelet is tried over: containerd, and minikubelet's own."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.containerd import Containerd, cni_folder
from tests.images import catalog
from tests.images.layout import oci_archive

BRIDGE = "mkkubtest0"
SUBNET = "10.211.0.0/16"
IMAGE = "localhost/kubelet/busybox:1"
PAUSE = "localhost/kubelet/pause:1"


class TestContainerd(Containerd):
    """containerd on a plain bridge: no masquerade and no port maps, so that iptables is left alone."""

    __test__ = False

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
        command = [str(self.bin_dir / "ctr"), "-a", str(self.socket), "-n", "k8s.io", "image", "import", str(file)]
        subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def containerd(home: Path, bin_dir: Path) -> Iterator[str]:
    """A containerd with the test image loaded; its CRI endpoint."""
    runtime = TestContainerd(home, bin_dir, home / "certs", PAUSE)
    try:
        runtime.start()
        runtime.load("images", oci_archive({IMAGE: catalog.busybox(), PAUSE: catalog.pause()}))
        yield f"unix://{runtime.socket}"
    finally:
        runtime.stop()

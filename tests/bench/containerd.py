"""containerd and runc, as scripts/peers builds them, with Debian's CNI plugins."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from minikubelet.runtime.resources import may_lower_oom_score
from tests.bench.contenders import BenchError, Contender

BRIDGE = "mkbench0"
SUBNET = "10.209.0.0/16"
CNI_PLUGINS = ("bridge", "host-local", "portmap", "firewall", "loopback")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
STRAY_FOLDERS = (Path("/run/containerd"), Path("/var/lib/cni"))
"""Made whatever the configuration says; emptied with the last pod."""

# NRI, the opt plugin and the image verifier use folders of the host; the rest needs devices or tools that the
# benchmark doesn't use and only logs that it lacks them.
DISABLED = (
    "io.containerd.nri.v1.nri",
    "io.containerd.internal.v1.opt",
    "io.containerd.image-verifier.v1.bindir",
    "io.containerd.differ.v1.erofs",
    "io.containerd.mount-handler.v1.erofs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.snapshotter.v1.zfs",
)

CONFIG = """version = 3
root = {root}
state = {state}
disabled_plugins = {disabled}

[grpc]
  address = {socket}

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = {pause}
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = {certs}

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = {restricted}
  netns_mounts_under_state_dir = true
{options}
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [{cni_bin}]
    conf_dir = {cni_conf}
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = {runc}
      Root = {runc_root}
      SystemdCgroup = false

[plugins.'io.containerd.shim.v1.manager']
  socket_dir = {sockets}
"""


class Containerd(Contender):
    """The runtime that minikubelet is measured against."""

    name = "containerd"
    volatile = ("state", "runc", "s")
    cri_options: Sequence[str] = ()
    """More lines for the CRI plugin's configuration."""

    def __init__(self, home: Path, bin_dir: Path, certs_dir: Path, pause: str) -> None:
        super().__init__(home)
        self.bin_dir = bin_dir
        self.certs_dir = certs_dir
        self.pause = pause
        self._iptables = IptablesRules()
        self._absent = [path for path in STRAY_FOLDERS if not path.exists()]

    def command(self) -> list[str]:
        self._write_cni()
        config = self.home / "config.toml"
        config.write_text(
            CONFIG.format(
                root=_toml(self.home / "root"),
                state=_toml(self.home / "state"),
                disabled=json.dumps(DISABLED),
                socket=_toml(self.socket),
                pause=_toml(self.pause),
                certs=_toml(self.certs_dir),
                cni_bin=_toml(cni_folder()),
                cni_conf=_toml(self.home / "cni"),
                runc=_toml(self.bin_dir / "runc"),
                runc_root=_toml(self.home / "runc"),
                sockets=_toml(self.home / "s"),
                restricted=json.dumps(not may_lower_oom_score()),
                options="\n".join(f"  {line}" for line in self.cri_options),
            )
        )
        return [str(self.bin_dir / "containerd"), "--config", str(config)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin_dir}:{os.environ['PATH']}"}

    def _write_cni(self) -> None:
        """A usual network: bridge with masquerade and host-local addresses, port maps, firewall."""
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": SUBNET}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self.home / "leases"),
        }
        bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": True, "ipam": ipam}
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        plugins = [bridge, portmap, {"type": "firewall"}]
        conflist = {"cniVersion": "1.0.0", "name": "minikubelet-bench", "plugins": plugins}
        (self.home / "cni").mkdir()
        (self.home / "cni" / "10-bench.conflist").write_text(json.dumps(conflist))

    def helpers(self) -> Iterator[psutil.Process]:
        """The shims: one a pod. They are nobody's children, so they are told by the socket they report to."""
        for process in psutil.process_iter(["cmdline", "name"]):
            command = process.info["cmdline"] or []
            if "containerd-shim" in (process.info["name"] or "") and str(self.socket) in command:
                yield process

    def clean_up(self) -> None:
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, stderr=subprocess.DEVNULL)
        self._iptables.restore()
        for path in self._absent:
            if path.exists() and not any(each.is_file() for each in path.rglob("*")):
                shutil.rmtree(path)


def _toml(value: object) -> str:
    return json.dumps(str(value))


def cni_folder() -> Path:
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    raise BenchError("the CNI plugins are missing: apt-get install containernetworking-plugins")


class IptablesRules:
    """The chains that CNI plugins add and never take away, removed again unless they were there before."""

    def __init__(self) -> None:
        self._tables = _nft_tables()
        self._before = {table: self._lines(table) for table in ("nat", "filter")}

    def restore(self) -> None:
        for table, before in self._before.items():
            added = [line for line in self._lines(table) if line not in before]
            chains = [line.split()[1] for line in added if line.startswith("-N CNI-")]
            for line in added:
                words = line.split()
                if words[0] == "-A" and words[1] not in chains and words[-1].startswith("CNI-"):
                    self._run(table, "-D", *shlex.split(line)[1:])
            for action in ("-F", "-X"):
                for chain in chains:
                    self._run(table, action, chain)
        for name in _nft_tables() - self._tables:
            if name in ("ip nat", "ip filter") and "CNI" not in _nft("list", "table", *name.split()):
                _nft("delete", "table", *name.split())

    def _lines(self, table: str) -> list[str]:
        return self._run(table, "-S").splitlines()

    def _run(self, table: str, *words: str) -> str:
        """iptables' output; "" for a table that isn't there, since merely asking for one would make it."""
        if f"ip {table}" not in _nft_tables():
            return ""
        command = ["iptables", "-w", "-t", table, *words]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def _nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=False, capture_output=True, text=True).stdout


def _nft_tables() -> set[str]:
    return {line.removeprefix("table ") for line in _nft("list", "tables").splitlines()}

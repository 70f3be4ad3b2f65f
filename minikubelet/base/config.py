"""The daemon's settings: plain data, no live objects. Read from file and flags in ``cli``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

SIGNATURE_POLICY = "/etc/containers/policy.json"


@dataclass
class NetworkConfig:
    """The built-in pod network. Empty strings mean: choose, and remember the choice in the state database."""

    bridge: str = ""
    """Name of the bridge link; default ``mk-`` and six hex digits of the instance."""
    subnet: str = ""
    """IPv4 network of the pods, e.g. ``10.85.0.0/22``; default: the first free /22 of ``pool``."""
    pool: str = "10.85.0.0/16"
    """Where a default subnet is taken from."""
    ipv6: str = "off"
    """``off``; ``auto``: pods have an address of a /64 of their own as well (fd00::/8, random, remembered);
    or the IPv6 network to take, e.g. ``2001:db8:1::/64``."""
    mtu: int = 1500
    mode: str = "builtin"
    """``builtin``, or ``cni``: plugins connect the pods, and the settings above have no effect."""
    cni_conf_dir: str = "/etc/cni/net.d"
    """The first ``.conf``, ``.conflist`` or ``.json`` file by name is the network."""
    cni_bin_dirs: list[str] = field(default_factory=lambda: ["/opt/cni/bin", "/usr/lib/cni"])
    """Where plugins are looked for, in this order."""


@dataclass
class DaemonConfig:
    """Settings of ``minikubelet daemon``; paths are absolute."""

    root: str = "/var/lib/minikubelet"
    """State that survives reboots: database, images, layers."""
    run: str = "/run/minikubelet"
    """What only live pods need; on tmpfs."""
    listen: str = "unix:///run/minikubelet/minikubelet.sock"
    """The CRI socket."""
    manifests: str = "/etc/minikubelet/manifests"
    certs_dirs: list[str] = field(
        default_factory=lambda: ["/etc/minikubelet/certs.d", "/etc/containerd/certs.d"]
    )
    """Folders of ``HOST/hosts.toml``; the first that has the host wins."""
    registries_conf: str = "/etc/containers/registries.conf"
    """containers' file of mirrors, blocked registries and short names, if it is there; "" for none."""
    signature_policy: str = SIGNATURE_POLICY
    """containers' file of which images must be signed by whom; "" for none. One set here must exist."""
    registry_auth_file: str = ""
    """Credentials for registries (docker's config.json, containers' auth.json); "" for none."""
    pinned_images: list[str] = field(default_factory=list)
    """References of images that no garbage collection takes."""
    unenforced_limits: str = "refuse"
    """``refuse`` or ``allow``: what happens to a limit (memory, cpu quota, pids) this host can't enforce."""
    kubelet: bool = True
    """False with ``--no-kubelet``."""
    cgroup_root: str = "/minikubelet"
    """Parent cgroup of pods whose request names none; relative to the cgroup2 mount."""
    stream_address: str = "127.0.0.1"
    """Where streaming URLs (exec, attach, port-forward) are served."""
    nri_socket: str = ""
    """Where NRI plugins connect, or ``off``; "": /var/run/nri/nri.sock, but RUN/nri.sock for another RUN."""
    log_level: str = "info"
    network: NetworkConfig = field(default_factory=NetworkConfig)

    @property
    def socket_path(self) -> str:
        """``listen`` without its ``unix://`` scheme."""
        return self.listen.removeprefix("unix://")

    @property
    def nri_path(self) -> str:
        """``nri_socket`` with its default; empty: no plugins."""
        if self.nri_socket == "off":
            return ""
        default = "/var/run/nri/nri.sock" if self.run == DaemonConfig.run else f"{self.run}/nri.sock"
        return self.nri_socket or default

    @property
    def kubelet_socket(self) -> str:
        """The kubelet's local HTTP API, which the command line talks to."""
        return f"{self.run}/kubelet.sock"

    @property
    def instance(self) -> str:
        """Six hex digits that tell daemons on one machine apart, from the state folder's path."""
        return hashlib.sha256(self.root.encode()).hexdigest()[:6]

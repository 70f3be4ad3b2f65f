"""Settings of the kubelet: plain data."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Any

from minikubelet.kubelet.resource_config import ResourceConfig
from minikubelet.kubelet.server_config import ServerConfig


def _hostname() -> str:
    return socket.gethostname().strip().lower()


@dataclass
class KubeletConfig:
    """Settings of one kubelet; paths are absolute."""

    container_runtime_endpoint: str = "unix:///run/minikubelet/minikubelet.sock"
    """The CRI socket of any runtime."""
    image_service_endpoint: str = ""
    """The CRI image service's socket; default: the same as the runtime's."""
    manifests: str = "/etc/minikubelet/manifests"
    """Folder of pod manifests, watched; or a single file. May appear later."""
    file_check_frequency: float = 20.0
    """Seconds after which the folder is read again even if inotify(7) says nothing."""
    static_pod_url: str = ""
    """URL of more manifests; empty: none."""
    static_pod_url_header: dict[str, list[str]] = field(default_factory=dict)
    http_check_frequency: float = 20.0
    """Seconds between two requests for them."""
    root: str = "/var/lib/minikubelet/kubelet"
    """State that outlives the process: pod folders with volumes, hosts files, checkpoints."""
    socket: str = "/run/minikubelet/kubelet.sock"
    """The local HTTP API; empty: none."""
    log_dir: str = "/var/log/pods"
    """Container logs: ``NAMESPACE_NAME_UID/CONTAINER/N.log``."""
    node_name: str = field(default_factory=_hostname)
    node_ip: str = ""
    """What pods see as ``status.hostIP``; default: the address of the default route."""
    resolv_conf: str = "/etc/resolv.conf"
    cluster_dns: list[str] = field(default_factory=list)
    """Name servers of pods with dnsPolicy ClusterFirst; none: these pods get the node's."""
    cluster_domain: str = "cluster.local"
    cgroup_parent: str = ""
    """cgroup_parent of every sandbox, passed on as it is; empty: by QoS class, or the runtime's choice."""
    stop_pods_on_exit: bool = False
    """Terminate all pods gracefully before :meth:`Kubelet.run` returns."""
    remove_orphans: bool = True
    """Terminate and remove pods of the runtime that no manifest asks for."""
    seccomp_default: bool = False
    """RuntimeDefault instead of Unconfined for containers that name no seccomp profile."""
    protect_kernel_defaults: bool = False
    """Refuse to start where the kernel's settings are not those that upstream's kubelet wants."""
    ids_per_pod: int = 65536
    """User and group IDs of a pod with ``hostUsers: false``: a multiple of 65536."""
    allowed_unsafe_sysctls: list[str] = field(default_factory=list)
    """Sysctls of pods beyond the safe ones: names, or beginnings that end in ``*``."""
    credential_provider_config: str = ""
    """File (or folder of files) of kind CredentialProviderConfig; empty: no credential provider is asked."""
    credential_provider_bin_dir: str = ""
    """Where the programs that it names are."""
    runtime_request_timeout: float = 120.0
    """Seconds until a call to the runtime is given up; twice that for sandboxes, at most 30 for queries."""
    serialize_pulls: bool = False
    """One pull at a time."""
    max_parallel_pulls: int = 0
    """Pulls at a time; 0: as many as are asked for."""
    pull_verification: str = "NeverVerifyPreloadedImages"
    """Which pods must show with a pull that they may use an image that is there; see ``pull_records``."""
    pull_allowlist: list[str] = field(default_factory=list)
    """Images that they needn't, with ``NeverVerifyAllowlistedImages``: names, or beginnings with ``/*``."""
    retry_period: float = 10.0
    """Seconds until a failed step (sandbox, volume, container configuration) is tried again."""
    backoff_initial: float = 10.0
    """Seconds of the first CrashLoopBackOff."""
    backoff_max: float = 300.0
    """Seconds of the longest one."""
    resources: ResourceConfig = field(default_factory=ResourceConfig)
    """cgroups, reservations, eviction, garbage collection, log rotation, devices."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """HTTP beyond the local socket."""
    volume_stats_period: float = 60.0
    """Seconds for which the measured size of volumes is shown; 0: they are not measured."""
    effective: dict[str, Any] = field(default_factory=dict)
    """The KubeletConfiguration in force, for /configz."""

    @property
    def pods_dir(self) -> str:
        """Where every pod has its folder, named by UID."""
        return os.path.join(self.root, "pods")

    @property
    def claims_dir(self) -> str:
        """Where PersistentVolumeClaims have their folders: ``NAMESPACE/NAME``, kept when pods go."""
        return os.path.join(self.root, "volumes", "claims")

    def pod_dir(self, uid: str) -> str:
        """The folder of one pod."""
        return os.path.join(self.pods_dir, uid)

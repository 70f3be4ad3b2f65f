"""A kubelet's ports over a fake runtime, and clients with certificates."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from minikubelet.base.errors import Code, NodeError, not_found
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api.backend import Backend, NodeFacts
from minikubelet.kubelet.api.remote import TOKEN_FILE, RemoteApi
from minikubelet.kubelet.clock import SystemClock
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.labels import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID
from minikubelet.kubelet.metrics.instruments import Instruments
from minikubelet.kubelet.metrics.node import NodeMetrics
from minikubelet.kubelet.observed import RuntimeCache
from minikubelet.kubelet.probes.manager import probe_histogram
from minikubelet.kubelet.server_config import ServerConfig
from minikubelet.kubelet.sinks import MemorySink
from minikubelet.kubelet.stats.summary import Statistics

LABELS = {POD_NAME: "web", POD_NAMESPACE: "default", POD_UID: "u1", CONTAINER_NAME: "app"}
NOW = 1_770_000_000_000_000_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def container_stats() -> api.ContainerStats:
    return api.ContainerStats(
        attributes=api.ContainerAttributes(id="c1", labels=LABELS),
        cpu=api.CpuUsage(
            timestamp=NOW,
            usage_core_nano_seconds=api.UInt64Value(value=1_500_000_000),
            usage_nano_cores=api.UInt64Value(value=0),
        ),
        memory=api.MemoryUsage(timestamp=NOW, working_set_bytes=api.UInt64Value(value=4096)),
        swap=api.SwapUsage(
            timestamp=NOW,
            swap_usage_bytes=api.UInt64Value(value=1),
            swap_available_bytes=api.UInt64Value(value=2),
        ),
    )


class Runtime:
    """A runtime with one container, whose streaming server is `url`."""

    def __init__(self) -> None:
        self.url = "http://127.0.0.1:1/x/token"
        self.asked: list[Any] = []
        self.lacks: set[str] = set()
        """What fails, with ``code``."""
        self.code = Code.UNIMPLEMENTED
        self.output = api.ExecSyncResponse(stdout=b"out", exit_code=0)

    def _has(self, name: str) -> None:
        if name in self.lacks:
            raise NodeError(self.code, name)

    async def container_status(self, container_id: str) -> api.ContainerStatus:
        raise not_found("container", container_id)

    async def exec(self, request: api.ExecRequest) -> str:
        self.asked.append(request)
        return self.url

    async def attach(self, request: api.AttachRequest) -> str:
        self.asked.append(request)
        return self.url

    async def port_forward(self, request: api.PortForwardRequest) -> str:
        self.asked.append(request)
        return self.url

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> api.ExecSyncResponse:
        self.asked.append(command)
        return self.output

    async def checkpoint_container(self, request: api.CheckpointContainerRequest) -> None:
        self._has("checkpoint")
        self.asked.append(request)

    async def list_container_stats(self) -> list[api.ContainerStats]:
        return [container_stats()]

    async def list_pod_sandbox_stats(self) -> list[api.PodSandboxStats]:
        self._has("pod stats")
        meta = api.PodSandboxMetadata(name="web", namespace="default", uid="u1")
        stats = container_stats()
        linux = api.LinuxPodSandboxStats(cpu=stats.cpu, memory=stats.memory, containers=[stats])
        return [api.PodSandboxStats(attributes=api.PodSandboxAttributes(id="s1", metadata=meta), linux=linux)]

    async def image_fs_info(self) -> api.ImageFsInfoResponse:
        usage = api.FilesystemUsage(
            fs_id=api.FilesystemIdentifier(mountpoint="/"), used_bytes=api.UInt64Value(value=7)
        )
        return api.ImageFsInfoResponse(image_filesystems=[usage])

    async def list_metric_descriptors(self) -> list[api.MetricDescriptor]:
        self._has("metrics")
        name, keys = "container_cpu_usage_seconds_total", ["container", "pod"]
        return [api.MetricDescriptor(name=name, help="CPU.", label_keys=keys)]

    async def list_pod_sandbox_metrics(self) -> list[api.PodSandboxMetrics]:
        metric = api.Metric(
            name="container_cpu_usage_seconds_total",
            timestamp=NOW,
            metric_type=api.COUNTER,
            label_values=["app", 'w"eb\\'],
            value=api.UInt64Value(value=3),
        )
        unknown = api.Metric(name="nobody_described_me", value=api.UInt64Value(value=1))
        return [api.PodSandboxMetrics(pod_sandbox_id="s1", metrics=[metric, metric, unknown])]


@dataclass
class Ports:
    """All ports of a kubelet, with what stands behind them."""

    folder: Path
    server: ServerConfig = field(default_factory=ServerConfig)
    wrong: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server.address = "127.0.0.1"
        self.server.port = self.server.port or free_port()
        self.config = KubeletConfig(
            root=str(self.folder / "root"), node_name="node", log_dir=str(self.folder), server=self.server
        )
        self.pods = MemorySink()
        self.runtime = Runtime()
        self.cache = RuntimeCache(SystemClock())
        self.instruments = Instruments()
        self.probe_counts = {("u1", "app", "Liveness", "successful"): 3}
        seconds = probe_histogram()
        seconds.observe(0.02, ("u1", "app", "Liveness"))
        metrics = NodeMetrics("node", self.instruments, self.cache, self.probe_counts, seconds)
        statistics = Statistics(self.config, self.runtime, self.pods.pods)
        facts = NodeFacts(self.config, self.cache, statistics, metrics, lambda: self.wrong, lambda: 1)
        self.backend = Backend(self.pods, EventRecorder("node"), self.runtime, facts)
        self.api = RemoteApi(self.backend, self.config, self.instruments, ["127.0.0.1"])

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"

    @property
    def admin(self) -> dict[str, str]:
        token = (self.folder / "root" / TOKEN_FILE).read_text().strip()
        return {"Authorization": f"Bearer {token}"}

    def trusting(self) -> ssl.SSLContext:
        """A client's context that takes this kubelet's own certificate and no other."""
        return ssl.create_default_context(cafile=str(self.folder / "root" / "pki" / "kubelet.crt"))

    async def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, str]:
        connector = aiohttp.TCPConnector(ssl=self.trusting())
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self.base + path, headers=headers, allow_redirects=False) as response,
        ):
            return response.status, await response.text()


def local_session(folder: Path) -> aiohttp.ClientSession:
    """HTTP over the kubelet's unix socket in ``folder``."""
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(folder / "kubelet.sock")))

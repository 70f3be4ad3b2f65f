"""The client: plain CRI calls as a kubelet makes them, on any runtime's socket."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services

CALL_SECONDS = 120.0
STOP_SECONDS = 10
MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# Ends on SIGTERM at once, so that a graceful stop measures the runtime and not the grace period.
WORKLOAD = ("sh", "-c", "trap 'exit 0' TERM; sleep 2147483647 & wait")


@dataclass
class Pod:
    """A pod with one container."""

    config: api.PodSandboxConfig
    sandbox: str = ""
    container: str = ""


class Client:
    """One gRPC channel of its own to a runtime; a context manager."""

    _serial = itertools.count()

    def __init__(self, socket: Path, logs: Path, cgroup_parent: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"unix://{socket}", options)
        self.runtime = services.RUNTIME.connect(self._channel)
        self.images = services.IMAGE.connect(self._channel)
        self._logs = logs
        self._cgroup_parent = cgroup_parent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def is_ready(self) -> bool:
        try:
            status = self.runtime.Status(api.StatusRequest(), timeout=5).status
        except grpc.RpcError:
            return False
        return {each.type for each in status.conditions if each.status} >= {"RuntimeReady", "NetworkReady"}

    def version(self) -> str:
        reply = self.runtime.Version(api.VersionRequest(), timeout=CALL_SECONDS)
        return f"{reply.runtime_name} {reply.runtime_version}"

    # Pods.

    def new_pod(self) -> Pod:
        """A pod's configuration; nothing runs yet."""
        uid, name = str(uuid.uuid4()), f"bench-{os.getpid()}-{next(self._serial)}"
        logs = self._logs / uid
        logs.mkdir(parents=True)
        options = api.NamespaceOption(pid=api.CONTAINER)
        security = api.LinuxSandboxSecurityContext(
            namespace_options=options,
            seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
        )
        config = api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(name=name, uid=uid, namespace="bench"),
            hostname=name,
            log_directory=str(logs),
            dns_config=api.DNSConfig(servers=["192.0.2.53"], searches=["bench.svc.cluster.local"]),
            labels={"io.kubernetes.pod.name": name, "io.kubernetes.pod.uid": uid},
            linux=api.LinuxPodSandboxConfig(
                cgroup_parent=f"{self._cgroup_parent}/{uid}", security_context=security
            ),
        )
        return Pod(config)

    def run_sandbox(self, pod: Pod) -> None:
        request = api.RunPodSandboxRequest(config=pod.config)
        pod.sandbox = self.runtime.RunPodSandbox(request, timeout=CALL_SECONDS).pod_sandbox_id

    def create(self, pod: Pod, image: str, command: Sequence[str] = WORKLOAD) -> None:
        security = api.LinuxContainerSecurityContext(
            namespace_options=api.NamespaceOption(pid=api.CONTAINER),
            masked_paths=MASKED,
            readonly_paths=READ_ONLY,
            seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
        )
        resources = api.LinuxContainerResources(cpu_shares=2, oom_score_adj=1000)
        config = api.ContainerConfig(
            metadata=api.ContainerMetadata(name="main"),
            image=api.ImageSpec(image=image),
            command=command,
            labels={"io.kubernetes.container.name": "main"},
            log_path="main.log",
            linux=api.LinuxContainerConfig(resources=resources, security_context=security),
        )
        request = api.CreateContainerRequest(
            pod_sandbox_id=pod.sandbox, config=config, sandbox_config=pod.config
        )
        pod.container = self.runtime.CreateContainer(request, timeout=CALL_SECONDS).container_id

    def start(self, pod: Pod) -> None:
        self.runtime.StartContainer(
            api.StartContainerRequest(container_id=pod.container), timeout=CALL_SECONDS
        )

    def exec_sync(self, pod: Pod) -> None:
        """Run `true`; raises AssertionError if it didn't run."""
        request = api.ExecSyncRequest(container_id=pod.container, cmd=["true"], timeout=30)
        reply = self.runtime.ExecSync(request, timeout=CALL_SECONDS)
        if reply.exit_code != 0:
            raise AssertionError(f"exec of `true` ended with {reply.exit_code}: {reply.stderr!r}")

    def stop_container(self, pod: Pod) -> None:
        request = api.StopContainerRequest(container_id=pod.container, timeout=STOP_SECONDS)
        self.runtime.StopContainer(request, timeout=CALL_SECONDS)

    def stop_sandbox(self, pod: Pod) -> None:
        self.runtime.StopPodSandbox(
            api.StopPodSandboxRequest(pod_sandbox_id=pod.sandbox), timeout=CALL_SECONDS
        )

    def remove_container(self, pod: Pod) -> None:
        request = api.RemoveContainerRequest(container_id=pod.container)
        self.runtime.RemoveContainer(request, timeout=CALL_SECONDS)

    def remove_sandbox(self, pod: Pod) -> None:
        request = api.RemovePodSandboxRequest(pod_sandbox_id=pod.sandbox)
        self.runtime.RemovePodSandbox(request, timeout=CALL_SECONDS)

    def up(self, image: str, command: Sequence[str] = WORKLOAD) -> Pod:
        pod = self.new_pod()
        self.run_sandbox(pod)
        self.create(pod, image, command)
        self.start(pod)
        return pod

    def down(self, pod: Pod) -> None:
        self.stop_container(pod)
        self.remove_container(pod)
        self.stop_sandbox(pod)
        self.remove_sandbox(pod)

    def kill_container(self, pod: Pod) -> None:
        """Without a grace period."""
        request = api.StopContainerRequest(container_id=pod.container, timeout=0)
        self.runtime.StopContainer(request, timeout=CALL_SECONDS)

    def exec_url(self, pod: Pod, command: Sequence[str]) -> str:
        """Where to stream stdin and stdout of a program."""
        request = api.ExecRequest(container_id=pod.container, cmd=command, stdin=True, stdout=True)
        return str(self.runtime.Exec(request, timeout=CALL_SECONDS).url)

    def forward_url(self, pod: Pod, port: int) -> str:
        """Where to stream connections to a port of the pod."""
        request = api.PortForwardRequest(pod_sandbox_id=pod.sandbox, port=[port])
        return str(self.runtime.PortForward(request, timeout=CALL_SECONDS).url)

    def log(self, pod: Pod) -> Path:
        """The container's log file."""
        return Path(pod.config.log_directory) / "main.log"

    def is_running(self, pod: Pod) -> bool:
        request = api.ContainerStatusRequest(container_id=pod.container)
        status = self.runtime.ContainerStatus(request, timeout=CALL_SECONDS).status
        return bool(status.state == api.CONTAINER_RUNNING)

    # Images.

    def pull(self, reference: str) -> None:
        request = api.PullImageRequest(image=api.ImageSpec(image=reference))
        self.images.PullImage(request, timeout=600)

    def remove_image(self, reference: str) -> None:
        request = api.RemoveImageRequest(image=api.ImageSpec(image=reference))
        self.images.RemoveImage(request, timeout=CALL_SECONDS)

    def remove_everything(self) -> None:
        """All pods, then all images."""
        for sandbox in self.runtime.ListPodSandbox(api.ListPodSandboxRequest(), timeout=CALL_SECONDS).items:
            pod = Pod(api.PodSandboxConfig(), sandbox.id)
            self.stop_sandbox(pod)
            self.remove_sandbox(pod)
        for image in self.images.ListImages(api.ListImagesRequest(), timeout=CALL_SECONDS).images:
            self.remove_image(image.id)

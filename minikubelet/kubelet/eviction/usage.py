"""What a pod uses of the disk and the memory: writable layers, logs, emptyDir volumes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import podfiles
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.defaults import all_containers
from minikubelet.kubelet.objects import Pod
from minikubelet.linux import openat2


@dataclass(frozen=True)
class Disk:
    """Bytes (as allocated) and inodes."""

    used: int = 0
    inodes: int = 0

    def __add__(self, other: Disk) -> Disk:
        return Disk(self.used + other.used, self.inodes + other.inodes)


@dataclass
class ContainerUsage:
    """One container's."""

    memory: int = 0
    """Working set, bytes."""
    rootfs: Disk = Disk()
    logs: Disk = Disk()


@dataclass
class PodUsage:
    """One pod's."""

    containers: dict[str, ContainerUsage] = field(default_factory=dict)
    volumes: dict[str, Disk] = field(default_factory=dict)
    """emptyDir volumes on disk, by name."""
    in_memory: dict[str, Disk] = field(default_factory=dict)
    """emptyDir volumes in memory."""
    other: Disk = Disk()
    """Hosts file, termination messages."""
    tasks: int = 0

    @property
    def memory(self) -> int:
        """Working sets of all containers, bytes."""
        return sum(each.memory for each in self.containers.values())

    @property
    def rootfs(self) -> Disk:
        """All writable layers."""
        return sum((each.rootfs for each in self.containers.values()), Disk())

    @property
    def local(self) -> Disk:
        """Logs and volumes: what is on nodefs wherever the writable layers are."""
        logs = sum((each.logs for each in self.containers.values()), Disk())
        return sum(self.volumes.values(), logs) + self.other


TOO_DEEP = 1 << 62
"""Bytes that a tree counts for when its paths are longer than the kernel opens: nothing hides there."""


def measure(path: str) -> Disk:
    """What is below ``path`` on its file system; hard links count once, links lead nowhere; 0: it is gone."""
    try:
        top = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Disk()
    try:
        status = os.fstat(top)
        total = Disk(status.st_blocks * 512, 1)
        if stat.S_ISDIR(status.st_mode):
            total += _below(top, status.st_dev)
        return total
    finally:
        os.close(top)


def _below(top: int, device: int) -> Disk:
    """Iterative, since pods decide how deep their folders are."""
    used = inodes = 0
    linked: set[int] = set()
    todo = ["."]
    while todo:
        folder = todo.pop()
        try:
            fd = openat2.open_beneath(top, folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            if exc.errno == errno.ENAMETOOLONG:
                return Disk(TOO_DEEP, TOO_DEEP)
            continue  # it went, or became something else, meanwhile
        try:
            for name in os.listdir(fd):
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    continue
                if status.st_dev != device or (status.st_nlink > 1 and status.st_ino in linked):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    todo.append(f"{folder}/{name}")
                elif status.st_nlink > 1:
                    linked.add(status.st_ino)
                inodes += 1
                used += status.st_blocks * 512
        finally:
            os.close(fd)
    return Disk(used, inodes)


def of_pods(
    pods: Iterable[Pod],
    config: KubeletConfig,
    stats: Iterable[api.ContainerStats],
    tasks: Mapping[str, int],
) -> dict[str, PodUsage]:
    """By UID. Walks folders: call it in a thread. ``tasks``: processes by UID."""
    by_pod: dict[str, list[api.ContainerStats]] = {}
    for each in stats:
        by_pod.setdefault(each.attributes.labels.get("io.kubernetes.pod.uid", ""), []).append(each)
    return {pod.uid: _of_pod(pod, config, by_pod.get(pod.uid, []), tasks.get(pod.uid, 0)) for pod in pods}


def _of_pod(pod: Pod, config: KubeletConfig, stats: list[api.ContainerStats], tasks: int) -> PodUsage:
    usage = PodUsage(tasks=tasks)
    logs = podfiles.log_directory(config, pod)
    for container in all_containers(pod.spec):
        found = measure(os.path.join(logs, container.name))
        usage.containers[container.name] = ContainerUsage(logs=found)
    for each in stats:
        name = each.attributes.labels.get("io.kubernetes.container.name", each.attributes.metadata.name)
        own = usage.containers.setdefault(name, ContainerUsage())
        own.memory = each.memory.working_set_bytes.value
        own.rootfs = Disk(each.writable_layer.used_bytes.value, each.writable_layer.inodes_used.value)
    folder = config.pod_dir(pod.uid)
    for volume in pod.spec.volumes:
        if volume.empty_dir is not None:
            found = measure(os.path.join(folder, "volumes", "kubernetes.io~empty-dir", volume.name))
            kind = usage.volumes if volume.empty_dir.medium == "" else usage.in_memory
            kind[volume.name] = found
    usage.other = measure(os.path.join(folder, "containers")) + measure(os.path.join(folder, "etc-hosts"))
    return usage

"""What the spawner finds out about this machine once, and every monitor inherits by fork."""

from __future__ import annotations

import os

from minikubelet.base.errors import StepError
from minikubelet.linux import bpf, capabilities, interpreter, mounts, namespaces
from minikubelet.linux.cgroup import device
from minikubelet.spawner import cgroups
from minikubelet.spawner.steps.plans import Machine

PAUSE = os.path.join(os.path.dirname(__file__), "pause")


class Host:
    """Descriptors (all close-on-exec) and facts that last as long as the process."""

    def __init__(self) -> None:
        self.proc = interpreter.proc_handle()
        self.pause = _open_pause()
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.own_pid = namespaces.own("pid")
        self.own_net = namespaces.own("net")
        self.own_mounts = namespaces.own("mnt")
        flags = mounts.ATTR_RDONLY | mounts.ATTR_NOSUID | mounts.ATTR_NODEV | mounts.ATTR_NOEXEC
        self.empty = mounts.new_filesystem("tmpfs", "size=4k,nr_inodes=2,mode=555", flags)
        self.copies_detached = _copies_detached(self.empty)
        """Whether the kernel copies mounts that are attached nowhere (Linux 6.15)."""
        self.device_filters = _device_filters()
        """Loaded device filters by their instructions: that of containers that ask for no device."""
        self.cgroup_mount = cgroups.mount_point()
        self.machine = Machine(os.uname().machine, capabilities.last_known_to_kernel())

    def descriptors(self) -> list[int]:
        """What a monitor must keep open."""
        return [
            self.proc,
            self.pause,
            self.null,
            self.own_pid,
            self.own_net,
            self.own_mounts,
            self.empty,
            *self.device_filters.values(),
        ]


def _device_filters() -> dict[bytes, int]:
    program = device.program(device.DEFAULT_RULES)
    try:
        return {program: bpf.load_device_program(program)}
    except OSError:  # then the request that needs it says why
        return {}


def _copies_detached(mount: int) -> bool:
    try:
        os.close(mounts.clone_tree("", dirfd=mount))
    except OSError:
        return False
    return True


def _open_pause() -> int:
    try:
        return interpreter.protected_binary(PAUSE)
    except FileNotFoundError as exc:
        detail = "the pause binary has not been built; run scripts/build_hook.py or install a wheel"
        raise StepError("open pause", exc.errno or 0, PAUSE, detail) from exc

"""The cgroups a monitor makes, fills, kills and removes (cgroup v2; Documentation/admin-guide/cgroup-v2)."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

from minikubelet.base.errors import StepError
from minikubelet.linux import bpf
from minikubelet.wire.messages import CgroupSettings

_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc")
_ALWAYS = ("cpu", "io", "memory", "pids", "hugetlb")
"""Switched on for every pod, limited or not: statistics and OOM kills come from the files of most, and a
kubelet limits each container's huge pages. Once there are processes below, the kernel takes some 10 ms for it
(an RCU grace period), before that next to nothing."""
_PARENT_MODE = 0o755
_FILE_SIZE = 16384


def mount_point(mountinfo: str = "/proc/self/mountinfo") -> str:
    """Where cgroup2 is mounted: /sys/fs/cgroup, or …/unified on hybrid hosts. Raises StepError."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            if rest.split(" ", 1)[0] == "cgroup2" and fields.split()[3] == "/":
                return fields.split()[4]
    raise StepError("find the cgroup2 mount", errno.ENOENT, mountinfo)


class Cgroup:
    """One cgroup by path: names below a mount that only the host's root can change."""

    def __init__(self, mount: str, path: str) -> None:
        parts = path.split("/")
        if not path.startswith("/") or ".." in parts or "." in parts:
            raise StepError("make the cgroup", errno.EINVAL, path, "not an absolute path without '..'")
        self.mount = mount
        self.path = "/" + "/".join(part for part in parts if part)
        self.folder = mount + self.path

    def make(self, settings: CgroupSettings) -> None:
        """Make the folder and its parents, switch on what is measured and what ``files`` need, write them."""
        try:
            os.mkdir(self.folder, _PARENT_MODE)
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(self.folder, _PARENT_MODE, exist_ok=True)
        self._enable({*_ALWAYS, *(name.partition(".")[0] for name in settings.files)})
        for name, content in settings.files.items():
            self.write(name, content)

    def filter_devices(self, program: bytes, known: dict[bytes, int]) -> None:
        """Attach a device filter; ``known`` are descriptors of programs loaded already. Raises StepError."""
        folder = self.open()
        loaded = known.get(program, -1)
        try:
            if loaded >= 0:
                bpf.attach_device_program(folder, loaded)
                return
            loaded = bpf.load_device_program(program)
            try:
                bpf.attach_device_program(folder, loaded)
            finally:
                os.close(loaded)
        except OSError as exc:
            raise StepError("filter the devices", exc.errno or 0, self.folder, exc.strerror or "") from exc
        finally:
            os.close(folder)

    def child(self, name: str) -> Cgroup:
        """The cgroup ``name`` below this one."""
        return Cgroup(self.mount, f"{self.path}/{name}")

    def _enable(self, controllers: set[str]) -> None:
        wanted = controllers & set(_CONTROLLERS)
        folder = self.mount
        for part in self.path.split("/")[1:]:
            if not wanted:
                return
            wanted &= set(_read(f"{folder}/cgroup.controllers").split())
            missing = wanted - set(_read(f"{folder}/cgroup.subtree_control").split())
            for controller in sorted(missing):
                # What can't be switched on shows itself when its file is written.
                with contextlib.suppress(OSError):
                    _write(f"{folder}/cgroup.subtree_control", f"+{controller}")
            folder = f"{folder}/{part}"

    def write(self, name: str, content: str) -> None:
        """Write one interface file. Raises StepError with its path."""
        if "/" in name:
            raise StepError("write the cgroup setting", errno.EINVAL, name)
        path = f"{self.folder}/{name}"
        try:
            _write(path, content)
        except OSError as exc:
            raise StepError("write the cgroup setting", exc.errno or 0, path) from exc

    def open(self) -> int:
        """A descriptor of the folder, for clone3(2)."""
        return os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def kill(self) -> None:
        """SIGKILL to all processes in it and below (cgroup.kill, Linux 5.14). Gone: nothing to do."""
        try:
            _write(f"{self.folder}/cgroup.kill", "1")
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENODEV, errno.ESRCH):
                print(f"killing {self.folder}: {exc}", file=sys.stderr)

    def populated(self) -> bool:
        """Whether a live process is in it or below."""
        with contextlib.suppress(FileNotFoundError):
            return "populated 1" in _read(f"{self.folder}/cgroup.events")
        return False

    def oom_kills(self) -> int:
        """The number of its processes the OOM killer took; 0 without a memory controller."""
        try:
            lines = _read(f"{self.folder}/memory.events").splitlines()
        except OSError:
            return 0
        counts = dict(line.split() for line in lines)
        return int(counts.get("oom_kill", "0"))

    def remove(self) -> bool:
        """Remove it with everything below; False while a process is left in it."""
        try:
            os.rmdir(self.folder)
            return True
        except FileNotFoundError:
            return True
        except OSError as exc:
            if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise StepError("remove the cgroup", exc.errno or 0, self.folder) from exc
        return self._remove_below()

    def _remove_below(self) -> bool:
        for folder, _, _ in os.walk(self.folder, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                return False
        return True


def _read(path: str) -> str:
    # Not open(): a monitor that never touches the io module's classes keeps sharing their memory.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _FILE_SIZE).decode()
    finally:
        os.close(fd)


def _write(path: str, content: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content.encode())
    finally:
        os.close(fd)

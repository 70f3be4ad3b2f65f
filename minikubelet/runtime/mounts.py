"""What is mounted in a container, in order: standard file systems, the pod's files, the request's mounts."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.runtime.models import ContainerConfig, DeviceConfig, MountConfig, SandboxConfig
from minikubelet.wire.messages import Device, Mount

_PROPAGATION = {"private": "rprivate", "host-to-container": "rslave", "bidirectional": "rshared"}
_POD_FILES = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}
_UNSAFE = ["nosuid", "nodev", "noexec"]


def container_mounts(
    config: ContainerConfig,
    sandbox: SandboxConfig,
    run_dir: str,
    volumes: Sequence[tuple[str, ...]] = (),
) -> list[Mount]:
    """All mounts for a container of the pod that has ``run_dir``; ``volumes`` as ImageFacts has them.

    Raises NodeError with the field.
    """
    layers = iter(volumes)
    wanted = [
        _bind(number, mount) if mount.image is None else _image(number, mount, next(layers))
        for number, mount in enumerate(config.mounts)
    ]
    taken = {mount.target for mount in wanted}
    wanted += [mount for mount in config.edits.mounts if mount.target not in taken]
    taken |= {mount.target for mount in config.edits.mounts}
    before = [mount for mount in _standard(config, sandbox) if mount.target not in taken]
    pod_files = [mount for mount in _pod_files(config, sandbox, run_dir) if mount.target not in taken]
    # A folder comes before what is mounted below it, whatever the order in the request.
    wanted.sort(key=lambda mount: mount.target.rstrip("/").count("/"))
    return before + pod_files + wanted


def _standard(config: ContainerConfig, sandbox: SandboxConfig) -> Iterator[Mount]:
    read_only = [] if config.security.privileged else ["ro"]
    yield Mount(kind="proc", target="/proc", flags=_UNSAFE)
    yield Mount(kind="tmpfs", target="/dev", flags=["nosuid", "strictatime"], data="mode=755,size=65536k")
    yield Mount(
        kind="devpts",
        target="/dev/pts",
        flags=["nosuid", "noexec"],
        data="newinstance,ptmxmode=0666,mode=0620,gid=5",
    )
    if sandbox.namespaces.ipc == "pod":
        yield Mount(kind="shm", target="/dev/shm", flags=_UNSAFE)
    else:
        yield Mount(kind="bind", source="/dev/shm", target="/dev/shm", flags=_UNSAFE)
    yield Mount(kind="mqueue", target="/dev/mqueue", flags=_UNSAFE, optional=True)
    yield Mount(kind="sysfs", target="/sys", flags=[*_UNSAFE, *read_only])
    yield Mount(kind="cgroup2", target="/sys/fs/cgroup", flags=[*_UNSAFE, "relatime", *read_only])


def _pod_files(config: ContainerConfig, sandbox: SandboxConfig, run_dir: str) -> Iterator[Mount]:
    read_only = ["ro"] if config.security.readonly_rootfs else []
    mapped = sandbox.namespaces.own_users is not None
    for name, target in _POD_FILES.items():
        yield Mount(
            kind="bind", source=f"{run_dir}/{name}", target=target, flags=list(read_only), idmapped=mapped
        )


def _bind(number: int, mount: MountConfig) -> Mount:
    field = f"config.mounts[{number}]"
    flags = list(mount.options)
    if mount.readonly:
        flags.append("rro" if mount.recursive_read_only else "ro")
    return Mount(
        kind="bind",
        source=_host_folder(f"{field}.host_path", mount.host_path),
        target=_target(field, mount),
        flags=flags,
        propagation=_PROPAGATION[mount.propagation],
        idmapped=bool(mount.uid_mappings),
    )


def _image(number: int, mount: MountConfig, layers: tuple[str, ...]) -> Mount:
    """An image volume; CRI: always read-only, whatever the request says of that."""
    field = f"config.mounts[{number}]"
    return Mount(
        kind="image",
        target=_target(field, mount),
        flags=[*mount.options, "ro"],
        layers=list(layers),
        sub_path=mount.image_sub_path,
        field=f"{field}.image_sub_path",
    )


def _target(field: str, mount: MountConfig) -> str:
    target = posixpath.normpath(mount.container_path)
    if target.startswith("//"):
        target = target[1:]
    if target == "/":
        raise invalid(f"{field}.container_path", "is the root of the container")
    return target


def _host_folder(field: str, path: str) -> str:
    """The real path behind ``path``; a folder (0755) is made where nothing is.

    CRI would have an error for what is missing. containerd and CRI-O make a folder, and manifests with a
    hostPath that has no type rely on it.
    """
    if not os.path.lexists(path):
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
        except OSError as exc:
            raise invalid(field, f"{path!r} does not exist and can't be made: {exc.strerror}") from exc
    return host_path(field, path)


def host_path(field: str, path: str) -> str:
    """The real path behind ``path`` on the host; links are followed, what is missing is an error."""
    try:
        real = os.path.realpath(path, strict=True)
    except FileNotFoundError as exc:
        raise NodeError(Code.NOT_FOUND, f"{path!r} does not exist on the host", field=field) from exc
    except OSError as exc:
        raise invalid(field, f"{path!r}: {exc.strerror}") from exc
    return real


# --- devices -----------------------------------------------------------------------------------------


def container_devices(config: ContainerConfig) -> list[Device]:
    """The nodes of the request's devices; for a privileged container all of the host's.

    A host path that is a folder means every node below it, as containerd has it. Raises INVALID_ARGUMENT.
    """
    devices: dict[str, Device] = {}
    if config.security.privileged:
        for device in _below("/dev", "/dev"):
            devices[device.path] = device
    for number, wanted in enumerate(config.devices):
        for device in _requested(f"config.devices[{number}].host_path", wanted):
            devices[device.path] = device
    devices.update({device.path: device for device in config.edits.devices})
    return list(devices.values())


def _requested(field: str, wanted: DeviceConfig) -> Iterator[Device]:
    try:
        real = os.path.realpath(wanted.host_path, strict=True)
        info = os.stat(real)
    except OSError as exc:
        raise invalid(field, f"{wanted.host_path!r}: {exc.strerror}") from exc
    if stat.S_ISDIR(info.st_mode):
        found = list(_below(real, wanted.container_path))
        if not found:
            raise invalid(field, f"no device in {wanted.host_path!r}")
        yield from found
        return
    device = _node(wanted.container_path, info)
    if device is None:
        raise invalid(field, f"{wanted.host_path!r} is not a device")
    yield device


_SKIPPED = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx")
_STANDARD = ("null", "zero", "full", "random", "urandom", "tty")


def _below(folder: str, target: str) -> Iterator[Device]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if folder == "/dev" and entry.name in _SKIPPED + _STANDARD:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{target}/{entry.name}")
            elif not entry.is_symlink():
                device = _node(f"{target}/{entry.name}", entry.stat(follow_symlinks=False))
                if device is not None:
                    yield device


def _node(path: str, info: os.stat_result) -> Device | None:
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
    if not kind:
        return None
    return Device(
        path=path,
        kind=kind,
        major=os.major(info.st_rdev),
        minor=os.minor(info.st_rdev),
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
    )

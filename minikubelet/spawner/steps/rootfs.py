"""The container's file system: overlay root, mounts, devices, masks. Targets are descriptors, never names."""

from __future__ import annotations

import errno
import os
import stat

from minikubelet.linux import libc, mounts, openat2
from minikubelet.spawner.steps.base import Scene, Step
from minikubelet.wire.messages import Device, Mount, StartContainer

_PAGE = 4096
_STANDARD_NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_STANDARD_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)

DEVICE_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
"""File types by the letter that mknod(1) has for them."""


class OpenSources(Step):
    """Copy the trees of all bind mounts before this namespace is cut off from the host's.

    Only so can a source keep the propagation to and from the host that a mount asks for.
    """

    def __init__(self, binds: list[tuple[int, Mount]]) -> None:
        self._binds = binds

    def describe(self) -> str:
        return "open the mount source"

    def execute(self, scene: Scene) -> None:
        for index, mount in self._binds:
            try:
                tree = mounts.clone_tree(mount.source, recursive=True)
            except OSError:
                if mount.optional:
                    continue
                raise
            if mount.idmapped:
                _map_volume(tree, scene)
            scene.sources[index] = tree
            kind, recursive = mounts.PROPAGATIONS[mount.propagation]
            mounts.set_attributes(tree, propagation=kind, recursive=recursive)


def _map_volume(tree: int, scene: Scene) -> None:
    if scene.ids is None:
        raise OSError(errno.EINVAL, "ID-mapped, but the pod has no user namespace")
    try:
        mounts.map_ids(tree, scene.userns, recursive=True)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise OSError(exc.errno, "its file system, or one mounted below, has no ID-mapped mounts") from None


class CutFromHost(Step):
    """Nothing mounted from here on reaches the host; what the host unmounts goes here, too."""

    def describe(self) -> str:
        return "cut the mount namespace from the host's"

    def execute(self, scene: Scene) -> None:
        mounts.set_attributes(libc.AT_FDCWD, "/", propagation=mounts.MS_SLAVE, recursive=True)


class OpenImages(Step):
    """Image volumes as detached trees: one layer as it is, several as an overlay.

    Each is mounted over the folder of the layers for the moment that it takes to copy what is wanted of it.
    """

    def __init__(self, layers_dir: str, images: list[tuple[int, Mount]]) -> None:
        self._layers_dir = layers_dir
        self._images = images

    def describe(self) -> str:
        return "open the image volume"

    def execute(self, scene: Scene) -> None:
        for index, mount in self._images:
            mapped = scene.ids is not None
            if mapped:
                map_layers(self._layers_dir, scene.userns)
            try:
                os.chdir(self._layers_dir)
                scene.sources[index] = self._tree(mount)
            finally:
                os.chdir("/")
                if mapped:
                    mounts.unmount(self._layers_dir)

    def _tree(self, mount: Mount) -> int:
        if len(mount.layers) == 1:
            return _part(mount, mount.layers[0])
        lower = ":".join(name.replace("\\", "\\\\").replace(":", "\\:") for name in mount.layers)
        mounts.mount("overlay", self._layers_dir, "overlay", mounts.MS_RDONLY, f"lowerdir={lower}")
        try:
            return _part(mount, self._layers_dir)
        finally:
            mounts.unmount(self._layers_dir)


def _part(mount: Mount, root: str) -> int:
    """A copy of the mount at ``root``, or of the mount's sub_path in it. Raises OSError naming the field."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if mount.sub_path:
            part = _sub_path(fd, mount)
            os.close(fd)
            fd = part
        return mounts.clone_tree("", dirfd=fd)
    finally:
        os.close(fd)


def _sub_path(root: int, mount: Mount) -> int:
    try:
        return openat2.open_in_root(root, mount.sub_path)
    except OSError as exc:
        text = f"{mount.field}: {os.strerror(exc.errno or 0)} in the image"
        raise OSError(exc.errno, text, mount.sub_path) from None


class MountOverlay(Step):
    """The image's layers and the writable one, mounted in this namespace alone."""

    def __init__(self, request: StartContainer) -> None:
        self._layers_dir = request.layers_dir
        self._lowerdirs = request.lowerdirs
        self._upperdir = request.upperdir
        self._workdir = request.workdir
        self._label = request.mount_label
        lower = ":".join(name.replace("\\", "\\\\").replace(":", "\\:") for name in self._lowerdirs)
        upper, work = (
            path.replace("\\", "\\\\").replace(",", "\\,") for path in (self._upperdir, self._workdir)
        )
        self._options = f"lowerdir={lower},upperdir={upper},workdir={work},index=off,metacopy=off"
        if self._label:
            self._options += f',context="{self._label}"'

    def describe(self) -> str:
        return "mount the overlay on"

    def execute(self, scene: Scene) -> None:
        if scene.ids is not None:
            map_layers(self._layers_dir, scene.userns)
            os.chown(self._upperdir, *scene.ids.root)
        os.chdir(self._layers_dir)
        # Any folder will do as mount point: it is hidden in this namespace only, and becomes the root.
        if len(os.fsencode(self._options)) < _PAGE:
            mounts.mount("overlay", self._layers_dir, "overlay", 0, self._options)
        else:
            overlay = mounts.overlay_filesystem(self._lowerdirs, self._upperdir, self._workdir, self._label)
            target = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            mounts.attach(overlay, target, self._layers_dir)
            os.close(overlay)
            os.close(target)
        scene.root = os.open(self._layers_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def map_layers(layers_dir: str, userns: int) -> None:
    """Put a copy with the pod's owners over the folder of all layers: pods share them as they are."""
    tree = mounts.clone_tree(layers_dir)
    mounts.map_ids(tree, userns)
    target = os.open(layers_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.attach(tree, target, layers_dir)
    os.close(target)
    os.close(tree)


class AttachMount(Step):
    """One mount on its target inside the root."""

    def __init__(self, index: int, mount: Mount, label: str = "") -> None:
        self._index = index
        self._label = label if mount.kind in ("tmpfs", "devpts") else ""
        self._mount = mount
        self._attributes = sum(mounts.ATTRIBUTES[flag] for flag in set(mount.flags))
        self._is_dev = mount.kind == "tmpfs" and mount.target.strip("/") == "dev"

    def describe(self) -> str:
        return f"mount {self._mount.kind} on {self._mount.target}"

    def execute(self, scene: Scene) -> None:
        try:
            self._execute(scene)
        except OSError:
            if not self._mount.optional:
                raise

    def _execute(self, scene: Scene) -> None:
        tree = self._tree(scene)
        if tree < 0:
            return
        target = self._target(scene, tree)
        mounts.attach(tree, target, self._mount.target)
        os.close(target)
        if self._is_dev:
            _populate_dev(tree)
        os.close(tree)

    def _tree(self, scene: Scene) -> int:
        mount = self._mount
        if mount.kind in ("bind", "image"):
            tree = scene.sources.pop(self._index, -1)
        elif mount.kind == "shm":
            # fsmount(2) made it, so it may be copied from any mount namespace; fetched, it is a copy already.
            tree = os.dup(scene.shm) if scene.shm_fetched else mounts.clone_tree("", dirfd=scene.shm)
        else:
            data = mount.data if scene.ids is None else scene.ids.host_options(mount.data)
            return mounts.new_filesystem(mount.kind, data, self._attributes, mount.source, self._label)
        if tree >= 0 and mount.flags:
            atime = mounts.ATTR_ATIME_MASK if _changes_atime(mount.flags) else 0
            recursive = "rro" in mount.flags
            mounts.set_attributes(tree, add=self._attributes, remove=atime, recursive=recursive)
        return tree

    def _target(self, scene: Scene, tree: int) -> int:
        mount = self._mount
        if mount.kind in ("proc", "sysfs"):
            # Their files are trusted by name later on: no detour through links of the image (CVE-2019-19921).
            return openat2.make_folder_in_root(scene.root, mount.target, resolve=openat2.RESOLVE_NO_SYMLINKS)
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            return openat2.make_folder_in_root(scene.root, mount.target)
        return openat2.make_file_in_root(scene.root, mount.target)


def _changes_atime(flags: list[str]) -> bool:
    return any(flag.endswith("atime") for flag in flags)


def _populate_dev(dev: int) -> None:
    for name, major, minor in _STANDARD_NODES:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
    for name, target in _STANDARD_LINKS:
        os.symlink(target, name, dir_fd=dev)


class MakeDevice(Step):
    """A device node beyond the standard ones."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._mode = DEVICE_KINDS[device.kind] | device.mode & 0o7777

    def describe(self) -> str:
        return "make the device"

    def execute(self, scene: Scene) -> None:
        device = self._device
        folder, _, name = device.path.rpartition("/")
        parent = openat2.make_folder_in_root(scene.root, folder)
        rdev = os.makedev(device.major, device.minor)
        try:
            os.mknod(name, self._mode, rdev, dir_fd=parent)
            os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (stat.S_IFMT(info.st_mode), info.st_rdev) != (stat.S_IFMT(self._mode), rdev):
                raise OSError(errno.EEXIST, "something else is there", device.path) from None
        os.close(parent)


class HidePaths(Step):
    """Cover what a container must not see: /dev/null over files, an empty read-only tmpfs over folders."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def describe(self) -> str:
        return "mask"

    def execute(self, scene: Scene) -> None:
        empty = null = -1
        for path in self._paths:
            target = _existing(scene, path)
            if target < 0:
                continue
            if stat.S_ISDIR(os.fstat(target).st_mode):
                if empty < 0:
                    empty = mounts.new_filesystem("tmpfs", "size=0k,nr_inodes=2,mode=555", mounts.ATTR_RDONLY)
                    cover = empty
                else:
                    cover = mounts.clone_tree("", dirfd=empty)
            else:
                null = _real_null(scene) if null < 0 else null
                cover = mounts.clone_tree("", dirfd=null)
            mounts.attach(cover, target, path)
            os.close(target)
            if cover != empty:
                os.close(cover)
        for fd in (empty, null):
            if fd >= 0:
                os.close(fd)


class ProtectPaths(Step):
    """Make parts of the tree read-only."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def describe(self) -> str:
        return "make read-only"

    def execute(self, scene: Scene) -> None:
        for path in self._paths:
            target = _existing(scene, path)
            if target < 0:
                continue
            tree = mounts.clone_tree("", dirfd=target, recursive=True)
            mounts.set_attributes(tree, add=mounts.ATTR_RDONLY, recursive=True)
            mounts.attach(tree, target, path)
            os.close(tree)
            os.close(target)


def _existing(scene: Scene, path: str) -> int:
    """``path`` in the root, -1 when it is not there. What is said to be in /proc must be on a procfs."""
    try:
        fd = openat2.open_in_root(scene.root, path)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    if path.startswith("/proc/") and libc.filesystem_type(fd, path) != mounts.PROC_SUPER_MAGIC:
        os.close(fd)
        raise OSError(errno.EXDEV, "not on the proc file system", path)
    return fd


def _real_null(scene: Scene) -> int:
    """The container's /dev/null, only if it is the null device (CVE-2025-31133)."""
    fd = openat2.open_in_root(scene.root, "/dev/null", resolve=openat2.RESOLVE_NO_SYMLINKS)
    info = os.fstat(fd)
    if not stat.S_ISCHR(info.st_mode) or info.st_rdev != os.makedev(1, 3):
        os.close(fd)
        raise OSError(errno.ENODEV, "not the null device", "/dev/null")
    return fd


class EnterRoot(Step):
    """pivot_root(2) into the new root; the host's tree is gone from this namespace."""

    def __init__(self, propagation: str) -> None:
        self._shared = propagation in ("shared", "rshared")

    def describe(self) -> str:
        return "pivot into the root"

    def execute(self, scene: Scene) -> None:
        mounts.pivot_into(scene.root)
        if self._shared:
            mounts.set_attributes(libc.AT_FDCWD, "/", propagation=mounts.MS_SHARED)


class ProtectRoot(Step):
    """A read-only root; mounts on it keep what they have."""

    def describe(self) -> str:
        return "make the root read-only"

    def execute(self, scene: Scene) -> None:
        mounts.set_attributes(libc.AT_FDCWD, "/", add=mounts.ATTR_RDONLY)

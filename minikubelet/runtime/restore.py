"""A checkpoint's archive as the image of CreateContainer: taken apart, checked, put into a new container.

The archive is that of CheckpointContainer, containerd's or CRI-O's (checkpointctl, lib/metadata.go). CRIU
itself is executed by StartContainer (``spawner/steps/restore.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from minikubelet.base.errors import Code, NodeError, invalid, unimplemented
from minikubelet.images.models import Image
from minikubelet.images.unpack import UnpackRequest, Worker, mark_opaque
from minikubelet.runtime import checks, container_spec, criu
from minikubelet.runtime.context import Context
from minikubelet.runtime.files import pod_hostname
from minikubelet.runtime.models import Container, ContainerConfig, Restored, Sandbox

_FIELD = "config.image"
_LOG_MODE = 0o640
_FACTS_SIZE = 1 << 20
_UTS_MAGIC_SIZE = 8
"""Two numbers at the head of an image of CRIU's (criu/image.c, write_img_service)."""
_CHECKPOINT_ANNOTATIONS = (
    "io.kubernetes.cri-o.annotations.checkpoint.name",
    "org.criu.checkpoint.container.name",
)
_T = TypeVar("_T")


class Facts(msgspec.Struct, rename="camel"):
    """What ``config.dump`` says, as far as it matters."""

    name: str = ""
    rootfs_image: str = ""
    rootfs_image_ref: str = ""
    checkpointed_time: str = ""


@dataclass
class Checkpoint:
    """An archive that has been taken apart."""

    folder: str
    facts: Facts
    streams: tuple[str, ...]
    """What the init's 0, 1 and 2 were; empty: not known."""

    def config(self, asked: ContainerConfig) -> ContainerConfig:
        """The configuration with the image that the checkpointed container had (as containerd does it)."""
        annotations = {
            **asked.annotations,
            "restored": "true",
            "checkpointedAt": self.facts.checkpointed_time,
            "checkpointImage": asked.image.user_specified_image or asked.image.image,
        }
        image = msgspec.structs.replace(
            asked.image, image=self.facts.rootfs_image_ref, user_specified_image=self.facts.rootfs_image
        )
        return self.described(msgspec.structs.replace(asked, image=image, annotations=annotations))

    def described(self, asked: ContainerConfig) -> ContainerConfig:
        """A configuration that names the container's own image, as it is."""
        return msgspec.structs.replace(asked, restored=Restored(streams=self.streams))

    async def place(self, container: Container, container_dir: str) -> None:
        """Put memory and changed files into the container's folder, which has an empty ``upper``.

        The log goes on in a copy of the old one.
        """
        hostname = pod_hostname(container.sandbox.config)
        os.rename(f"{self.folder}/checkpoint", f"{container_dir}/checkpoint")
        for name in ("criu", "root"):
            os.mkdir(f"{container_dir}/{name}", 0o700)
        await asyncio.to_thread(_rename_host, f"{container_dir}/checkpoint", hostname)
        if container.log_path:
            await asyncio.to_thread(_copy_log, f"{self.folder}/container.log", container.log_path)
        layer = f"{self.folder}/rootfs-diff.tar"
        if os.path.exists(layer):
            fd = os.open(layer, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                await _unpack(fd, f"{container_dir}/upper")
            finally:
                os.close(fd)


def archive(config: ContainerConfig) -> str:
    """The image of ``config`` where it is the path of a file, else nothing."""
    path = config.image.image
    return path if os.path.isabs(path) and os.path.lexists(path) else ""


@contextlib.asynccontextmanager
async def opened(
    context: Context, sandbox: Sandbox, config: ContainerConfig, path: str
) -> AsyncIterator[Checkpoint]:
    """The checkpoint at ``path`` for ``config``, in a folder of the trash. Raises NodeError.

    UNIMPLEMENTED for what can't be restored into, INVALID_ARGUMENT for what is no checkpoint.
    """
    _check_asked(sandbox, config)
    criu.find()
    folder = f"{context.trash}/{secrets.token_hex(8)}"
    os.mkdir(folder, 0o700)
    try:
        fd = _open(path)
        try:
            await _unpack(fd, folder)
        finally:
            os.close(fd)
        yield await asyncio.to_thread(_read, folder, config, path)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)


def _check_asked(sandbox: Sandbox, config: ContainerConfig) -> None:
    namespaces = sandbox.config.namespaces
    own = container_spec.pid_namespace(config, sandbox) == "container"
    if not own or namespaces.network != "pod" or namespaces.ipc != "pod":
        raise unimplemented("restoring a container that shares the host's network or IPC, or another's PIDs")
    if namespaces.own_users is not None:
        raise unimplemented("restoring a container in a user namespace")
    if config.tty:
        raise unimplemented("restoring a container with a terminal")
    if config.security.readonly_rootfs:  # with CRIU 3.17 it would come back writable
        raise unimplemented("restoring a container with a read-only root")


def _open(path: str) -> int:
    """The archive for reading; nobody but this user may have had a hand in it. Raises INVALID_ARGUMENT."""
    checks.absolute(_FIELD, path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise invalid(_FIELD, f"{path!r}: {exc.strerror}") from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        text = "is no regular file"
    elif info.st_uid != os.geteuid() or info.st_mode & 0o022:
        # CRIU gives processes the rights that the archive says, whatever the pod's security context says.
        text = f"must belong to user {os.geteuid()} and be writable by nobody else: its processes are trusted"
    else:
        return fd
    os.close(fd)
    raise invalid(_FIELD, f"{path!r} {text}")


def refuse_image(context: Context, image: Image) -> None:
    """Raises UNIMPLEMENTED for an image that is a checkpoint, as CRI-O's and containerd's users push them."""
    if image.config.entrypoint or image.config.cmd:
        return  # it has a program of its own, and needn't be looked at more closely
    annotations = context.images.annotations(image)
    for name in _CHECKPOINT_ANNOTATIONS:
        if name in annotations:
            # Whoever pushed it would say what rights its processes have, whatever the pod's spec says.
            raise unimplemented(f"{_FIELD}: restoring a checkpoint out of an image (annotation {name})")


async def _unpack(fd: int, folder: str) -> None:
    """Unpack a tar as layers are, in a jail. Raises NodeError INVALID_ARGUMENT for a bad one."""
    digest = await asyncio.to_thread(_digest, fd)
    worker = Worker(UnpackRequest(fd, os.fstat(fd).st_size, folder, digest))
    try:
        worker.start()
        worker.wake()
        report = await worker.finish()
    except NodeError as exc:
        raise invalid(_FIELD, f"the checkpoint can't be unpacked: {exc}") from exc
    finally:
        worker.abort()
    await asyncio.to_thread(mark_opaque, folder, report.opaque)


def _digest(fd: int) -> str:
    found = hashlib.sha256()
    offset = 0
    while data := os.pread(fd, 1 << 20, offset):
        found.update(data)
        offset += len(data)
    return f"sha256:{found.hexdigest()}"


def _read(folder: str, config: ContainerConfig, archived: str) -> Checkpoint:
    for path, mode in _everything(folder):
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise invalid(_FIELD, f"the checkpoint has something else than files and folders: {path!r}")
    if not os.path.exists(f"{folder}/checkpoint/inventory.img"):
        raise invalid(_FIELD, f"{archived!r} is no checkpoint: it has no checkpoint/inventory.img")
    facts = _decode(f"{folder}/config.dump", Facts)
    if not facts.rootfs_image_ref:
        raise invalid(_FIELD, "the checkpoint's config.dump has no rootfsImageRef")
    descriptors = f"{folder}/checkpoint/descriptors.json"
    streams = _decode(descriptors, list[str]) if os.path.exists(descriptors) else []
    if streams[:1] and streams[0].startswith("pipe:[") and not config.stdin:
        raise invalid("config.stdin", "the checkpointed program reads its standard input from a pipe")
    return Checkpoint(folder, facts, tuple(streams[:3]))


def _copy_log(source: str, target: str) -> None:
    """A log that is there already stays as it is."""
    with (
        contextlib.suppress(FileNotFoundError, FileExistsError),
        open(source, "rb") as old,
        open(target, "xb", opener=_open_log) as new,
    ):
        shutil.copyfileobj(old, new)


def _open_log(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _LOG_MODE)


def _everything(folder: str) -> Iterator[tuple[str, int]]:
    for here, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = f"{here}/{name}"
            yield os.path.relpath(path, folder), os.lstat(path).st_mode


def _decode(path: str, kind: type[_T]) -> _T:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(_FACTS_SIZE), type=kind)
    except (OSError, msgspec.MsgspecError) as exc:
        raise invalid(_FIELD, f"the checkpoint's {os.path.basename(path)}: {exc}") from None


def _rename_host(images: str, name: str) -> None:
    """CRIU would give the new pod the old one's host name: put the new one's into its image.

    ``utsns-N.img`` is a head, the length of what follows, and a message UtsnsEntry: fields 1 and 2 are node
    and domain name (criu/images/utsns.proto).
    """
    encoded = name.encode()
    domain = b"(none)"
    entry = b"\x0a" + bytes([len(encoded)]) + encoded + b"\x12" + bytes([len(domain)]) + domain
    for each in os.listdir(images):
        if each.startswith("utsns-") and each.endswith(".img"):
            path = f"{images}/{each}"
            with open(path, "rb") as file:
                head = file.read(_UTS_MAGIC_SIZE)
            with open(path, "wb") as file:
                file.write(head + len(entry).to_bytes(4, "little") + entry)


def explained(context: Context, container: Container, failure: NodeError) -> NodeError:
    """The failure of a start, with CRIU's reason where it was a restore."""
    if container.config.restored is None:
        return failure
    log = f"{context.container_dir(container.id)}/criu/restore.log"
    if not os.path.exists(log):
        return failure
    return NodeError(Code.FAILED_PRECONDITION, f"CRIU can't restore the checkpoint: {criu.errors(log)}")


def forget_images(context: Context, container: Container) -> None:
    """The container runs: what CRIU needed for it is not needed any more."""
    if container.config.restored is not None:
        context.discard(f"{context.container_dir(container.id)}/checkpoint")

"""CheckpointContainer: CRIU writes a running container's memory and state down; the container goes on.

The archive has the files that containerd and CRI-O write and checkpointctl reads (its lib/metadata.go).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from minikubelet.base.errors import Code, NodeError, invalid, precondition
from minikubelet.linux.cgroup import core
from minikubelet.runtime import checks, container_spec, criu
from minikubelet.runtime.checkpoint_archive import write_archive, write_upper
from minikubelet.runtime.context import Context
from minikubelet.runtime.models import Container
from minikubelet.wire.messages import StartContainer

_PATIENCE = 300.0
"""Seconds, where the caller gives none."""
_OWN = {"proc", "sysfs", "tmpfs", "devpts", "mqueue"}
"""File systems that belong to a container, with everything in them; all other mounts come from outside."""


async def checkpoint_container(
    context: Context, identifier: str, location: str, timeout: int, status: dict[str, Any]
) -> None:
    """Checkpoint a running container to the file ``location``; ``status`` is CRI's ContainerStatus.

    ``timeout`` in seconds, 0: the default. Raises UNIMPLEMENTED without CRIU, FAILED_PRECONDITION for what
    can't be checkpointed, DEADLINE_EXCEEDED.
    """
    checks.absolute("location", location)
    if timeout < 0:
        raise invalid("timeout", f"{timeout} is negative")
    if not os.path.isdir(os.path.dirname(location)):
        raise invalid("location", f"{os.path.dirname(location)!r} is no folder")
    program = criu.find()
    container, _ = context.running(identifier)
    check_possible(container)
    await _within(context, _Checkpoint(container, program, location, status), timeout or _PATIENCE)


def check_possible(container: Container) -> None:
    """Raises FAILED_PRECONDITION for what no checkpoint can hold."""
    if container.config.tty:
        raise precondition(f"container {container.id} has a terminal, whose other side can't be checkpointed")


@dataclass
class _Checkpoint:
    container: Container
    program: str
    location: str
    status: dict[str, Any]
    abandoned: bool = False
    """Nobody waits for it any more: there will be no archive."""


async def _within(context: Context, wanted: _Checkpoint, seconds: float) -> None:
    """CRIU is never killed: what it has put into the container's processes, only it can take out again."""
    work = context.background(_write(context, wanted))
    try:
        await asyncio.wait_for(asyncio.shield(work), seconds)
    except TimeoutError:
        wanted.abandoned = True
        text = f"CRIU has not written the checkpoint within {seconds:g} s"
        raise NodeError(Code.DEADLINE_EXCEEDED, text) from None
    except asyncio.CancelledError:
        wanted.abandoned = True
        raise


async def _write(context: Context, wanted: _Checkpoint) -> None:
    container = wanted.container
    async with container.sandbox.lock:
        context.running(container.id)
        with work_folder(context) as folder:
            with frozen(context, [container]):
                await capture(context, container, wanted.program, folder, wanted.status)
            if not wanted.abandoned:
                await asyncio.to_thread(write_archive, folder, wanted.location)


@contextlib.contextmanager
def work_folder(context: Context) -> Iterator[str]:
    """For one container's files; in the trash from the beginning: the next start removes it at the latest."""
    folder = f"{context.trash}/{secrets.token_hex(8)}"
    os.makedirs(f"{folder}/checkpoint", mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def frozen(context: Context, containers: Sequence[Container]) -> Iterator[None]:
    """Memory and files at one moment: all of the containers stand still meanwhile."""
    try:
        for container in containers:
            core.freeze(context.cgroups.path + container.cgroup, True)
        yield
    finally:
        for container in containers:
            thaw(context, container)


async def capture(
    context: Context, container: Container, program: str, folder: str, status: dict[str, Any]
) -> None:
    """Put all files of a frozen container's checkpoint into ``folder``. Raises NodeError."""
    _write_facts(context, container, folder, status)
    await _run([program, *_arguments(context, container, folder)], f"{folder}/dump.log")
    upper = f"{context.container_dir(container.id)}/upper"
    await asyncio.to_thread(write_upper, upper, f"{folder}/rootfs-diff.tar")
    await asyncio.to_thread(_copy_log, container, folder)
    stats = f"{folder}/checkpoint/stats-dump"
    if os.path.exists(stats):
        os.rename(stats, f"{folder}/stats-dump")


def _copy_log(container: Container, folder: str) -> None:
    """With all that the container has written: its monitor had CRIU's time to read the rest."""
    if container.log_path:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(container.log_path, f"{folder}/container.log", follow_symlinks=False)


def thaw(context: Context, container: Container) -> None:
    """Let a container go on that was frozen for a checkpoint; one that isn't, or has ended, is fine."""
    with contextlib.suppress(OSError):
        core.freeze(context.cgroups.path + container.cgroup, False)


async def _run(command: list[str], log_path: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    code = await process.wait()
    if code != 0:
        raise NodeError(Code.FAILED_PRECONDITION, f"CRIU can't write the checkpoint: {criu.errors(log_path)}")


def _arguments(context: Context, container: Container, folder: str) -> list[str]:
    pid = container.status.pid
    request = container_spec.start_request(container, context.places(container), context.enforcement)
    arguments = ["dump", "--tree", str(pid), "--images-dir", f"{folder}/checkpoint", "--work-dir", folder]
    arguments += ["--log-file", "dump.log", "-v2", "--leave-running", "--manage-cgroups=ignore"]
    arguments += ["--freeze-cgroup", context.cgroups.path + container.cgroup]
    # What processes share with others beyond the container, whatever it is, doesn't keep them from going on.
    arguments += ["--ext-unix-sk", "--tcp-established", "--file-locks", "--link-remap"]
    arguments += ["--enable-external-masters", "--skip-in-flight"]
    for target in _external_mounts(pid, request):
        arguments += ["--external", f"mnt[{target}]:{target}"]
    for kind, key in (("net", "extRootNetNS"), ("pid", "extRootPidNS")):
        if kind == "net" or request.pid_namespace != "container":
            number = os.stat(f"/proc/{pid}/ns/{kind}").st_ino
            arguments += ["--external", f"{kind}[{number}]:{key}"]
    return arguments


def _external_mounts(pid: int, request: StartContainer) -> list[str]:
    """Where something is mounted that isn't the container's own (proc_pid_mountinfo(5))."""
    own = {mount.target for mount in request.mounts if mount.kind in _OWN}
    found = []
    with open(f"/proc/{pid}/mountinfo") as file:
        for line in file:
            root, target = line.split(" ")[3:5]
            target = (
                target.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")
            )
            if target != "/" and not (target in own and root == "/"):
                found.append(target)
    return found


# --- facts -------------------------------------------------------------------------------------------


def _write_facts(context: Context, container: Container, folder: str, status: dict[str, Any]) -> None:
    config, own = container.config, container.status
    facts = {
        "id": container.id,
        "name": config.metadata.name,
        "rootfsImage": config.image.image,
        "rootfsImageRef": container.image_id,
        "rootfsImageName": config.image.user_specified_image or config.image.image,
        "runtime": "minikubelet",
        "createdTime": _time(container.created_at),
        "checkpointedTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "restoredTime": "0001-01-01T00:00:00Z",
        "restored": False,
    }
    times = {"CreatedAt": container.created_at, "StartedAt": own.started_at, "FinishedAt": 0}
    _write_json(f"{folder}/config.dump", facts)
    _write_json(f"{folder}/status.dump", status)
    _write_json(f"{folder}/status", {**times, "ExitCode": 0, "Pid": own.pid, "Reason": "", "Message": ""})
    _write_json(f"{folder}/spec.dump", _spec(context, container))
    # Under the name that runc has for it: which pipes are to be replaced by the restored container's.
    _write_json(f"{folder}/checkpoint/descriptors.json", [_descriptor(own.pid, fd) for fd in (0, 1, 2)])


def _descriptor(pid: int, number: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except FileNotFoundError:  # closed
        return ""


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat().replace("+00:00", "Z")


def _spec(context: Context, container: Container) -> dict[str, Any]:
    """The container in the words of the OCI runtime specification, as far as readers of archives look."""
    request = container_spec.start_request(container, context.places(container), context.enforcement)
    process = request.process
    annotations = {**container_spec.oci_annotations(container), "io.container.manager": "minikubelet"}
    return {
        "ociVersion": "1.2.0",
        "annotations": annotations,
        "process": {
            "args": [item.decode("utf-8", "replace") for item in process.args],
            "env": [item.decode("utf-8", "replace") for item in process.env],
            "cwd": process.cwd,
        },
        "mounts": [
            {"destination": mount.target, "type": mount.kind, "source": mount.source, "options": mount.flags}
            for mount in request.mounts
        ],
        "linux": {"cgroupsPath": container.cgroup},
    }


def _write_json(path: str, content: Any) -> None:
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump(content, file, indent=2)

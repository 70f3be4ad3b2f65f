"""CheckpointPod: several containers of a pod as of one moment, in a folder of the caller's.

The folder gets one archive a container, like CheckpointContainer's, and ``pod.json``, which names them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from minikubelet.base.clock import now_ns
from minikubelet.base.errors import invalid
from minikubelet.runtime import checks, container_spec, criu
from minikubelet.runtime.checkpoint import capture, check_possible, frozen, work_folder
from minikubelet.runtime.checkpoint_archive import write_archive
from minikubelet.runtime.context import Context
from minikubelet.runtime.models import Container, Sandbox

INDEX = "pod.json"
VERSION = 1

Describe = Callable[[Container], dict[str, Any]]
"""CRI's ContainerStatus as plain data."""


class Member(msgspec.Struct, kw_only=True):
    """One container of a pod's checkpoint: what a restore must ask for."""

    name: str
    file: str
    image_id: str
    args: list[str]
    cwd: str
    env: list[str]
    """Without HOSTNAME, which is the pod's."""


class Index(msgspec.Struct, kw_only=True):
    """The content of ``pod.json``."""

    version: int
    checkpointed_at: int
    """ns since the epoch."""
    members: list[Member]


@dataclass
class _Wanted:
    sandbox: Sandbox
    containers: list[Container]
    program: str
    folder: int
    """Descriptor of the caller's folder: nothing is written outside of it."""
    describe: Describe
    written: list[str] = field(default_factory=list)
    abandoned: bool = False
    """Nobody waits for it any more."""


async def checkpoint_pod(
    context: Context,
    identifier: str,
    output_path: str,
    container_ids: Sequence[str],
    options: Mapping[str, str],
    describe: Describe,
) -> None:
    """Checkpoint running containers of a pod; all stand still until the last one has been captured.

    Raises INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, UNIMPLEMENTED without CRIU; the folder is empty
    then. CRIU is never killed: should the caller go away, the container that it is at is finished first.
    """
    refuse_options(options)
    checks.absolute("output_path", output_path)
    sandbox = context.sandbox(identifier)
    context.ready(sandbox)
    containers = _chosen(context, sandbox, container_ids)
    program = criu.find()
    folder = _open(output_path)
    wanted = _Wanted(sandbox, containers, program, folder, describe)
    work = context.background(_write(context, wanted))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        wanted.abandoned = True
        raise


def refuse_options(options: Mapping[str, str]) -> None:
    """There are none yet. Raises INVALID_ARGUMENT."""
    for name in options:
        raise invalid(f"options[{name[:100]!r}]", "is no option of this runtime")


def _chosen(context: Context, sandbox: Sandbox, identifiers: Sequence[str]) -> list[Container]:
    if not identifiers:
        raise invalid("container_ids", "is empty")
    chosen: dict[str, Container] = {}
    for number, identifier in enumerate(identifiers):
        where = f"container_ids[{number}]"
        container, _ = context.running(identifier)
        if container.sandbox is not sandbox:
            raise invalid(where, f"{container.id} is not in pod sandbox {sandbox.id}")
        if container.config.metadata.name in chosen:
            raise invalid(where, f"there is a {container.config.metadata.name!r} already")
        check_possible(container)
        chosen[container.config.metadata.name] = container
    return list(chosen.values())


def _open(path: str) -> int:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise invalid("output_path", f"{path!r}: {exc.strerror}") from None
    if os.listdir(folder):
        os.close(folder)
        raise invalid("output_path", f"{path!r} is not empty")
    return folder


async def _write(context: Context, wanted: _Wanted) -> None:
    try:
        async with wanted.sandbox.lock:
            for container in wanted.containers:
                context.running(container.id)
            await _capture_all(context, wanted)
    except BaseException:
        _take_back(wanted)
        raise
    finally:
        os.close(wanted.folder)


async def _capture_all(context: Context, wanted: _Wanted) -> None:
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(work_folder(context)) for _ in wanted.containers]
        moment = now_ns()
        with frozen(context, wanted.containers):
            for container, folder in zip(wanted.containers, folders, strict=True):
                if not wanted.abandoned:
                    status = wanted.describe(container)
                    await capture(context, container, wanted.program, folder, status)
        members = list(_members(wanted.containers))
        for member, folder in zip(members, folders, strict=True):
            if not wanted.abandoned:
                wanted.written.append(member.file)
                path = f"/proc/self/fd/{wanted.folder}/{member.file}"
                await asyncio.to_thread(write_archive, folder, path)
        _write_index(wanted, Index(version=VERSION, checkpointed_at=moment, members=members))
    if wanted.abandoned:
        _take_back(wanted)


def _members(containers: Sequence[Container]) -> Iterator[Member]:
    for number, container in enumerate(containers):
        yield member(container, f"container-{number}.tar")


def member(container: Container, file: str) -> Member:
    """What a checkpoint says of a container, or a restored one must be like."""
    process = container_spec.process(container)
    return Member(
        name=container.config.metadata.name,
        file=file,
        image_id=container.image_id,
        args=[_text(item) for item in process.args],
        cwd=process.cwd,
        env=sorted(_text(item) for item in process.env if not item.startswith(b"HOSTNAME=")),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _write_index(wanted: _Wanted, index: Index) -> None:
    """The last file: a folder without it is no checkpoint."""
    wanted.written.append(INDEX)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(INDEX, flags, 0o600, dir_fd=wanted.folder), "wb") as file:
        file.write(msgspec.json.encode(index))


def _take_back(wanted: _Wanted) -> None:
    for name in wanted.written:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=wanted.folder)

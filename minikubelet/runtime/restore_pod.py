"""RestorePod: a pod whose containers go on from a checkpoint that CheckpointPod has written.

The containers are created, not started: StartContainer lets CRIU go on with them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from minikubelet.base.errors import NodeError, invalid
from minikubelet.base.undo import UndoStack
from minikubelet.runtime import checks
from minikubelet.runtime.checkpoint_pod import INDEX, VERSION, Index, Member, member, refuse_options
from minikubelet.runtime.context import Context
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.models import ContainerConfig, SandboxConfig
from minikubelet.runtime.remove_sandbox import remove_sandbox
from minikubelet.runtime.run_sandbox import run_sandbox
from minikubelet.runtime.security import read_regular

_INDEX_SIZE = 4 << 20


@dataclass(frozen=True)
class PodRestore:
    """RestorePodRequest."""

    checkpoint_path: str
    config: SandboxConfig
    runtime_handler: str
    options: Mapping[str, str]
    containers: tuple[ContainerConfig, ...]


async def restore_pod(context: Context, wanted: PodRestore) -> tuple[str, dict[str, str]]:
    """Make the pod; returns its ID and those of its containers by name. On failure nothing is left.

    Raises INVALID_ARGUMENT for a checkpoint that isn't one, and for containers that aren't those of the
    checkpoint; UNIMPLEMENTED, NOT_FOUND and FAILED_PRECONDITION as RunPodSandbox and CreateContainer do.
    """
    refuse_options(wanted.options)
    checks.absolute("checkpoint_path", wanted.checkpoint_path)
    members = _matched(wanted, _read(wanted.checkpoint_path))
    async with UndoStack("RestorePod") as undo:
        sandbox_id = await run_sandbox(context, wanted.config, wanted.runtime_handler)
        undo.push("pod", lambda: remove_sandbox(context, sandbox_id))
        made = {}
        for number, (config, checkpointed) in enumerate(zip(wanted.containers, members, strict=True)):
            with named(f"container_configs[{number}]"):
                archive = f"{wanted.checkpoint_path}/{checkpointed.file}"
                container_id = await create_container(context, sandbox_id, config, archive)
                _compare(member(context.container(container_id), checkpointed.file), checkpointed)
            made[checkpointed.name] = container_id
        return sandbox_id, made


class named:
    """``with named(field)``: errors about ``config`` are about that field of the request."""

    def __init__(self, field: str) -> None:
        self._field = field

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the error anew with the field that the caller knows."""
        if isinstance(error, NodeError) and error.field.split(".")[0] == "config":
            field = self._field + error.field.removeprefix("config")
            raise NodeError(error.code, error.message, field=field, reason=error.reason) from error


def _read(folder: str) -> Index:
    """The index; only the daemon's user may have had a hand in it. Raises INVALID_ARGUMENT."""
    field = "checkpoint_path"
    try:
        info = os.lstat(folder)
        if not stat.S_ISDIR(info.st_mode):
            raise invalid(field, f"{folder!r} is no folder")
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            text = f"must belong to user {os.geteuid()} and be writable by nobody else: it is trusted"
            raise invalid(field, f"{folder!r} {text}")
        index = msgspec.json.decode(read_regular(f"{folder}/{INDEX}", _INDEX_SIZE), type=Index)
    except OSError as exc:
        raise invalid(field, f"{folder!r} is no checkpoint of a pod: {exc.strerror}") from None
    except (msgspec.MsgspecError, ValueError) as exc:
        raise invalid(field, f"{folder!r} is no checkpoint of a pod: {exc}") from None
    if index.version != VERSION:
        raise invalid(field, f"{folder!r} is of version {index.version}, not {VERSION}")
    for each in index.members:
        if "/" in each.file or each.file in ("", ".", ".."):
            raise invalid(field, f"{folder!r} names a file elsewhere: {each.file!r}")
    return index


def _matched(wanted: PodRestore, index: Index) -> list[Member]:
    """The checkpoint's containers in the order of the request's: the same names, each once."""
    found = {each.name: each for each in index.members}
    seen: set[str] = set()
    for number, config in enumerate(wanted.containers):
        name, field = config.metadata.name, f"container_configs[{number}].metadata.name"
        if not name or name in seen:
            raise invalid(field, f"{name!r} is empty or there twice")
        if name not in found:
            raise invalid(field, f"the checkpoint has no container {name!r}")
        seen.add(name)
    if lacking := sorted(set(found) - seen):
        raise invalid("container_configs", f"lacks {', '.join(lacking)} of the checkpoint")
    if not seen:
        raise invalid("container_configs", "is empty")
    return [found[config.metadata.name] for config in wanted.containers]


def _compare(asked: Member, checkpointed: Member) -> None:
    """The request describes the process, it doesn't change it. Raises INVALID_ARGUMENT."""
    fields = {"image_id": "config.image", "args": "config.command", "cwd": "config.working_dir"}
    for name, field in (*fields.items(), ("env", "config.envs")):
        if getattr(asked, name) != getattr(checkpointed, name):
            raise invalid(field, "is not what the container was checkpointed with")

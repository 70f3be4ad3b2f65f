"""CreateContainer: a record and two folders; the kernel's work is StartContainer's."""

from __future__ import annotations

import asyncio
import os

import msgspec

from minikubelet.base.clock import now_ns
from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.base.ids import new_id
from minikubelet.base.undo import UndoStack
from minikubelet.images.models import Image
from minikubelet.runtime import cdi, container_spec, labels, log_files, restore
from minikubelet.runtime.context import Context
from minikubelet.runtime.events import EventKind
from minikubelet.runtime.models import Container, ContainerConfig, Sandbox
from minikubelet.runtime.validation import check_container
from minikubelet.wire.messages import StartContainer


async def create_container(
    context: Context, sandbox_identifier: str, config: ContainerConfig, archive: str = ""
) -> str:
    """Make a container in a ready sandbox; returns its ID. Refuses what StartContainer would refuse.

    With ``archive`` it goes on from that checkpoint, and is otherwise what ``config`` says; a
    checkpoint may also be the image of ``config``, which then stands for the container's own.
    """
    sandbox = context.sandbox(sandbox_identifier)
    async with sandbox.lock:
        context.ready(sandbox)
        check_container(config, sandbox.config)
        config = await _with_devices(config)
        _check_name(sandbox, config)
        path = archive or restore.archive(config)
        if not path:
            return await _create(context, sandbox, config, None)
        async with restore.opened(context, sandbox, config, path) as checkpoint:
            made = checkpoint.described(config) if archive else checkpoint.config(config)
            return await _create(context, sandbox, made, checkpoint)


async def _create(
    context: Context, sandbox: Sandbox, config: ContainerConfig, checkpoint: restore.Checkpoint | None
) -> str:
    image = _image(context, config)
    volumes = _volumes(context, config)
    container = _container(sandbox, config, image, volumes)
    # Builds everything once, so that each wrong field is told now.
    request = container_spec.start_request(container, context.places(container), context.enforcement)
    if request.mount_label:
        run_dir = context.places(container).run_dir
        await asyncio.to_thread(labels.relabel, config, run_dir, request.mount_label)
    async with UndoStack("CreateContainer") as undo:
        if context.plugins.active:
            await _ask_plugins(context, container, request, undo)
        if container.log_path:
            log_files.make_folder(sandbox.config.log_directory, config.log_path)
        folder = context.container_dir(container.id)
        os.mkdir(folder, 0o711)
        undo.push("folders", lambda: context.discard(folder))
        os.mkdir(f"{folder}/upper", 0o755)
        os.mkdir(f"{folder}/work", 0o700)
        if checkpoint is not None:
            await checkpoint.place(container, folder)
        with context.store.db.transaction():
            for held in (image, *volumes):
                context.images.hold(held.id, container.id)
            context.store.add_container(container)
    sandbox.containers[container.id] = container
    context.containers[container.id] = container
    context.events.publish(EventKind.CREATED, sandbox, container)
    if context.plugins.active:
        await context.plugins.container_created(container)
    return container.id


async def _ask_plugins(
    context: Context, container: Container, request: StartContainer, undo: UndoStack
) -> None:
    """Let plugins change what is about to be made. Raises NodeError."""
    undo.push("plugins: removed", lambda: context.plugins.remove_container(container))
    undo.push("plugins: stopped", lambda: context.plugins.stop_container(container))
    adjusted = await context.plugins.create_container(container, request)
    if adjusted is None:
        return
    names = (*container.config.cdi_devices, *adjusted.cdi_devices)
    config = msgspec.structs.replace(container.config, adjusted=adjusted, cdi_devices=names)
    container.config = await _with_devices(config) if adjusted.cdi_devices else config
    container.status.resources = adjusted.resources
    container_spec.start_request(container, context.places(container), context.enforcement)


async def _with_devices(config: ContainerConfig) -> ContainerConfig:
    """The configuration with what its CDI devices bring."""
    if not cdi.requested(config):
        return config
    return msgspec.structs.replace(config, edits=await asyncio.to_thread(cdi.resolve, config))


def _check_name(sandbox: Sandbox, config: ContainerConfig) -> None:
    for other in sandbox.containers.values():
        if other.config.metadata == config.metadata:
            name = f"{config.metadata.name} (attempt {config.metadata.attempt})"
            raise NodeError(
                Code.ALREADY_EXISTS,
                f"container name {name!r} is reserved for {other.id}",
                field="config.metadata",
            )


def _image(context: Context, config: ContainerConfig) -> Image:
    image = context.images.find(config.image.image)
    if image is None:
        raise NodeError(Code.NOT_FOUND, f"image {config.image.image!r} is not here", field="config.image")
    restore.refuse_image(context, image)
    return image


def _volumes(context: Context, config: ContainerConfig) -> list[Image]:
    """The images that are mounted, in the order of the request's mounts."""
    found = []
    for number, mount in enumerate(config.mounts):
        if mount.image is None:
            continue
        field = f"config.mounts[{number}].image"
        image = context.images.find(mount.image.image)
        if image is None:
            raise NodeError(Code.NOT_FOUND, f"image {mount.image.image!r} is not here", field=field)
        if not image.layers:
            raise invalid(field, f"image {mount.image.image!r} has no layers")
        found.append(image)
    return found


def _container(sandbox: Sandbox, config: ContainerConfig, image: Image, volumes: list[Image]) -> Container:
    container_spec.check_target(config, sandbox)
    if config.log_path and not sandbox.config.log_directory:
        raise invalid("config.log_path", "needs the sandbox's log_directory")
    container_id = new_id()
    facts = container_spec.image_facts(image, volumes)
    return Container(
        id=container_id,
        sandbox=sandbox,
        config=config,
        created_at=now_ns(),
        image_id=image.id,
        image=facts,
        stop_signal=container_spec.stop_signal(config, facts),
        log_path=os.path.join(sandbox.config.log_directory, config.log_path) if config.log_path else "",
        cgroup=f"{sandbox.cgroup}/{container_id}",
    )

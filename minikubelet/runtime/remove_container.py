"""RemoveContainer: kill it if it runs, then its folders and its record go."""

from __future__ import annotations

from minikubelet.runtime.context import Context
from minikubelet.runtime.events import EventKind
from minikubelet.runtime.lifecycle import remove_cgroup
from minikubelet.runtime.models import Container
from minikubelet.runtime.peer import PeerGone
from minikubelet.runtime.stop_container import kill


async def remove_container(context: Context, identifier: str) -> None:
    """Remove a container, by force if it runs; an unknown one is fine (CRI: idempotent)."""
    container = context.find_container(identifier)
    if container is None:
        return
    sandbox = container.sandbox
    async with sandbox.lock:
        if container.id not in context.containers:
            return
        await kill(context, container)
        monitor = sandbox.monitor
        try:
            if monitor is not None and not monitor.gone:
                await monitor.remove_container(container.id)
            else:
                remove_cgroup(context, container.cgroup)
        except PeerGone:
            remove_cgroup(context, container.cgroup)
        if context.plugins.active:
            await context.plugins.remove_container(container)
        forget(context, container)


def forget(context: Context, container: Container) -> None:
    """Drop an ended container's record, image layers and writable layer."""
    with context.store.db.transaction():
        context.store.delete_container(container.id)
        context.images.release(container.id)
    context.discard(context.container_dir(container.id))
    container.sandbox.containers.pop(container.id, None)
    context.containers.pop(container.id, None)
    container.exited.set()
    context.events.publish(EventKind.DELETED, container.sandbox, container)

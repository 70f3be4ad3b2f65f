"""RemovePodSandbox: the pod's containers, monitor, folders and records go."""

from __future__ import annotations

from minikubelet.runtime.context import Context
from minikubelet.runtime.events import EventKind
from minikubelet.runtime.lifecycle import remove_cgroups, remove_parents
from minikubelet.runtime.models import Sandbox
from minikubelet.runtime.remove_container import forget
from minikubelet.runtime.stop_sandbox import release_network, stop_locked


async def remove_sandbox(context: Context, identifier: str) -> None:
    """Remove a sandbox, stopping it first if need be; an unknown one is fine (CRI: idempotent)."""
    sandbox = context.find_sandbox(identifier)
    if sandbox is None:
        return
    async with sandbox.lock:
        if sandbox.id in context.sandboxes:
            await remove_locked(context, sandbox)


async def remove_locked(context: Context, sandbox: Sandbox) -> None:
    """Remove it; the caller holds its lock."""
    if not sandbox.status.stopped_at:
        await stop_locked(context, sandbox)
    await release_network(context, sandbox)
    if context.plugins.active:
        for container in list(sandbox.containers.values()):
            await context.plugins.remove_container(container)
        await context.plugins.remove_sandbox(sandbox)
    monitor = sandbox.monitor
    if monitor is not None and not monitor.gone:
        await monitor.shutdown()
        monitor.close()
        remove_parents(context, sandbox)
    else:
        remove_cgroups(context, sandbox)
    sandbox.monitor = None
    # From here on nothing waits: a cancelled call has either not begun or finished this.
    context.discard_run_dir(sandbox.id)
    with context.store.db.transaction():
        for container in list(sandbox.containers.values()):
            forget(context, container)
        context.store.delete_sandbox(sandbox.id)
    context.give_up_name(sandbox)
    del context.sandboxes[sandbox.id]
    context.events.publish(EventKind.DELETED, sandbox)

"""ReopenContainerLog: go on in a new file after rotation renamed the old one."""

from __future__ import annotations

from minikubelet.base.errors import precondition
from minikubelet.runtime.context import Context


async def reopen_log(context: Context, identifier: str) -> None:
    """Raises NOT_FOUND, FAILED_PRECONDITION (not running, no log), StepError."""
    container, monitor = context.running(identifier)
    if not container.log_path:
        raise precondition(f"container {container.id} has no log")
    await monitor.reopen_log(container.id)

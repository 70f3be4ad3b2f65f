"""UpdateContainerResources: new values in the record, the cgroup, and the processes that run."""

from __future__ import annotations

from minikubelet.base.errors import StepError, precondition
from minikubelet.linux import oom
from minikubelet.linux.cgroup import files
from minikubelet.runtime.context import Context
from minikubelet.runtime.models import Container, ContainerState, LinuxResources
from minikubelet.runtime.resources import merge, warn_of_oom_scores


async def update_resources(context: Context, identifier: str, update: LinuxResources) -> None:
    """Change what ``update`` specifies; the rest stays. Raises NodeError, StepError naming the file."""
    container = context.container(identifier)
    async with container.sandbox.lock:
        container = context.container(container.id)
        _check_state(container)
        if context.plugins.active:
            update = await context.plugins.update_container(container, update)
            _check_state(container)
        put_in_force(context, container, merge(container.resources, update))
        if context.plugins.active:
            await context.plugins.container_updated(container)


def _check_state(container: Container) -> None:
    if container.state is ContainerState.EXITED:
        raise precondition(f"container {container.id} is in state {container.state.value}")


def put_in_force(context: Context, container: Container, resources: LinuxResources) -> None:
    """Give a container all of ``resources``, in one step. Raises NodeError, StepError naming the file."""
    values = context.enforcement.files(resources, f"container {container.id[:13]}", "linux")
    if container.state is ContainerState.RUNNING:
        folder = context.cgroups.path + container.cgroup
        try:
            files.write_all(folder, values)
            score = resources.oom_score_adj
            if score != container.resources.oom_score_adj and not oom.set_scores(folder, score):
                warn_of_oom_scores()
        except OSError as exc:
            raise StepError("write the cgroup setting", exc.errno or 0, str(exc.filename or "")) from exc
    container.status.resources = resources
    container.exec_template = None
    context.store.save_container(container)

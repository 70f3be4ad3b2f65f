"""UpdatePodSandboxResources: new values in the record and in the pod's cgroup if it is ours."""

from __future__ import annotations

from minikubelet.base.errors import StepError
from minikubelet.linux.cgroup import files
from minikubelet.runtime.context import Context
from minikubelet.runtime.models import LinuxResources, Sandbox
from minikubelet.runtime.resources import merge, with_overhead


def pod_cgroup_files(
    context: Context, sandbox: Sandbox, field: str = "config.linux.resources"
) -> dict[str, str]:
    """The settings of the pod's cgroup; none where the request named one: it belongs to who asked for it.

    (The kubelet sets up its pods' cgroups itself and tells the sums for runtimes with virtual machines.)
    Raises INVALID_ARGUMENT, FAILED_PRECONDITION for what this host can't enforce.
    """
    config, status = sandbox.config, sandbox.status
    total = with_overhead(status.resources or config.resources, status.overhead or config.overhead)
    if config.cgroup_parent:
        context.enforcement.plan(total, field)
        return {}
    return context.enforcement.files(total, f"pod sandbox {sandbox.id[:13]}", field)


async def update_sandbox_resources(
    context: Context, identifier: str, overhead: LinuxResources | None, resources: LinuxResources | None
) -> None:
    """Change what is specified; the rest stays. Raises NodeError, StepError naming the file."""
    sandbox = context.sandbox(identifier)
    async with sandbox.lock:
        context.ready(sandbox)
        if context.plugins.active:
            await context.plugins.update_sandbox(sandbox, overhead, resources)
        status = sandbox.status
        before = status.resources, status.overhead
        status.resources = _merged(status.resources or sandbox.config.resources, resources)
        status.overhead = _merged(status.overhead or sandbox.config.overhead, overhead)
        try:
            values = pod_cgroup_files(context, sandbox, "resources" if resources else "overhead")
            files.write_all(context.cgroups.path + sandbox.cgroup, values)
        except OSError as exc:
            status.resources, status.overhead = before
            raise StepError("write the cgroup setting", exc.errno or 0, str(exc.filename or "")) from exc
        except BaseException:
            status.resources, status.overhead = before
            raise
        context.store.save_sandbox(sandbox)
        if context.plugins.active:
            await context.plugins.sandbox_updated(sandbox)


def _merged(current: LinuxResources | None, update: LinuxResources | None) -> LinuxResources | None:
    if update is None:
        return current
    return merge(current or LinuxResources(), update)

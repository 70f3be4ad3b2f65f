"""Lifecycle hooks: exec, httpGet and sleep, after start and before stop."""

from __future__ import annotations

import asyncio

from minikubelet.base.errors import NodeError
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.objects import Container, LifecycleHandler, Pod
from minikubelet.kubelet.probes import http
from minikubelet.kubelet.probes.outcome import ProbeError

HTTP_TIMEOUT = 3600.0
"""A hook's GET has no limit of its own; the pod's termination bounds it."""


class HookFailed(Exception):
    """A hook did not succeed; the text says how, and may hold what the hook printed."""


async def run_hook(
    client: CriClient, pod: Pod, container: Container, container_id: str, hook: LifecycleHandler, pod_ip: str
) -> None:
    """Run one hook to its end. Raises HookFailed."""
    name = f'for Container "{container.name}" in Pod "{pod.title}" failed'
    if hook.exec is not None:
        try:
            result = await client.exec_sync(container_id, hook.exec.command, 0)
        except NodeError as exc:
            raise HookFailed(f"Exec lifecycle hook ({hook.exec.command}) {name} - error: {exc}") from None
        if result.exit_code:
            output = (result.stdout + result.stderr)[:1024].decode(errors="replace")
            raise HookFailed(
                f"Exec lifecycle hook ({hook.exec.command}) {name} - error: command exited with "
                f'{result.exit_code}, message: "{output}"'
            )
    elif hook.http_get is not None:
        try:
            request = http.new_request(hook.http_get, container, pod_ip, "lifecycle")
            await http.fetch(request, HTTP_TIMEOUT)
        except (http.RequestFailed, ProbeError) as exc:
            raise HookFailed(f"HTTP lifecycle hook ({hook.http_get.path}) {name} - error: {exc}") from None
    elif hook.sleep is not None:
        await asyncio.sleep(hook.sleep.seconds)
    else:
        raise HookFailed(f"Cannot run handler {name}: it says neither exec, httpGet nor sleep")

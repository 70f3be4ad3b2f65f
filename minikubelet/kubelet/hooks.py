"""Lifecycle hooks: exec, httpGet and sleep, after start and before stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from minikubelet.base.errors import NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.events import WARNING
from minikubelet.kubelet.node import Node
from minikubelet.kubelet.objects import Container, LifecycleHandler, Pod
from minikubelet.kubelet.objects.containers import ExecAction
from minikubelet.kubelet.probes import http
from minikubelet.kubelet.probes.outcome import ProbeError
from minikubelet.kubelet.probes.ports import join_host_port
from minikubelet.kubelet.quoting import quote

HTTP_TIMEOUT = 3600.0
"""A hook's GET has no limit of its own; the pod's termination bounds it."""

OUTPUT_LIMIT = 1024
"""Bytes of each kind of output that an error shows."""

ASK_TIMEOUT = 5.0
"""Seconds in which a server that is not one for TLS shows whether it is one for HTTP."""


class HookFailed(Exception):
    """A hook did not succeed; the text says how, and may hold what the hook printed."""


async def run_hook(
    client: CriClient,
    pod: Pod,
    container: Container,
    container_id: str,
    hook: LifecycleHandler,
    pod_ip: str,
    fell_back: Callable[[str], None],
) -> None:
    """Run one hook to its end. Raises HookFailed.

    ``fell_back`` hears, in words for an event, that an HTTPS hook was carried out over HTTP.
    """
    name = f'for Container "{container.name}" in Pod "{pod.title}" failed'
    if hook.exec is not None:
        try:
            result = await client.exec_sync(container_id, hook.exec.command, 0)
        except NodeError as exc:
            raise HookFailed(f'{_exec_hook(hook.exec)} {name} - error: {exc}, message: ""') from None
        if result.exit_code:
            raise HookFailed(f"{_exec_hook(hook.exec)} {name} - {_exit(hook.exec, result)}")
    elif hook.http_get is not None:
        try:
            request = http.new_request(hook.http_get, container, pod_ip, "lifecycle")
            await _fetch(request, fell_back)
        except (http.RequestFailed, ProbeError) as exc:
            raise HookFailed(f"HTTP lifecycle hook ({hook.http_get.path}) {name} - error: {exc}") from None
    elif hook.sleep is not None:
        await asyncio.sleep(hook.sleep.seconds)
    else:
        raise HookFailed(f"Cannot run handler {name}: it says neither exec, httpGet nor sleep")


def _exec_hook(action: ExecAction) -> str:
    return f"Exec lifecycle hook ([{' '.join(action.command)}])"


def _exit(action: ExecAction, result: api.ExecSyncResponse) -> str:
    """Upstream's words for a command that ended badly; it shows what was printed, quoted as Go does it."""
    said = result.stderr[:OUTPUT_LIMIT].decode(errors="replace")
    output = quote((result.stdout + result.stderr)[:OUTPUT_LIMIT].decode(errors="replace"))
    code = result.exit_code
    return f"error: command '{' '.join(action.command)}' exited with {code}: {said}, message: {output}"


def tell_fallback(node: Node, pod: Pod, words: str) -> None:
    """An HTTPS hook was carried out over HTTP: an event, and counted."""
    node.instruments.http_fallbacks.inc()
    node.events.pod(pod, WARNING, "LifecycleHTTPFallback", words)


async def _fetch(request: http.Request, fell_back: Callable[[str], None]) -> None:
    """GET, over plain HTTP where the server answers TLS with it: hooks once ignored the scheme.

    An answer is enough, whatever its status and whether its body can be read. Raises http.RequestFailed, that
    of the first attempt if both fail.
    """
    try:
        await http.fetch(request, HTTP_TIMEOUT)
    except ProbeError:
        return
    except http.NotTls as exc:
        if not await http.answers_in_http(request.host, request.port, ASK_TIMEOUT):
            raise
        # What was meant for an encrypted connection only is not sent over an open one.
        open_headers = {name: each for name, each in request.headers.items() if name != "Authorization"}
        try:
            await http.fetch(replace(request, scheme="http", headers=open_headers), HTTP_TIMEOUT)
        except ProbeError:
            pass
        except http.RequestFailed:
            raise exc from None
        where = join_host_port(request.host, request.port)
        fell_back(f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded")

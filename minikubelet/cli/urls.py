"""Which URLs of a ready pod answer over HTTP."""

from __future__ import annotations

import asyncio

from minikubelet.kubelet.objects import Container, ContainerPort, Pod
from minikubelet.kubelet.objects.containers import HTTPGetAction
from minikubelet.kubelet.probes import http
from minikubelet.kubelet.probes.outcome import ProbeError

_TIMEOUT = 2.0


async def answering(pod: Pod) -> list[str]:
    """URLs of the pod's TCP ports, host ports first, that answer any GET with a status below 500."""
    wanted = [
        request
        for container in pod.spec.containers
        for port in container.ports
        if port.protocol in ("", "TCP")
        for request in _requests(pod, container, port)
    ]
    answers = await asyncio.gather(*(_answers(request) for request in wanted))
    urls = [request.url for request, good in zip(wanted, answers, strict=True) if good]
    return list(dict.fromkeys(urls))


def _requests(pod: Pod, container: Container, port: ContainerPort) -> list[http.Request]:
    """The host's address if there is one, and the pod's; path and scheme are those of an HTTP probe there."""
    scheme, path = "http", "/"
    for probe in (container.readiness_probe, container.startup_probe, container.liveness_probe):
        action = probe.http_get if probe else None
        if action is not None and action.port in (port.name, port.container_port):
            scheme, path = action.scheme or scheme, action.path or path
            break
    places = []
    if port.host_port and not pod.spec.host_network:
        address = "127.0.0.1" if port.host_ip in ("", "0.0.0.0") else port.host_ip
        places.append((address, port.host_port))
    if pod.status.pod_ip:
        places.append((pod.status.pod_ip, port.container_port))
    requests = []
    for host, number in places:
        try:
            action = HTTPGetAction(path=path, port=number, scheme=scheme)
            requests.append(http.new_request(action, container, host))
        except ProbeError:
            continue
    return requests


async def _answers(request: http.Request) -> bool:
    try:
        return (await http.fetch(request, _TIMEOUT)).status < 500
    except (http.RequestFailed, ProbeError):
        return False

"""Ports and addresses of probes and hooks."""

from __future__ import annotations

from minikubelet.kubelet.objects.containers import Container
from minikubelet.kubelet.probes.outcome import ProbeError


def resolve_port(port: int | str | None, container: Container) -> int:
    """A number, or the container port of that name; a string of digits passes too. Raises ProbeError."""
    number = port
    if isinstance(port, str):
        named = [entry.container_port for entry in container.ports if entry.name == port]
        if named:
            number = named[0]
        elif port.isascii() and port.isdigit():
            number = int(port)
        else:
            raise ProbeError(f"port {port} not found")
    if not isinstance(number, int) or not 0 < number < 65536:
        raise ProbeError(f"invalid port number: {number}")
    return number


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

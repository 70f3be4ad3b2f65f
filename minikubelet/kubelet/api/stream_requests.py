"""CRI requests for exec, attach and port-forward out of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minikubelet.base.errors import invalid
from minikubelet.criapi import api_pb2 as api

Query = Mapping[str, Sequence[str]]
TUNNEL = "SPDY/3.1+portforward.k8s.io"
"""The subprotocol of a WebSocket that carries SPDY (KEP-4006)."""


def exec_request(query: Query, container_id: str) -> api.ExecRequest:
    """The CRI request of a query; both upstream's names (input, output, error) and the API's pass.

    Raises NodeError INVALID_ARGUMENT.
    """
    command = query.get("command", [])
    if not command:
        raise invalid("command", "you must specify at least 1 command for the container")
    tty, stdin, stdout, stderr = _streams(query)
    return api.ExecRequest(
        container_id=container_id, cmd=command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr
    )


def attach_request(query: Query, container_id: str, *, tty: bool) -> api.AttachRequest:
    """As :func:`exec_request`; whether there is a terminal is the container's matter, not the client's."""
    _, stdin, stdout, stderr = _streams({**query, "tty": ["1" if tty else "0"]})
    return api.AttachRequest(container_id=container_id, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)


def port_forward_request(query: Query, sandbox_id: str, protocols: str | None) -> api.PortForwardRequest:
    """Ports are named here for WebSockets; with SPDY, in a WebSocket or not, they come with the streams.

    ``protocols`` are those that a WebSocket is asked for with; None: it is none. Raises NodeError
    INVALID_ARGUMENT.
    """
    ports: list[int] = []
    if protocols is None or TUNNEL in protocols:
        return api.PortForwardRequest(pod_sandbox_id=sandbox_id)
    if not any(query.get("port", [])):
        raise invalid("port", 'query parameter "port" is required')
    for text in (part for value in query.get("port", []) for part in value.split(",")):
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= 65535:
            raise invalid("port", f"{text[:40]!r} is not a port")
        ports.append(int(text))
    return api.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)


def _streams(query: Query) -> tuple[bool, bool, bool, bool]:
    def flag(*names: str) -> bool | None:
        values = [query[name][0] for name in names if query.get(name)]
        return values[0].lower() in ("1", "true", "") if values else None

    tty = bool(flag("tty"))
    stdin = bool(flag("stdin", "input"))
    stdout, stderr = flag("stdout", "output"), flag("stderr", "error")
    if stdout is None and stderr is None:
        stdout, stderr = True, not tty
    if not (stdin or stdout or stderr):
        raise invalid("stdout", "you must specify at least 1 of stdin, stdout, stderr")
    return tty, stdin, bool(stdout), bool(stderr) and not tty

"""Exec, Attach and PortForward: checked requests to token URLs, and the streams behind them."""

from __future__ import annotations

import socket

from minikubelet.base.errors import invalid
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime import checks
from minikubelet.runtime.runtime import Runtime
from minikubelet.runtime.streams import OpenStreams, Wanted, check_streams
from minikubelet.streaming.server import StreamingServer
from minikubelet.streaming.sessions import AttachRequest, ExecRequest, PortForwardRequest, Streams


class StreamOpener:
    """streaming.sessions.SessionOpener by the runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def open_exec(self, request: ExecRequest) -> Streams:
        """Start the program."""
        wanted = Wanted(request.stdin, request.stdout, request.stderr, request.tty)
        return _streams(await self._runtime.open_exec(request.container_id, request.command, wanted))

    async def open_attach(self, request: AttachRequest) -> Streams:
        """Join the container's streams."""
        wanted = Wanted(request.stdin, request.stdout, request.stderr, request.tty)
        return _streams(await self._runtime.open_attach(request.container_id, wanted))

    async def connect(self, sandbox_id: str, port: int) -> socket.socket:
        """Connect to a port of the pod."""
        return await self._runtime.connect(sandbox_id, port)


def _streams(opened: OpenStreams) -> Streams:
    return Streams(
        wait=opened.wait,
        resize=opened.resize,
        cancel=opened.cancel,
        stdin=opened.stdin,
        stdout=opened.stdout,
        stderr=opened.stderr,
    )


class StreamUrls:
    """CRI requests as URLs. Raises NodeError for what could never work, before a URL is given out."""

    def __init__(self, runtime: Runtime, server: StreamingServer) -> None:
        self._runtime = runtime
        self._server = server

    def exec(self, request: api.ExecRequest) -> str:
        """ExecRequest."""
        container = self._runtime.require_running(request.container_id)
        if not request.cmd or not request.cmd[0]:
            raise invalid("cmd", "is empty")
        checks.no_nul("cmd", request.cmd)
        check_streams(Wanted(request.stdin, request.stdout, request.stderr, request.tty))
        return self._server.url(
            ExecRequest(
                container_id=container.id,
                command=tuple(request.cmd),
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr,
                tty=request.tty,
            )
        )

    def attach(self, request: api.AttachRequest) -> str:
        """AttachRequest. The terminal is the container's, whatever the request says of it."""
        container = self._runtime.require_running(request.container_id)
        tty = container.config.tty
        check_streams(Wanted(request.stdin, request.stdout, request.stderr and not tty, tty))
        return self._server.url(
            AttachRequest(
                container_id=container.id,
                stdin=request.stdin and container.config.stdin,
                stdout=request.stdout,
                stderr=request.stderr and not tty,
                tty=tty,
            )
        )

    def port_forward(self, request: api.PortForwardRequest) -> str:
        """PortForwardRequest."""
        sandbox = self._runtime.require_ready(request.pod_sandbox_id)
        for number, port in enumerate(request.port):
            if not 0 < port < 65536:
                raise invalid(f"port[{number}]", f"{port} is no port")
        return self._server.url(PortForwardRequest(sandbox_id=sandbox.id, ports=tuple(request.port)))

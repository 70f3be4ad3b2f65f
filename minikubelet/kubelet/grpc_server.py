"""A gRPC server on a unix socket for the kubelet's small interfaces: device plugins, PodResources."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from typing import Any

import grpc

from minikubelet.base.errors import NodeError
from minikubelet.criapi.services import Method, Service

log = logging.getLogger(__name__)

_GRACE = 0.5


class UnixServer:
    """Serves one object a service: a coroutine a method, named like it, from request to response."""

    def __init__(self, path: str, services: list[tuple[Service, object]]) -> None:
        self._path = path
        self._server = grpc.aio.server()
        for service, target in services:
            handlers = {method.name: _handler(method, getattr(target, method.name)) for method in service}
            generic = grpc.method_handlers_generic_handler(service.name, handlers)
            self._server.add_generic_rpc_handlers((generic,))

    def claim(self) -> None:
        """Make the folder. Raises OSError; EADDRINUSE if somebody answers at the socket."""
        if _answers(self._path):
            raise OSError(errno.EADDRINUSE, "another program serves there", self._path)
        os.makedirs(os.path.dirname(self._path), 0o750, exist_ok=True)

    async def start(self) -> None:
        """Make the socket (0600), in place of a dead one. Raises OSError as :meth:`claim`."""
        self.claim()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        if not self._server.add_insecure_port(f"unix:{self._path}"):
            raise OSError(f"can't listen on {self._path}")
        os.chmod(self._path, 0o600)
        await self._server.start()

    async def close(self) -> None:
        """Stop serving."""
        await self._server.stop(_GRACE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _handler(method: Method, target: Any) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await target(request)
        except NodeError as exc:
            code = next(each for each in grpc.StatusCode if each.value[0] == exc.code.value)
            await context.abort(code, str(exc))

    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )

"""The CRI server: every method of the services' tables on one unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from minikubelet.base.errors import precondition, unimplemented
from minikubelet.cri import interceptor
from minikubelet.criapi import services
from minikubelet.criapi.services import Method

MAX_RECEIVE = 16 << 20
"""Bytes of a request, as in containerd and the kubelet."""
MAX_SEND = (32 << 20) + (1 << 16)
"""Two full streams of ExecSync; the client's own limit may be lower."""
_PATH_MAX = 107
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVE),
    ("grpc.max_send_message_length", MAX_SEND),
    ("grpc.so_reuseport", 0),
    ("grpc.optimization_target", "latency"),
)


class CriServer:
    """Listens on ``path`` (0600) and hands each call to the servicer of its service."""

    def __init__(self, path: str, servicers: dict[str, Any]) -> None:
        self._path = path
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=None)
        served = behaviors(servicers)
        for service in services.ALL:
            handlers = {method.name: _handler(served[method.path]) for method in service}
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.name, handlers),)
            )

    async def start(self) -> None:
        """Listen and serve. Raises NodeError when the path can't be used or somebody serves there."""
        _free_path(self._path)
        umask = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as exc:
            raise precondition(f"listening on {self._path} failed: {exc}") from exc
        finally:
            os.umask(umask)
        os.chmod(self._path, 0o600)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """End calls within ``grace`` seconds and remove the socket."""
        await self._server.stop(grace)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


@dataclass(frozen=True, slots=True)
class Behavior:
    """How a method is served: ``call`` takes request and context, as gRPC hands them over."""

    method: Method
    call: Callable[[Any, Any], Awaitable[Any]]


def behaviors(servicers: dict[str, Any]) -> dict[str, Behavior]:
    """All methods by path; those that no servicer has say so."""
    found = {}
    for service in services.ALL:
        servicer = servicers.get(service.name)
        for method in service:
            found[method.path] = Behavior(method, _behavior(method, getattr(servicer, method.name, None)))
    return found


def _behavior(method: Method, implementation: Callable[..., Any] | None) -> Callable[[Any, Any], Any]:
    if method.server_streaming:
        return interceptor.stream(method, implementation or _missing_stream(method))
    return interceptor.unary(method, implementation or _missing(method))


def _handler(behavior: Behavior) -> Any:
    make = getattr(grpc, f"{behavior.method.kind}_rpc_method_handler")
    return make(
        behavior.call,
        request_deserializer=behavior.method.request.FromString,
        response_serializer=behavior.method.response.SerializeToString,
    )


def _missing(method: Method) -> interceptor.Unary:
    async def call(request: Any) -> Any:
        raise unimplemented(method.path.lstrip("/"))

    return call


def _missing_stream(method: Method) -> interceptor.Stream:
    async def call(request: Any) -> Any:
        raise unimplemented(method.path.lstrip("/"))
        yield  # an async generator, as every handler of a stream is

    return call


def _free_path(path: str) -> None:
    """Make room for the socket: remove a dead one, leave a living one and anything else alone."""
    if len(os.fsencode(path)) > _PATH_MAX:
        raise precondition(f"the socket path {path!r} is longer than {_PATH_MAX} bytes (unix(7))")
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(info.st_mode):
        raise precondition(f"{path} exists and is not a socket")
    if _somebody_listens(path):
        raise precondition(f"somebody else serves on {path}")
    os.unlink(path)


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError as exc:
            return exc.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True

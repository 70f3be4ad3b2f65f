"""The one place where calls are logged and errors become gRPC statuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from minikubelet.base.clock import monotonic
from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.criapi.services import Method
from minikubelet.runtime.events import CUT_OFF

log = logging.getLogger("minikubelet.cri")

_STATUS = {status.value[0]: status for status in grpc.StatusCode}
_QUIET = frozenset({Code.NOT_FOUND, Code.ALREADY_EXISTS})

Unary = Callable[[Any], Awaitable[Any]]
Stream = Callable[[Any], AsyncIterator[Any]]
Context = Any
"""grpc.aio.ServicerContext; generic in types that say nothing here."""


def unary(method: Method, handler: Unary) -> Callable[[Any, Context], Awaitable[Any]]:
    """``handler`` as gRPC calls it; the request is one message, or an iterator of them."""

    async def call(request: Any, context: Context) -> Any:
        started = monotonic()
        try:
            response = await handler(request)
        except asyncio.CancelledError:
            log.debug("%s was cancelled after %.1f ms", method.name, _since(started))
            raise
        except Exception as exc:
            await _fail(method, context, exc, started)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s took %.1f ms", method.name, _since(started))
        return response

    return call


def stream(method: Method, handler: Stream) -> Callable[[Any, Context], Awaitable[None]]:
    """The same for a handler that yields responses."""

    async def call(request: Any, context: Context) -> None:
        started = monotonic()
        try:
            async for response in handler(request):
                await context.write(response)
        except asyncio.CancelledError as exc:
            if CUT_OFF in exc.args:
                await _fail(method, context, NodeError(Code.RESOURCE_EXHAUSTED, CUT_OFF), started)
            log.debug("%s was cancelled after %.1f ms", method.name, _since(started))
            raise
        except Exception as exc:
            await _fail(method, context, exc, started)
        log.debug("%s took %.1f ms", method.name, _since(started))

    return call


async def _fail(method: Method, context: Context, exc: Exception, started: float) -> NoReturn:
    code, message = status_of(exc)
    if code is grpc.StatusCode.INTERNAL and not isinstance(exc, NodeError | OSError):
        log.error("%s failed after %.1f ms", method.name, _since(started), exc_info=exc)
    else:
        quiet = isinstance(exc, NodeError) and exc.code in _QUIET
        level = logging.DEBUG if quiet else logging.INFO
        log.log(level, "%s failed after %.1f ms: %s: %s", method.name, _since(started), code.name, message)
    await context.abort(code, message)
    raise AssertionError("abort returned")


def status_of(exc: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and text a caller sees for an error."""
    if isinstance(exc, NodeError):
        return _STATUS[exc.code.value], str(exc)
    if isinstance(exc, OSError):
        named = StepError("", exc.errno or 0)
        return _STATUS[named.code.value], f"{exc.strerror or exc}{_path(exc)}"
    if isinstance(exc, NotImplementedError):
        return grpc.StatusCode.UNIMPLEMENTED, str(exc)
    return grpc.StatusCode.INTERNAL, f"{type(exc).__name__}: {exc}"


def _path(exc: OSError) -> str:
    return f": {exc.filename!r}" if exc.filename else ""


def _since(started: float) -> float:
    return (monotonic() - started) * 1000

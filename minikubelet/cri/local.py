"""The CRI services for a client in the same process: the calls of a ``grpc.aio.Channel`` without connection.

All else is as over the socket: messages are copied by way of their encoding, a handler runs in a task of its
own and is cancelled with its call, and errors are the statuses of :mod:`minikubelet.cri.interceptor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

import grpc
import grpc.aio

from minikubelet.cri.server import MAX_RECEIVE, MAX_SEND, Behavior, behaviors

_AHEAD = 16
"""Messages of a stream that its handler may be ahead of its reader, then it waits."""

_ENDING = 5.0
"""Seconds that handlers get to undo what they were in the middle of, when the channel is closed."""
_Start = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]
_Decode = Callable[[bytes], Any]


class LocalChannel:
    """What stubs and ``kubelet/cri_client.py`` use of a channel; always ready, until it is closed."""

    def __init__(self, servicers: dict[str, Any]) -> None:
        """``servicers`` by their services' names, as :class:`minikubelet.cri.server.CriServer` takes them."""
        self._behaviors = behaviors(servicers)
        self._tasks: set[asyncio.Task[Any]] = set()

    def unary_unary(self, path: str, **codec: Any) -> Callable[..., UnaryCall]:
        """A method that is one message in, one out; ``timeout`` of a call is in seconds."""
        behavior = self._behaviors[path]
        respond = behavior.method.response.SerializeToString
        encode, decode = codec["request_serializer"], codec["response_deserializer"]

        async def serve(data: bytes) -> Any:
            answer = await behavior.call(_received(behavior, data), _Context())
            return decode(_bounded(respond(answer), MAX_SEND))

        def call(request: Any, timeout: float | None = None) -> UnaryCall:
            return UnaryCall(self._start(serve(encode(request))), timeout)

        return call

    def unary_stream(self, path: str, **codec: Any) -> Callable[..., StreamCall]:
        """A method that is one message in, any number out."""
        behavior = self._behaviors[path]
        encode, decode = codec["request_serializer"], codec["response_deserializer"]

        def call(request: Any) -> StreamCall:
            return StreamCall(self._start, behavior, encode(request), decode)

        return call

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Ready: the services are there as long as their process."""
        return grpc.ChannelConnectivity.READY

    async def channel_ready(self) -> None:
        """Returns at once."""

    async def close(self, grace: float | None = None) -> None:
        """Cancel the calls under way, after ``grace`` seconds or at once, and let their handlers end."""
        if self._tasks and grace:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_ENDING)

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class UnaryCall:
    """A call under way: awaited, or cancelled. Who gives it up doesn't wait for its handler."""

    def __init__(self, task: asyncio.Task[Any], timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._task = task
        self._outcome: asyncio.Future[Any] = loop.create_future()
        self._outcome.add_done_callback(self._settled)
        self._timer = loop.call_later(timeout, self._expire) if timeout is not None else None
        task.add_done_callback(self._ended)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._outcome.__await__()

    def done(self) -> bool:
        """Whether there is an answer, or an error, or nobody waits for one any more."""
        return self._outcome.done()

    def cancel(self) -> bool:
        """Give the call up."""
        return self._outcome.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = _error(task)
        if self._outcome.done():
            return
        if error is not None:
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(task.result())

    def _expire(self) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(_status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _settled(self, outcome: asyncio.Future[Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()
        if not outcome.cancelled():
            outcome.exception()  # nobody has to ask for it


class StreamCall:
    """A stream under way: an asynchronous iterator that can be cancelled."""

    def __init__(self, start: _Start, behavior: Behavior, request: bytes, decode: _Decode) -> None:
        self._decode = decode
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._task = start(self._serve(behavior, request))
        self._task.add_done_callback(lambda _: self._messages.put_nowait(None))

    async def _serve(self, behavior: Behavior, request: bytes) -> None:
        encode = behavior.method.response.SerializeToString

        async def write(message: Any) -> None:
            self._messages.put_nowait(_bounded(encode(message), MAX_SEND))
            while self._messages.qsize() >= _AHEAD:
                self._room.clear()
                await self._room.wait()

        await behavior.call(_received(behavior, request), _Context(write))

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (data := await self._messages.get()) is not None:
            self._room.set()
            yield self._decode(data)
        if (error := _error(self._task)) is not None:
            raise error

    def cancel(self) -> bool:
        """End the stream."""
        return self._task.cancel()


class _Context:
    """What the interceptor uses of a ``grpc.aio.ServicerContext``."""

    def __init__(self, write: Callable[[Any], Awaitable[None]] | None = None) -> None:
        self.write = write

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with a status."""
        raise _status(code, details)


def _received(behavior: Behavior, data: bytes) -> Any:
    return behavior.method.request.FromString(_bounded(data, MAX_RECEIVE))


def _bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise _status(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"message larger than max ({len(data)} vs. {limit} bytes)"
        )
    return data


def _error(task: asyncio.Task[Any]) -> Exception | None:
    """What a call ended with, as a client sees it."""
    if task.cancelled():
        return _status(grpc.StatusCode.CANCELLED, "the call was cancelled")
    error = task.exception()
    if error is None or isinstance(error, grpc.aio.AioRpcError):
        return error
    return _status(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")


def _status(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)

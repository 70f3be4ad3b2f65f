"""Exec and attach sessions: moves bytes between a client's channels and the runtime's descriptors."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from minikubelet.base.errors import NodeError
from minikubelet.streaming.pumps import Descriptor, Turns, read_fd, write_fd
from minikubelet.streaming.sessions import Streams

log = logging.getLogger(__name__)

DRAIN_IDLE = 1.0
"""Seconds without output after the process has ended, when a grandchild still holds the pipe."""


class Channels(abc.ABC):
    """The client's side of one exec or attach, whatever the transport."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        """Set when the client has vanished."""

    @abc.abstractmethod
    async def read_stdin(self) -> bytes:
        """The next bytes for stdin; empty at its end."""

    @abc.abstractmethod
    async def read_resize(self) -> bytes:
        """The next bytes of the resize channel (JSON objects); empty at its end."""

    @abc.abstractmethod
    async def write(self, channel: str, data: bytes) -> None:
        """Send output; waits for a slow client."""

    @abc.abstractmethod
    async def send_status(self, status: dict[str, Any]) -> None:
        """Send how it ended."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Flush and close."""


def success_status() -> dict[str, Any]:
    """A metav1.Status of success."""
    return {"metadata": {}, "status": "Success"}


def exit_status(code: int) -> dict[str, Any]:
    """The metav1.Status of an exit code; kubectl and crictl read the cause ``ExitCode``."""
    if code == 0:
        return success_status()
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def error_status(error: BaseException) -> dict[str, Any]:
    """The metav1.Status of a failure to start or run."""
    message = f"Internal error occurred: {error}"
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}


async def serve(channels: Channels, open_streams: Callable[[], Awaitable[Streams]]) -> None:
    """Run one session to its end; always closes the channels and every descriptor."""
    try:
        try:
            streams = await open_streams()
        except (NodeError, OSError) as exc:
            await _send(channels, error_status(exc))
            return
        await _run(channels, streams)
    finally:
        await channels.close()


async def _send(channels: Channels, status: dict[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):
        await channels.send_status(status)


async def _run(channels: Channels, streams: Streams) -> None:
    activity = _Activity()
    stdin = Descriptor(streams.stdin)
    outputs = [
        asyncio.create_task(_output(channels, name, fd, activity))
        for name, fd in (("stdout", streams.stdout), ("stderr", streams.stderr))
        if fd >= 0
    ]
    inputs = [asyncio.create_task(_resizes(channels, streams))]
    if streams.stdin >= 0:
        inputs.append(asyncio.create_task(_stdin(channels, stdin)))
    ended = asyncio.ensure_future(streams.wait())
    gone = asyncio.create_task(channels.gone.wait())
    try:
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await _drain(outputs, activity, gone)
            await _send(channels, _status_of(ended))
    finally:
        try:
            if not ended.done():  # the client has gone, or this session is cancelled
                await asyncio.shield(asyncio.ensure_future(streams.cancel()))
        finally:
            await _cancel([*outputs, *inputs, gone, ended])
            for descriptor in (stdin, Descriptor(streams.stdout), Descriptor(streams.stderr)):
                descriptor.close()


def _status_of(ended: asyncio.Future[int | None]) -> dict[str, Any]:
    error = ended.exception()
    if error is not None:
        return error_status(error)
    code = ended.result()
    return success_status() if code is None else exit_status(code)


class _Activity:
    """When output last moved (event loop time); a client that takes its time is no silence."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._sending = 0
        self.touch()

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        self._sending += 1
        try:
            yield
        finally:
            self._sending -= 1
            self.touch()

    def touch(self) -> None:
        self.at = self._loop.time()

    def idle(self) -> float:
        return 0.0 if self._sending else self._loop.time() - self.at


async def _drain(outputs: list[asyncio.Task[None]], activity: _Activity, gone: asyncio.Task[Any]) -> None:
    """Wait for what the process has written; not for ever when something else holds its pipes."""
    activity.touch()
    pending: set[asyncio.Task[None]] = {task for task in outputs if not task.done()}
    while pending and not gone.done() and activity.idle() < DRAIN_IDLE:
        _, pending = await asyncio.wait(pending, timeout=DRAIN_IDLE / 4)


async def _output(channels: Channels, name: str, fd: int, activity: _Activity) -> None:
    turns = Turns()
    with contextlib.suppress(ConnectionError):
        while data := await read_fd(fd):
            with activity.sending():
                await channels.write(name, data)
            await turns.moved(len(data))


async def _stdin(channels: Channels, descriptor: Descriptor) -> None:
    try:
        while data := await channels.read_stdin():
            await write_fd(descriptor.number, data)
    except OSError:
        log.debug("stdin of a session is no longer read")
        while await channels.read_stdin():
            pass
    finally:
        if not channels.gone.is_set():
            descriptor.close()


async def _resizes(channels: Channels, streams: Streams) -> None:
    decoder = json.JSONDecoder()
    text = ""
    while data := await channels.read_resize():
        text += data.decode(errors="replace")
        while text := text.lstrip():
            try:
                size, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            await _resize(streams, size)
        text = text[:4096]


async def _resize(streams: Streams, size: object) -> None:
    if not isinstance(size, dict):
        return
    width, height = size.get("Width"), size.get("Height")
    if isinstance(width, int) and isinstance(height, int) and 0 < width < 65536 and 0 < height < 65536:
        with contextlib.suppress(NodeError, OSError):
            await streams.resize(width, height)


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""One exec or attach over the kubelet's WebSocket: channels, a raw terminal, the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from minikubelet.cli.api_client import not_running
from minikubelet.cli.options import CommandError

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_CHUNK = 16384
_NO_EOF = (
    "warning: this runtime speaks v4.channel.k8s.io, which can't pass the end of the input on: "
    "a command that waits for it waits for ever"
)
_MAX_MESSAGE = 4 << 20


@dataclass(frozen=True)
class Ends:
    """The descriptors at this end of a session; by default this process's own."""

    stdin: int | None = None
    """None: ``sys.stdin``."""
    stdout: int = 1
    stderr: int = 2

    def of(self, channel: int) -> int:
        """Where a channel's output goes."""
        return self.stdout if channel == STDOUT else self.stderr


_OWN = Ends()


class Session:
    """Runs one command to its end."""

    def __init__(self, socket: str, path: str, *, stdin: bool, tty: bool, ends: Ends = _OWN) -> None:
        self._socket = socket
        self._path = path
        self._stdin = stdin
        self._tty = tty
        self._ends = ends

    async def run(self) -> int:
        """The command's exit code. Raises CommandError when it could not be run to its end."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        connector = aiohttp.UnixConnector(self._socket)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            websocket = await self._connect(session)
            async with websocket:
                with self._terminal(websocket):
                    if self._stdin:
                        fd = sys.stdin.fileno() if self._ends.stdin is None else self._ends.stdin
                        _read_stdin(fd, websocket, asyncio.get_running_loop())
                    return await self._receive(websocket)

    async def _connect(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        url = f"http://localhost{self._path}"
        try:
            return await session.ws_connect(
                URL(url, encoded=True), protocols=PROTOCOLS, max_msg_size=_MAX_MESSAGE
            )
        except aiohttp.WSServerHandshakeError as exc:
            raise CommandError(
                await self._reason(session, url) or f"the kubelet refused: {exc.message}"
            ) from None
        except (aiohttp.ClientConnectorError, FileNotFoundError):
            raise not_running(self._socket) from None

    async def _reason(self, session: aiohttp.ClientSession, url: str) -> str:
        """A failed handshake has no body; the same request in plain HTTP tells the same reason."""
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Protocol": ", ".join(PROTOCOLS),
        }
        address = URL(url, encoded=True)
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(address, headers=headers) as response:
                if response.status >= 400:
                    return (await response.text()).strip()
        return ""

    async def _receive(self, websocket: aiohttp.ClientWebSocketResponse) -> int:
        async for message in websocket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel in (STDOUT, STDERR) and data:
                _write_all(self._ends.of(channel), data)
            elif channel == ERROR and data:
                return exit_code(json.loads(data))
        raise CommandError("the connection broke off before the command ended")

    @contextlib.contextmanager
    def _terminal(self, websocket: aiohttp.ClientWebSocketResponse) -> Iterator[None]:
        """Raw mode, and the window's size now and whenever it changes."""
        if not self._tty:
            yield
            return
        loop = asyncio.get_running_loop()
        before = termios.tcgetattr(0)
        pending: set[asyncio.Task[None]] = set()

        def resized() -> None:
            task = loop.create_task(_send(websocket, RESIZE, terminal_size()))
            pending.add(task)
            task.add_done_callback(pending.discard)

        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept
        loop.add_signal_handler(signal.SIGWINCH, resized)
        resized()
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def terminal_size() -> bytes:
    """The resize channel's message."""
    columns, lines = shutil.get_terminal_size()
    return json.dumps({"Width": columns, "Height": lines}).encode()


def exit_code(status: dict[str, Any]) -> int:
    """The exit code in a metav1.Status. Raises CommandError for a command that could not be run."""
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise CommandError(str(status.get("message") or status.get("reason") or status))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def _send(websocket: aiohttp.ClientWebSocketResponse, channel: int, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        await websocket.send_bytes(bytes([channel]) + data)


def _read_stdin(fd: int, websocket: aiohttp.ClientWebSocketResponse, loop: asyncio.AbstractEventLoop) -> None:
    """Pass input on from a thread: it may be a file, a pipe or a terminal, and blocks at the reader's pace.

    The thread is a daemon's: when the command ends first, nobody waits for the next key.
    """

    def work() -> None:
        with contextlib.suppress(RuntimeError, OSError):
            while data := os.read(fd, _CHUNK):
                asyncio.run_coroutine_threadsafe(_send(websocket, STDIN, data), loop).result()
            if (websocket.protocol or "").startswith("v5."):
                closing = _send(websocket, CLOSE, bytes([STDIN]))
                asyncio.run_coroutine_threadsafe(closing, loop).result()
            elif not websocket.closed:
                print(_NO_EOF, file=sys.stderr)

    threading.Thread(target=work, daemon=True).start()

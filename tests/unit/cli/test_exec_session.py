"""One exec against a WebSocket server that behaves as told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from minikubelet.cli.exec_session import Session
from minikubelet.cli.options import CommandError

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
SUCCESS = b'\x03{"status":"Success"}'
Body = Callable[[web.WebSocketResponse], Awaitable[None]]
Run = Callable[..., Awaitable[int]]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """Serves one body, and runs a session against it."""
    runners = []
    path = str(tmp_path / "kubelet.sock")

    async def start(body: Body, protocol: str = V5, *, stdin: bool = False) -> int:
        async def handle(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(protocols=(protocol,))
            await socket.prepare(request)
            await body(socket)
            await socket.close()
            return socket

        app = web.Application()
        app.router.add_get("/exec", handle)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.UnixSite(runner, path).start()
        return await Session(path, "/exec?command=x", stdin=stdin, tty=False).run()

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> int:
    """A pipe in place of stdin; its writing end."""
    reading, writing = os.pipe()
    monkeypatch.setattr("sys.stdin", os.fdopen(reading))
    return writing


async def test_output_and_exit_code(run: Run, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async def body(socket: web.WebSocketResponse) -> None:
        for message in (b"\x01", b"\x01out", b"\x02err", b"\x01\x00\xff"):
            await socket.send_bytes(message)
        await socket.send_str("no channel: not for us")
        causes = b'{"causes":[{"reason":"ExitCode","message":"42"}]}'
        await socket.send_bytes(b'\x03{"status":"Failure","details":' + causes + b"}")

    assert await run(body) == 42
    assert capfdbinary.readouterr() == (b"out\x00\xff", b"err")


async def test_input_and_its_end(run: Run, stdin: int) -> None:
    seen = []

    async def body(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            seen.append(message.data)
            if message.data == b"\xff\x00":
                await socket.send_bytes(SUCCESS)
                return

    os.write(stdin, b"hello")
    os.close(stdin)
    assert await run(body, stdin=True) == 0
    assert seen == [b"\x00hello", b"\xff\x00"]


async def test_v4_cannot_end_the_input_and_that_is_said(
    run: Run, stdin: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body(socket: web.WebSocketResponse) -> None:
        assert (await socket.receive()).data == b"\x00x"
        async with asyncio.timeout(5):
            said = ""
            while not said:
                await asyncio.sleep(0.01)
                said = capsys.readouterr().err
        assert "can't pass the end of the input on" in said
        await socket.send_bytes(SUCCESS)

    os.write(stdin, b"x")
    os.close(stdin)
    assert await run(body, V4, stdin=True) == 0


async def test_a_broken_connection_is_an_error(run: Run) -> None:
    async def body(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01half")

    with pytest.raises(CommandError, match="broke off before the command ended"):
        await run(body)


async def test_a_command_that_could_not_start(run: Run) -> None:
    async def body(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b'\x03{"status":"Failure","reason":"InternalError","message":"no such file"}')
        assert (await socket.receive()).type is WSMsgType.CLOSE

    with pytest.raises(CommandError, match="no such file"):
        await run(body)


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no minikubelet daemon answers"):
        await Session(str(tmp_path / "nope.sock"), "/exec", stdin=False, tty=False).run()

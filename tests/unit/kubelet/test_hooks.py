"""HTTPS hooks whose server has no TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.kubelet.harness import Harness, make_pod

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers whatever is asked with ``answer``; its port, and what was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(4096))
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1], asked


def hooked(port: int) -> dict[str, Any]:
    headers = [{"name": "Authorization", "value": "secret"}, {"name": "X-Kind", "value": "hook"}]
    get = {"host": "127.0.0.1", "port": port, "path": "/warm", "scheme": "HTTPS", "httpHeaders": headers}
    return {"name": "app", "lifecycle": {"postStart": {"httpGet": get}}}


async def test_an_https_hook_falls_back_to_a_server_that_answers_in_http(harness: Harness) -> None:
    async with server(HTTP) as (port, asked), harness.running():
        harness.source.set(make_pod("web", hooked(port)))
        await harness.ready()
        (got,) = [each for each in asked if each.startswith(b"GET ")]
        assert got.startswith(b"GET /warm HTTP/1.1\r\n") and b"X-Kind: hook" in got
        assert b"secret" not in b"".join(asked)
        (told,) = [e for e in harness.kubelet.events() if e.reason == "LifecycleHTTPFallback"]
        assert (told.type, told.message) == (
            "Warning",
            f"request to HTTPS lifecycle hook 127.0.0.1:{port} got HTTP response, retry with HTTP succeeded",
        )


async def test_a_hook_is_content_with_an_answer_whatever_its_body(harness: Harness) -> None:
    async with server(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\ncut") as (port, _), harness.running():
        pod = hooked(port)
        pod["lifecycle"]["postStart"]["httpGet"]["scheme"] = "HTTP"
        harness.source.set(make_pod("web", pod))
        await harness.ready()
        assert "FailedPostStartHook" not in harness.reasons()


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"<!DOCTYPE HTML>\n", b""])
async def test_an_https_hook_does_not_fall_back_to_anything_else(harness: Harness, answer: bytes) -> None:
    async with server(answer) as (port, asked), harness.running():
        harness.source.set(make_pod("web", hooked(port)))
        await harness.until(lambda: "FailedPostStartHook" in harness.reasons())
        assert not [each for each in asked if each.startswith(b"GET ")]
        assert "LifecycleHTTPFallback" not in harness.reasons()

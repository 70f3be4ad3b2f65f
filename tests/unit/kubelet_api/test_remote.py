"""The ports of a kubelet over real TLS: who is let in where, and what strangers can't do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.api import listener as listening
from minikubelet.kubelet.api.app import make_app
from minikubelet.kubelet.api.authenticate import read_tokens
from minikubelet.kubelet.server_config import ServerConfig
from tests.certificates import ClientAuthority
from tests.unit.kubelet_api.remote import Ports, free_port
from tests.unit.kubelet_api.test_api import RUNNING, make_pod

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
STRANGE = (
    "/",
    "/nothing",
    "/healthz/../pods",
    "/%2e%2e/pods",
    "//pods",
    "/metrics/../exec/a/b/c?command=id",
    "/exec",
    "/debug/pprof/",
    "/api/v1/pods",
    "*",
)


@contextlib.asynccontextmanager
async def serving(ports: Ports) -> AsyncIterator[Ports]:
    await ports.api.start()
    try:
        yield ports
    finally:
        await ports.api.close()


def every_path(ports: Ports) -> list[str]:
    """The paths that the application knows, with names for its placeholders."""
    known = {each.canonical for each in make_app(ports.backend).router.resources()}
    assert {"/pods", "/exec/{namespace}/{pod}/{container}", "/metrics/cadvisor", "/logs/{path}"} <= known
    return sorted(re.sub(r"\{\w+\}", "x", path) for path in known)


async def raw(ports: Ports, method: str, path: str, headers: str = "") -> bytes:
    """The status line that one request gets, sent exactly as written."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ports.server.port, ssl=ports.trusting())
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n".encode())
        return await reader.readline()
    finally:
        writer.close()


async def test_without_credentials_every_path_is_401(tmp_path: Path) -> None:
    async with serving(Ports(tmp_path)) as ports:
        for path in [*every_path(ports), *STRANGE]:
            for method in METHODS:
                for headers in ("", "Authorization: Bearer wrong\r\n", "Authorization: Basic YTpi\r\n"):
                    answer = await raw(ports, method, path, headers)
                    # What isn't HTTP at all is refused before anyone asks who sent it.
                    allowed = (b"HTTP/1.1 401 ",) if path != "*" else (b"HTTP/1.1 401 ", b"HTTP/1.0 400 ")
                    assert answer.startswith(allowed), (method, path, headers, answer)
        assert ports.runtime.asked == []


async def test_anonymous_people_see_health_and_metrics_only(tmp_path: Path) -> None:
    async with serving(Ports(tmp_path, ServerConfig(anonymous=True))) as ports:
        for path in [*every_path(ports), *(each for each in STRANGE if each != "*")]:
            for method in METHODS:
                answer = await raw(ports, method, path)
                harmless = method in ("GET", "HEAD") and re.fullmatch(
                    r"/healthz|/metrics(/cadvisor|/resource|/probes|/slis)?", path
                )
                if not harmless:
                    assert b" 403 " in answer, (method, path, answer)
                else:
                    assert b" 403 " not in answer, (method, path, answer)
        assert await ports.get("/healthz") == (200, "ok")
        assert (await ports.get("/pods", {"Authorization": "Bearer wrong"}))[0] == 401
        status, text = await ports.get("/pods")
        assert (status, text) == (
            403,
            "Forbidden (user=system:anonymous, verb=get, resource=nodes, subresource(s)=[pods proxy])\n",
        )
        assert ports.runtime.asked == []


async def test_the_admin_token_opens_every_path_and_stays_the_same(tmp_path: Path) -> None:
    async with serving(Ports(tmp_path)) as ports:
        token = tmp_path / "root" / "api-token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        first = token.read_text()
        assert len(first.strip()) >= 32
        for path in every_path(ports):
            status, _ = await ports.get(path, ports.admin)
            assert status not in (401, 403), path
        assert (await ports.get("/nothing", ports.admin))[0] == 404
        assert stat.S_IMODE((tmp_path / "root" / "pki" / "kubelet.key").stat().st_mode) == 0o600
    async with serving(Ports(tmp_path)) as again:
        assert token.read_text() == first
        assert (await again.get("/pods", again.admin))[0] == 200


async def test_client_certificates(tmp_path: Path) -> None:
    ours, theirs = ClientAuthority(tmp_path), ClientAuthority(tmp_path, "strangers")
    ports = Ports(tmp_path, ServerConfig(client_ca_file=str(ours.path)))

    async def status(certificate: tuple[Path, Path] | None) -> int:
        context = ports.trusting()
        if certificate is not None:
            context.load_cert_chain(*certificate)
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"{ports.base}/pods") as response,
        ):
            return response.status

    async with serving(ports):
        assert await status(ours.client("kubectl", ["system:masters"])) == 200
        assert await status(None) == 401
        assert await status(ours.client("system:anonymous", ["system:masters"])) == 401
        for bad in (theirs.client("mallory", []), ours.client("late", [], hours=-1)):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await status(bad)


async def test_static_tokens_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('t-1,ann,1,"ops,dev"\n\n')
    ports = Ports(tmp_path, ServerConfig(token_file=str(tokens)))
    async with serving(ports):
        assert (await ports.get("/pods", {"Authorization": "Bearer t-1"}))[0] == 200
        tokens.write_text("t-2,bob,2\n")
        assert (await ports.get("/pods", {"Authorization": "bearer t-2"}))[0] == 200
        assert (await ports.get("/pods", {"Authorization": "Bearer t-1"}))[0] == 401
        tokens.write_text("half a li")
        assert (await ports.get("/pods", {"Authorization": "Bearer t-2"}))[0] == 200


@pytest.mark.parametrize("text", ["t,", "a,b", ",user,1", "t,a,1\nt,b,2"])
def test_broken_token_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ValueError, match="line"):
        read_tokens(str(path))


def test_groups_come_with_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text('t,ann,1,"ops, dev"\n')
    (user,) = read_tokens(str(path)).values()
    assert (user.name, user.groups) == ("ann", ("ops", "dev", "system:authenticated"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_and_plain_http_get_nowhere(tmp_path: Path) -> None:
    async with serving(Ports(tmp_path)) as ports:
        old = ports.trusting()
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", ports.server.port, ssl=old)
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.server.port)
        writer.write(b"GET /pods HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await reader.read()
        writer.close()


async def test_headers_have_limits(tmp_path: Path) -> None:
    async with serving(Ports(tmp_path)) as ports:
        long = f"X-Long: {'x' * 20_000}\r\n"
        many = "".join(f"X-{number}: 1\r\n" for number in range(5000))
        for headers in (long, many):
            answer = await raw(ports, "GET", "/pods", headers)
            assert answer == b"" or b" 400 " in answer or b" 431 " in answer, answer
        answer = await raw(ports, "GET", "/" + "x" * 300_000)
        assert answer == b"" or b" 400 " in answer or b" 414 " in answer, answer


async def test_a_command_may_be_a_long_script(tmp_path: Path) -> None:
    script = "x" * 100_000
    async with serving(Ports(tmp_path)) as ports:
        ports.pods.update(make_pod(RUNNING))
        path = f"/run/default/web/app?cmd=sh%20-c%20{script}"
        assert await ports.get(path, ports.admin, "POST") == (200, "out")
        assert ports.runtime.asked == [["sh", "-c", script]]


async def test_slow_and_silent_connections_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "IDLE", 0.3)
    monkeypatch.setattr(listening, "HANDSHAKE", 0.3)
    async with serving(Ports(tmp_path)) as ports:
        silent, writer = await asyncio.open_connection("127.0.0.1", ports.server.port)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                await silent.read()
        writer.close()
        slow, writer = await asyncio.open_connection("127.0.0.1", ports.server.port, ssl=ports.trusting())
        drip = asyncio.create_task(_drip(writer))
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert b"200" not in await slow.read()
        drip.cancel()
        await asyncio.gather(drip, return_exceptions=True)
        writer.close()


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", 4)
    async with serving(Ports(tmp_path)) as ports:
        held = [await asyncio.open_connection("127.0.0.1", ports.server.port) for _ in range(4)]
        await asyncio.sleep(0.1)
        with pytest.raises((OSError, ssl.SSLError)):
            await asyncio.open_connection("127.0.0.1", ports.server.port, ssl=ports.trusting())
        for _, writer in held:
            writer.close()
        for _ in range(100):
            with contextlib.suppress(OSError, aiohttp.ClientError):
                if (await ports.get("/healthz", ports.admin))[0] == 200:
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("no connection gets through any more")


async def test_a_given_certificate_is_served_and_reloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minikubelet.kubelet.api import selfsigned, tls

    monkeypatch.setattr(tls, "_LOOK_AGAIN", 0.0)
    certificate, key = str(tmp_path / "a.crt"), str(tmp_path / "a.key")
    selfsigned.make(certificate, key, "first", ["127.0.0.1"])
    server = ServerConfig(tls_cert_file=certificate, tls_private_key_file=key)
    async with serving(Ports(tmp_path, server)) as ports:
        first = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port))
        assert first == Path(certificate).read_text()
        selfsigned.make(certificate, key, "second", ["127.0.0.1"])
        second = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port))
        assert second == Path(certificate).read_text() != first
        Path(certificate).write_text("broken")
        third = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port))
        assert third == second
        assert not (tmp_path / "root" / "pki").exists()
        assert ports.api.https is not None


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ports = Ports(tmp_path, ServerConfig(port=port, port_given=True))
        with pytest.raises(NodeError, match="in use") as caught:
            await ports.api.start()
        assert caught.value.code is Code.ALREADY_EXISTS
        health = free_port()
        lenient = ServerConfig(port=port, port_given=False, healthz_port=health)
        async with serving(Ports(tmp_path, lenient)) as ports, aiohttp.ClientSession() as session:
            assert ports.api.https is None
            async with session.get(f"http://127.0.0.1:{health}/healthz") as response:
                assert await response.text() == "ok"


async def test_the_plain_ports_show_only_what_they_should(tmp_path: Path) -> None:
    server = ServerConfig(read_only_port=free_port(), healthz_port=free_port())
    async with serving(Ports(tmp_path, server)) as ports, aiohttp.ClientSession() as session:

        async def status(port: int, path: str) -> int:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status

        for path in ("/pods", "/metrics", "/stats/summary", "/healthz"):
            assert await status(server.read_only_port, path) == 200, path
        for path in ("/exec/a/b/c", "/containerLogs/a/b/c", "/logs/", "/runningpods/", "/run/a/b/c"):
            assert await status(server.read_only_port, path) == 405, path
        for path in ("/configz", "/debug/flags/v", "/events", "/objects"):
            assert await status(server.read_only_port, path) == 404, path
        assert await status(server.healthz_port, "/healthz/syncloop") == 200
        assert await status(server.healthz_port, "/pods") == 404
        ports.wrong["syncloop"] = "the runtime is away"
        assert await status(server.healthz_port, "/healthz") == 500
        assert await status(server.healthz_port, "/healthz/ping") == 200


async def test_debugging_handlers_can_be_switched_off(tmp_path: Path) -> None:
    async with serving(Ports(tmp_path, ServerConfig(debugging_handlers=False))) as ports:
        for path in ("/exec/a/b/c", "/run/a/b/c", "/containerLogs/a/b/c", "/logs/", "/runningpods/"):
            assert await ports.get(path, ports.admin) == (405, "Debug endpoints are disabled.\n"), path
        assert (await ports.get("/pods", ports.admin))[0] == 200
        for path in ("/configz", "/checkpoint/a/b/c"):
            assert await ports.get(path, ports.admin) == (404, "404 page not found\n")
        assert await ports.get("/stats/a", ports.admin) == (404, "404: Page Not Found")
        assert (await ports.get("/runningpods", ports.admin))[0] == 307
    async with serving(Ports(tmp_path, ServerConfig(system_log_handler=False))) as ports:
        assert (await ports.get("/logs/", ports.admin))[0] == 405


async def test_how_much_is_logged_can_be_changed(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level

    async def put(ports: Ports, text: str) -> tuple[int, str]:
        connector = aiohttp.TCPConnector(ssl=ports.trusting())
        async with (
            aiohttp.ClientSession(connector=connector, headers=ports.admin) as session,
            session.put(f"{ports.base}/debug/flags/v", data=text) as response,
        ):
            return response.status, await response.text()

    try:
        async with serving(Ports(tmp_path)) as ports:
            assert await put(ports, "4") == (200, "successfully set klog.logging.verbosity to 4\n")
            assert root.level == logging.DEBUG
            assert (await put(ports, "3"))[0] == 200
            assert root.level == logging.INFO
            for wrong in ("", "-1", "x", "9" * 5000):
                assert (await put(ports, wrong))[0] == 400
            assert await ports.get("/debug/flags/v", ports.admin) == (406, "unsupported http method\n")
            assert root.level == logging.INFO
        async with serving(Ports(tmp_path, ServerConfig(debug_flags_handler=False))) as ports:
            assert await put(ports, "9") == (405, "flags endpoint is disabled.\n")
            assert root.level == logging.INFO
    finally:
        root.setLevel(before)


async def test_disabled_altogether(tmp_path: Path) -> None:
    async with serving(Ports(tmp_path, ServerConfig(enabled=False))) as ports:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", ports.server.port)

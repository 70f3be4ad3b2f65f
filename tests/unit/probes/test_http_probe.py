"""HTTP probes against small servers that answer as told."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from minikubelet.kubelet.objects.containers import Container, ContainerPort, HTTPGetAction, HTTPHeader
from minikubelet.kubelet.probes import http
from minikubelet.kubelet.probes.outcome import ProbeError, Verdict
from minikubelet.kubelet.probes.response import BODY_LIMIT, BadResponse, ResponseReader
from minikubelet.kubelet.probes.urls import request_target
from tests.certificates import make_authority

CONTAINER = Container(name="web", ports=[ContainerPort(name="www", container_port=8080)])


class Server:
    """Answers each request with the next of ``answers`` (the last for ever); remembers what it was sent."""

    def __init__(self) -> None:
        self.answers: list[bytes] = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]
        self.requests: list[bytes] = []
        self.hang_after_answer = False
        self.port = 0
        self.closed_by_client = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == b"HANG":
                await reader.read()
                self.closed_by_client += 1
            writer.write(answer)
            await writer.drain()
            if self.hang_after_answer:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    listening = []

    async def make(tls: ssl.SSLContext | None = None) -> Server:
        server = Server()
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls)
        listening.append(listener)
        server.port = listener.sockets[0].getsockname()[1]
        return server

    yield make
    for listener in listening:
        listener.close()


def action(server: Server, **more: object) -> HTTPGetAction:
    return HTTPGetAction(port=server.port, **more)  # type: ignore[arg-type]


async def run(server: Server, timeout: float = 5, **more: object) -> tuple[Verdict, str]:
    request = http.new_request(action(server, **more), CONTAINER, "127.0.0.1")
    outcome = await http.probe(request, timeout)
    return outcome.verdict, outcome.message


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.SUCCESS), (299, Verdict.SUCCESS), (304, Verdict.WARNING), (399, Verdict.WARNING)],
)
async def test_statuses_from_200_to_399_are_good(start: Start, status: int, verdict: Verdict) -> None:
    server = await start()
    server.answers = [b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status]
    assert (await run(server))[0] is verdict


@pytest.mark.parametrize("status", [199 + 201, 404, 500, 503])
async def test_other_statuses_fail_with_upstreams_words(start: Start, status: int) -> None:
    server = await start()
    server.answers = [b"HTTP/1.1 %d X\r\nContent-Length: 6\r\n\r\nsecret" % status]
    assert await run(server) == (Verdict.FAILURE, f"HTTP probe failed with statuscode: {status}")


async def test_default_headers_and_closing(start: Start) -> None:
    server = await start()
    await run(server, path="/healthz?full=1")
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "User-Agent: kube-probe/1.36" in lines
    assert "Accept: */*" in lines
    assert "Connection: close" in lines


async def test_own_headers_replace_the_defaults_and_the_host(start: Start) -> None:
    server = await start()
    headers = [
        HTTPHeader(name="host", value="app.example"),
        HTTPHeader(name="user-agent", value="me"),
        HTTPHeader(name="Accept", value=""),
        HTTPHeader(name="X-Two", value="1"),
        HTTPHeader(name="X-Two", value=" 2\t"),
    ]
    await run(server, http_headers=headers)
    lines = server.requests[0].decode().split("\r\n")
    assert [line for line in lines if line.startswith("Host:")] == ["Host: app.example"]
    assert "User-Agent: me" in lines
    assert not [line for line in lines if line.startswith("Accept")]
    assert [line for line in lines if line.startswith("X-Two")] == ["X-Two: 1", "X-Two: 2"]


async def test_lines_cannot_be_smuggled_into_the_request(start: Start) -> None:
    server = await start()
    verdict, message = await run(server, http_headers=[HTTPHeader(name="A", value="b\r\nC: d")])
    assert verdict is Verdict.FAILURE and "invalid header field value" in message
    with pytest.raises(ProbeError, match="invalid header field name"):
        await run(server, http_headers=[HTTPHeader(name="A: b\r\nC", value="d")])
    await run(server, path="/a b\r\nX: y")
    assert server.requests[-1].startswith(b"GET /a%20b%0D%0AX:%20y HTTP/1.1\r\n")
    assert len(server.requests) == 1


async def test_redirects_on_the_same_host_are_followed(start: Start) -> None:
    server = await start()
    server.answers = [
        b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ]
    assert (await run(server, path="/first"))[0] is Verdict.SUCCESS
    assert server.requests[1].startswith(b"GET /next HTTP/1.1")


async def test_a_redirect_tells_where_it_comes_from(start: Start) -> None:
    server = await start()
    server.answers = [
        b"HTTP/1.1 302 Found\r\nLocation: /next%2Fone\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ]
    await run(server, path="/first", http_headers=[HTTPHeader(name="X-A", value="1")])
    assert b"Referer" not in server.requests[0]
    assert server.requests[1].startswith(b"GET /next%2Fone HTTP/1.1\r\n")
    assert b"\r\nReferer: http://127.0.0.1:%d/first\r\n" % server.port in server.requests[1]
    assert b"\r\nX-A: 1\r\n" in server.requests[1]


async def test_a_redirect_to_what_is_no_web_address_fails(start: Start) -> None:
    server = await start()
    server.answers = [b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"]
    verdict, message = await run(server)
    assert verdict is Verdict.FAILURE and message.endswith('unsupported protocol scheme "ftp"')


async def test_a_redirect_elsewhere_is_a_warning_and_not_followed(start: Start) -> None:
    server, other = await start(), await start()
    location = b"Location: http://localhost:%d/\r\n" % other.port
    server.answers = [b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 4\r\n\r\nbody"]
    verdict, message = await run(server)
    assert (verdict, message) == (Verdict.WARNING, "Probe terminated redirects, Response body: body")
    assert other.requests == []


async def test_endless_redirects_fail(start: Start) -> None:
    server = await start()
    server.answers = [b"HTTP/1.1 301 Moved\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"]
    verdict, message = await run(server)
    assert verdict is Verdict.FAILURE and message.endswith("stopped after 10 redirects")
    assert len(server.requests) == 10


async def test_a_hanging_server_times_out_and_is_let_go(start: Start) -> None:
    server = await start()
    server.answers = [b"HANG"]
    verdict, message = await run(server, timeout=0.05)
    assert verdict is Verdict.FAILURE
    assert message.endswith("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
    for _ in range(100):
        if server.closed_by_client:
            break
        await asyncio.sleep(0.01)
    assert server.closed_by_client == 1


async def test_refused_empty_and_foreign_answers_fail(start: Start) -> None:
    server = await start()
    server.answers = [b""]
    assert (await run(server))[1].endswith(": EOF")
    server.answers = [b"SSH-2.0-OpenSSH_9.2\r\n"]
    assert 'malformed HTTP response "SSH-2.0-OpenSSH_9.2' in (await run(server))[1]
    unused = HTTPGetAction(port=1, path="/")
    outcome = await http.probe(http.new_request(unused, CONTAINER, "127.0.0.1"), 5)
    assert outcome.message == 'Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused'


async def test_the_body_is_cut_at_the_limit_and_the_connection_closed(start: Start) -> None:
    server = await start()
    server.answers = [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 20)]
    verdict, message = await run(server)
    assert verdict is Verdict.SUCCESS and message == "x" * BODY_LIMIT


async def test_a_broken_body_says_nothing_about_the_container(start: Start) -> None:
    server = await start()
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"]
    with pytest.raises(ProbeError, match="unexpected EOF") as caught:
        await run(server)
    assert caught.value.state == "failure"


async def test_a_body_without_end_says_nothing_about_the_container(start: Start) -> None:
    server = await start()
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"]
    server.hang_after_answer = True
    with pytest.raises(ProbeError, match="while reading body") as caught:
        await run(server, timeout=0.3)
    assert caught.value.state == "failure"


async def test_headers_that_frame_a_body_are_not_sent(start: Start) -> None:
    server = await start()
    names = ("Content-Length", "transfer-encoding", "Trailer")
    headers = [HTTPHeader(name=name, value="7") for name in names]
    headers += [HTTPHeader(name="User-Agent", value=value) for value in ("one", "two")]
    await run(server, http_headers=headers)
    sent = server.requests[0].lower()
    assert not any(name.lower().encode() in sent for name in names)
    assert sent.count(b"user-agent:") == 1 and b"user-agent: one" in sent


async def test_https_is_not_verified(start: Start, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    server = await start(authority.server_context())
    assert await run(server, scheme="HTTPS") == (Verdict.SUCCESS, "ok")
    verdict, _ = await run(await start(), timeout=0.2, scheme="HTTPS")
    assert verdict is Verdict.FAILURE


async def test_proxies_of_the_environment_are_ignored(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (await run(server))[0] is Verdict.SUCCESS


def test_ports_by_name_and_number() -> None:
    def port(value: int | str | None) -> int:
        return http.new_request(HTTPGetAction(port=value), CONTAINER, "::1").port

    assert (port("www"), port("81"), port(82)) == (8080, 81, 82)
    with pytest.raises(ProbeError, match="port nope not found"):
        port("nope")
    for bad in (0, 65536, -1, None):
        with pytest.raises(ProbeError, match="invalid port number"):
            port(bad)


def test_urls() -> None:
    request = http.new_request(HTTPGetAction(port=80, path="healthz"), CONTAINER, "fd00::1", "lifecycle")
    assert request.url == "http://[fd00::1]:80/healthz"
    assert request.headers["User-Agent"] == ["kube-lifecycle/1.36"]
    other = http.new_request(HTTPGetAction(port=80, path="http://evil/x"), CONTAINER, "10.0.0.1")
    assert other.url == "http://10.0.0.1:80/x"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb/c d", "/a/b/c%20d"),
        ("/a%25b", "/a%25b"),
        ("/ö", "/%C3%B6"),
        ("/a%zz?b#c", "/a%25zz%3Fb%23c"),
        ("/x?", "/x?"),
        ("/x?a=%2F&b#c", "/x?a=%2F&b"),
        ("//host/p", "/p"),
        ("///p", "///p"),
        ("http:///p", "/p"),
        ("/a[1]!b*(c)'", "/a[1]!b*(c)'"),
        ('/a"b<c>', "/a%22b%3Cc%3E"),
        ("", "/"),
        ("*", "/*"),
    ],
)
def test_paths_are_sent_as_go_writes_them(path: str, target: str) -> None:
    assert request_target(path) == target


def read(data: bytes, step: int) -> ResponseReader:
    reader = ResponseReader()
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    return reader


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_chunked_bodies_and_interim_responses(step: int) -> None:
    data = (
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
    )
    reader = read(data, step)
    assert (reader.done, reader.status, reader.body) == (True, 200, b"hello world")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
    ],
)
def test_malformed_responses_are_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        read(data, 100_000)


async def test_a_probe_given_up_while_it_connects_leaves_no_error_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection may end after nobody waits for its answer any more."""
    made: list[http._Exchange] = []

    async def connecting(host: str, port: int, connect: object) -> None:
        await asyncio.Event().wait()

    def exchange(request: bytes, done: asyncio.Future[None]) -> http._Exchange:
        made.append(original(request, done))
        return made[-1]

    original = http._Exchange
    monkeypatch.setattr(http, "dial", connecting)
    monkeypatch.setattr(http, "_Exchange", exchange)
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    task = asyncio.ensure_future(http.fetch(http.Request("http", "127.0.0.1", 1, "/", {}, ""), 5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    made.pop().connection_lost(None)
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert said == []

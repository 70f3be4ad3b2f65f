"""HTTP(S) GET for probes and lifecycle hooks: one connection each, no proxies, no verification, small limits.

Semantics and the words of failures follow upstream's pkg/probe/http (Kubernetes 1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass, field, replace
from functools import cache
from urllib.parse import urljoin, urlsplit

from minikubelet.kubelet.objects.containers import Container, HTTPGetAction
from minikubelet.kubelet.probes.dial import DialError, dial, error_text
from minikubelet.kubelet.probes.outcome import Outcome, ProbeError, Verdict, failure, success
from minikubelet.kubelet.probes.ports import join_host_port, resolve_port
from minikubelet.kubelet.probes.response import BadResponse, ResponseReader
from minikubelet.kubelet.probes.urls import escape_path, request_target

VERSION = "1.36"
"""The Kubernetes minor release whose behaviour is followed; part of the User-Agent."""
MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's names for an answer that is no TLS record; which one, depends on its version."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_NOT_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLANKS = " \t"
_FRAMING = ("Content-Length", "Transfer-Encoding", "Trailer")
"""Headers that say how a body is framed: net/http writes them itself, and a GET has no body."""


@dataclass(frozen=True, slots=True)
class Request:
    """A GET; ``headers`` are final, the Host header apart."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query as they stand in the request line."""
    headers: dict[str, list[str]] = field(default_factory=dict)
    host_header: str = ""

    @property
    def url(self) -> str:
        """For messages."""
        return f"{self.scheme}://{join_host_port(self.host, self.port)}{self.target}"

    def encode(self) -> bytes:
        """The bytes to send. Raises ValueError for what would break out of a header."""
        host = self.host_header or _default_host(self)
        lines = [f"GET {self.target} HTTP/1.1"]
        for name, values in {"Host": [host], **self.headers}.items():
            if any(_NOT_IN_VALUES.search(value) for value in values):
                raise ValueError(f'net/http: invalid header field value for "{name}"')
            lines += [f"{name}: {value.strip(_BLANKS)}" for value in values]
        lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers (lower-case names, first value each) and at most 10 KiB of body."""

    status: int
    headers: dict[str, str]
    body: bytes


class RequestFailed(Exception):
    """No response: refused, timed out, not HTTP. The text is Go's, as people know it from events."""


def new_request(action: HTTPGetAction, container: Container, pod_ip: str, purpose: str = "probe") -> Request:
    """The request of an httpGet action; ``purpose`` is ``probe`` or ``lifecycle``. Raises ProbeError."""
    headers: dict[str, list[str]] = {}
    for header in action.http_headers:
        if not _TOKEN.match(header.name):
            raise ProbeError(f"net/http: invalid header field name {header.name!r}")
        headers.setdefault(_canonical(header.name), []).append(header.value)
    host_header = headers.pop("Host", [""])[0]
    headers.setdefault("User-Agent", [f"kube-{purpose}/{VERSION}"])
    headers.setdefault("Accept", ["*/*"])
    for name in ("Accept", "User-Agent"):  # an empty one means: don't send it
        if not headers[name][0]:
            del headers[name]
    if "User-Agent" in headers:
        del headers["User-Agent"][1:]
    for name in _FRAMING:
        headers.pop(name, None)
    return Request(
        scheme=(action.scheme or "http").lower(),
        host=action.host or pod_ip,
        port=resolve_port(action.port, container),
        target=request_target(action.path),
        headers=headers,
        host_header=host_header,
    )


def _canonical(name: str) -> str:
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def _default_host(request: Request) -> str:
    return join_host_port(request.host, request.port)


class NotTls(RequestFailed):
    """The server does not speak TLS on that port."""


class _Exchange(asyncio.Protocol):
    """Sends the request when connected, reads the response, closes."""

    __slots__ = ("_request", "_transport", "done", "reader")

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self.done = done
        self.reader = ResponseReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            self.reader.feed(data)
        except BadResponse as exc:
            self._end(exc)
        else:
            if self.reader.done:
                self._end(None)

    def eof_received(self) -> bool:
        self._closed(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed(exc)

    def _closed(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        try:
            if exc is not None and not (self.reader.has_head and isinstance(exc, ssl.SSLError)):
                raise exc
            self.reader.finish()
        except (OSError, EOFError) as error:
            self._end(error)
        else:
            self._end(None)

    def _end(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport.close()
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Self-made certificates with small keys are as good as others when nothing is verified.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


async def _fetch_once(request: Request, exchange: _Exchange) -> Response:
    loop, done = asyncio.get_running_loop(), exchange.done
    tls = _tls() if request.scheme == "https" else None
    name = request.host if tls is not None else None

    async def connect(address: str) -> asyncio.Transport:
        try:
            made, _ = await loop.create_connection(
                lambda: exchange, address, request.port, ssl=tls, server_hostname=name
            )
        except ssl.SSLError as exc:
            if exc.reason in _NO_TLS:
                raise NotTls("tls: first record does not look like a TLS handshake") from exc
            raise RequestFailed(f"tls: {exc.reason or exc}") from exc
        return made

    try:
        transport = await dial(request.host, request.port, connect)
    except DialError as exc:
        raise RequestFailed(str(exc)) from exc
    except asyncio.CancelledError:
        if not done.cancel() and not done.cancelled():
            done.exception()  # it has failed meanwhile, and nobody comes to look at that
        raise
    try:
        await done
    except OSError as exc:
        what = f"read tcp {join_host_port(request.host, request.port)}: read: {error_text(exc)}"
        raise _broken(exchange, what) from exc
    except EOFError as exc:
        raise _broken(exchange, str(exc)) from exc
    except BadResponse as exc:
        raise _broken(exchange, f"net/http: HTTP/1.x transport connection broken: {exc}") from exc
    finally:
        if not done.done() or done.cancelled():
            transport.abort()
    reader = exchange.reader
    return Response(reader.status, reader.headers, reader.body)


async def answers_in_http(host: str, port: int, timeout: float) -> bool:
    """Whether a server answers the beginning of a TLS handshake in HTTP; False where nobody answers."""
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        _tls().wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(hello.read())
            return await reader.readexactly(5) == b"HTTP/"
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()


def _broken(exchange: _Exchange, text: str) -> Exception:
    # Upstream: no response is a failed probe, a response whose body can't be read an error that says nothing.
    return ProbeError(text, "failure") if exchange.reader.has_head else RequestFailed(text)


async def fetch(request: Request, timeout: float) -> Response:
    """The response, redirects on the same host followed; ``timeout`` (seconds) covers it all.

    Raises RequestFailed, or ProbeError when only the body can't be read.
    """
    first, exchange = request, None
    try:
        async with asyncio.timeout(timeout):
            for left in reversed(range(MAX_REDIRECTS)):
                if request.scheme not in ("http", "https"):
                    raise RequestFailed(f'unsupported protocol scheme "{request.scheme}"')
                exchange = _Exchange(request.encode(), asyncio.get_running_loop().create_future())
                response = await _fetch_once(request, exchange)
                following = _redirect(first, request, response)
                if following is None:
                    return response
                request = following if left else request
    except TimeoutError:
        if exchange is not None and exchange.reader.has_head:
            what = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            raise ProbeError(what, "failure") from None
        reason = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise RequestFailed(f'Get "{request.url}": {reason}') from None
    except NotTls as exc:
        raise NotTls(f'Get "{request.url}": {exc}') from exc
    except (RequestFailed, ValueError) as exc:
        raise RequestFailed(f'Get "{request.url}": {exc}') from exc
    raise RequestFailed(f'Get "{request.url}": stopped after {MAX_REDIRECTS} redirects')


def _redirect(first: Request, request: Request, response: Response) -> Request | None:
    """The next request; None if there is none, or it is for another host."""
    location = response.headers.get("location", "")
    if response.status not in _REDIRECTS or not location:
        return None
    try:
        url = urlsplit(urljoin(request.url, location))
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as exc:
        raise RequestFailed(f"failed to parse Location header {location!r}: {exc}") from None
    if (url.hostname or "") != first.host.lower().strip("[]"):
        return None
    target = escape_path(url.path or "/") + (f"?{url.query}" if url.query else "")
    # A Host header of the manifest stays only for a Location that names no host (net/http does the same).
    kept = first.host_header if not urlsplit(location).netloc else ""
    headers = dict(first.headers)
    if (request.scheme, url.scheme) != ("https", "http"):
        headers.setdefault("Referer", [request.url])
    return replace(request, scheme=url.scheme, port=port, target=target, headers=headers, host_header=kept)


async def probe(request: Request, timeout: float) -> Outcome:
    """One probe: 200-399 is good. Raises ProbeError when the body breaks off."""
    try:
        response = await fetch(request, timeout)
    except RequestFailed as exc:
        return failure(str(exc))
    body = response.body.decode("utf-8", "replace")
    if 300 <= response.status < 400:
        return Outcome(Verdict.WARNING, f"Probe terminated redirects, Response body: {body}")
    if 200 <= response.status < 300:
        return success(body)
    return failure(f"HTTP probe failed with statuscode: {response.status}")

"""HTTP towards registries: one session, redirects under control, errors that are worth a retry told apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from yarl import URL

import minikubelet
from minikubelet.base.errors import Code, NodeError
from minikubelet.images.auth import same_origin
from minikubelet.images.hosts import Tls
from minikubelet.images.patience import Patience, Unreachable

MAX_REDIRECTS = 8
CONNECT_SECONDS = 10.0
STALL_SECONDS = 15.0
"""Longest silence of a server that is accepted."""
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_BUFFER = 128 << 10
"""Twice as much may wait in a connection, and is lost when that breaks."""


@dataclass(frozen=True)
class Request:
    """One request of a server."""

    method: str
    url: str
    headers: Mapping[str, str]
    """For the server of ``url`` only."""
    tls: Tls
    body: str = ""


class Transport:
    """The HTTP session all pulls share."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=32, limit_per_host=8, ttl_dns_cache=30),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_BUFFER,
                headers={
                    "User-Agent": f"minikubelet/{minikubelet.__version__}",
                    "Accept-Encoding": "identity",
                },
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _context(self, tls: Tls) -> ssl.SSLContext:
        context = self._contexts.get(tls)
        if context is None:
            try:
                context = await asyncio.to_thread(tls.context)
            except (OSError, ssl.SSLError) as exc:
                raise NodeError(Code.FAILED_PRECONDITION, f"TLS files of a registry host: {exc}") from None
            self._contexts[tls] = context
        return context

    @contextlib.asynccontextmanager
    async def request(self, request: Request, patience: Patience) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, redirects of GET and HEAD followed; the response's body is not read yet.

        On a redirect to another scheme, host or port just the headers Accept and Range stay, and the host's
        own TLS settings don't apply. ``patience`` bounds each silence. Raises Unreachable.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._once(request, patience)
            try:
                location = response.headers.get("Location", "")
                if response.status not in (301, 302, 303, 307, 308) or not location or request.body:
                    yield response
                    return
            finally:
                # Not read to the end: the connection is closed, unless nothing is left.
                response.release() if response.content.at_eof() else response.close()
            request = _redirected(request, location)
        raise Unreachable(f"more than {MAX_REDIRECTS} redirects", status=400)

    async def _once(self, request: Request, patience: Patience) -> aiohttp.ClientResponse:
        session = self._open_session()
        connect = patience.silence(CONNECT_SECONDS)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=connect, sock_connect=connect, sock_read=patience.silence(STALL_SECONDS)
        )
        secure = urlsplit(request.url).scheme == "https"
        context = await self._context(request.tls) if secure else True
        try:
            return await session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
                ssl=context,
                timeout=timeout,
                proxy=_proxy(request.url),
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            refused = isinstance(exc, aiohttp.ClientConnectorError)
            raise Unreachable(explain(exc, timeout), status=_permanent(exc), refused=refused) from exc


def _redirected(request: Request, location: str) -> Request:
    """What to ask instead. Raises Unreachable."""
    target = urljoin(request.url, location)
    if urlsplit(target).scheme not in ("http", "https"):
        raise Unreachable(f"redirect to the unusable address {target[:200]!r}", status=400)
    if urlsplit(request.url).scheme == "https" and urlsplit(target).scheme == "http":
        raise Unreachable(f"redirect from HTTPS to {_bare(target)}", status=400)
    if same_origin(request.url, target):
        return replace(request, url=target)
    headers = {k: v for k, v in request.headers.items() if k.lower() in ("accept", "range")}
    return replace(request, url=target, headers=headers, tls=Tls())


def explain(exc: BaseException, timeout: aiohttp.ClientTimeout | None = None) -> str:
    """A network error in words; never with headers or credentials in it."""
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return f"no connection within {timeout.connect:.0f} s" if timeout else "no connection in time"
    if isinstance(exc, TimeoutError):
        return f"nothing received for {timeout.sock_read:.0f} s" if timeout else "content stopped coming"
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return f"certificate not accepted: {exc.certificate_error}"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return f"can't connect: {_reason(exc.os_error)}"
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "connection closed without an answer"
    if isinstance(exc, aiohttp.ClientPayloadError):
        return "connection closed before the end of the content"
    return f"{type(exc).__name__}: {exc}"[:300]


def _reason(error: OSError) -> str:
    """gaierror's own words (its numbers are no errno), else the errno's."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _permanent(exc: BaseException) -> int:
    """A status-like mark for failures that no retry mends."""
    hopeless = (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL, ValueError)
    return 400 if isinstance(exc, hopeless) else 0


def _proxy(url: str) -> str | None:
    """Proxy by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; ~/.netrc is never looked at."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies_environment()
    if not proxies or urllib.request.proxy_bypass(parts.netloc):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header (RFC 9110 §10.2.3); 0 without one."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return 0.0
    if value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


class _ErrorItem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    errors: list[_ErrorItem] = []


async def error_text(response: aiohttp.ClientResponse) -> str:
    """What the registry says in an error's body (OCI distribution, error codes), short and printable."""
    try:
        data = await asyncio.wait_for(response.content.read(4096), 3)
        items = msgspec.json.decode(data, type=_ErrorBody).errors
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, RecursionError, ValueError):
        return ""
    text = "; ".join(f"{item.code} {item.message}".strip() for item in items[:3])[:300]
    return "".join(c if c.isprintable() else " " for c in text)


def _bare(url: str) -> str:
    """An address without its query, which may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:200]

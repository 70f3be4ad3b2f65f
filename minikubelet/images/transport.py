"""HTTP towards registries: one session, redirects under control, errors that are worth a retry told apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from yarl import URL

import minikubelet
from minikubelet.base.errors import Code, NodeError
from minikubelet.images.auth import same_origin
from minikubelet.images.hosts import Tls

MAX_REDIRECTS = 8
CONNECT_SECONDS = 10.0
STALL_SECONDS = 15.0
"""Longest silence of a server that is accepted."""
PATIENCE_SECONDS = 24.0
"""How long one object may make no progress, retries and pauses included, before the pull fails."""
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_BUFFER = 128 << 10
"""Twice as much may wait in a connection, and is lost when that breaks."""


class Unreachable(Exception):
    """An attempt failed in a way that another one may mend; ``after`` are seconds the server asked for."""

    def __init__(self, message: str, *, status: int = 0, after: float = 0.0, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.status = status
        self.after = after


class Patience:
    """Time without progress, and the pauses between attempts."""

    def __init__(self, seconds: float | None = None, attempts: int = 7) -> None:
        self._seconds = PATIENCE_SECONDS if seconds is None else seconds
        self._attempts = attempts
        self._failures = 0
        self._since = time.monotonic()
        self._moved = 0

    def left(self) -> float:
        """Seconds until giving up."""
        return self._since + self._seconds - time.monotonic()

    def progress(self, size: int) -> None:
        """``size`` bytes came; a trickle slower than 16 KiB in the whole time is no progress."""
        self._moved += size
        if self._moved >= 16384:
            self._moved = 0
            self._failures = 0
            self._since = time.monotonic()

    async def pause(self, failure: Unreachable) -> bool:
        """Wait before the next attempt; False if there shall be none."""
        # Who isn't there at all seldom comes back within seconds.
        self._failures += 3 if failure.refused else 1
        backoff = 0.5 if failure.refused else min(0.2 * 2**self._failures, 5.0)
        wait = max(failure.after, backoff * random.uniform(0.5, 1.0))
        if self._failures >= self._attempts or wait >= self.left():
            return False
        await asyncio.sleep(wait)
        return True


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
    async def request(
        self, method: str, url: str, headers: Mapping[str, str], tls: Tls, body: str = ""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, redirects of GET and HEAD followed; the response's body is not read yet.

        ``headers`` go to the server of ``url`` only: on a redirect to another scheme, host or port just
        Accept and Range stay, and the host's own TLS settings don't apply. Raises Unreachable.
        """
        sent = dict(headers)
        settings = tls
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._once(method, url, sent, settings, body)
            try:
                location = response.headers.get("Location", "")
                if response.status not in (301, 302, 303, 307, 308) or not location or body:
                    yield response
                    return
            finally:
                # Not read to the end: the connection is closed, unless nothing is left.
                response.release() if response.content.at_eof() else response.close()
            target = urljoin(url, location)
            if urlsplit(target).scheme not in ("http", "https"):
                raise Unreachable(f"redirect to the unusable address {target[:200]!r}", status=400)
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
                raise Unreachable(f"redirect from HTTPS to {_bare(target)}", status=400)
            if not same_origin(url, target):
                sent = {k: v for k, v in sent.items() if k.lower() in ("accept", "range")}
                settings = Tls()
            url = target
        raise Unreachable(f"more than {MAX_REDIRECTS} redirects", status=400)

    async def _once(
        self, method: str, url: str, headers: Mapping[str, str], tls: Tls, body: str
    ) -> aiohttp.ClientResponse:
        session = self._open_session()
        timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS
        )
        secure = urlsplit(url).scheme == "https"
        context = await self._context(tls) if secure else True
        try:
            return await session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
                ssl=context,
                timeout=timeout,
                proxy=_proxy(url),
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            refused = isinstance(exc, aiohttp.ClientConnectorError)
            raise Unreachable(explain(exc), status=_permanent(exc), refused=refused) from exc


def explain(exc: BaseException) -> str:
    """A network error in words; never with headers or credentials in it."""
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(exc, TimeoutError):
        return f"nothing received for {STALL_SECONDS:.0f} s"
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

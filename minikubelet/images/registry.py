"""Pulling from registries: OCI distribution specification 1.1, one client per pull.

Every object is asked of the hosts in their order; a failure goes on to the next, and what is raised in the
end names each registry that was asked and what it answered.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import documents
from minikubelet.images.auth import (
    Challenge,
    basic,
    credentials_for,
    parse_challenges,
    same_origin,
    token_request,
)
from minikubelet.images.blobs import Ingest, verify_bytes
from minikubelet.images.documents import Descriptor, bad_content
from minikubelet.images.hosts import Host, Tls
from minikubelet.images.models import Credentials
from minikubelet.images.reference import Reference, is_digest
from minikubelet.images.transport import (
    RETRY_STATUS,
    Patience,
    Transport,
    Unreachable,
    error_text,
    explain,
    retry_after,
)

FLUSH = 1 << 20
"""Bytes that are collected before a thread writes and hashes them."""
MAX_TOKEN = 1 << 20
T = TypeVar("T")
Ask = Callable[[Host, Patience], Awaitable[T]]
"""One attempt at one host; raises Unreachable."""


@dataclass(frozen=True)
class Fetched:
    """A manifest or index as it came."""

    digest: str
    data: bytes
    media_type: str


class _TokenAnswer(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class RegistryClient:
    """Fetches the objects of one reference with one set of credentials."""

    def __init__(
        self, transport: Transport, reference: Reference, hosts: list[Host], credentials: Credentials | None
    ) -> None:
        self._transport = transport
        self._reference = reference
        self._hosts = hosts
        self._credentials = credentials
        self._authorization: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def digest_of(self, tag: str) -> str:
        """What the registry says ``tag`` points to now (HEAD); "" if it doesn't say. Raises NodeError."""

        async def ask(host: Host, _: Patience) -> str:
            async with self._send("HEAD", host, f"manifests/{tag}", {"Accept": documents.ACCEPT}) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                return digest if is_digest(digest) else ""

        return await self._each_host("resolve", _bounded(ask))

    async def manifest(self, selector: str, expected: Descriptor | None = None) -> Fetched:
        """The manifest or index for a tag or digest, verified. Raises NodeError."""

        async def ask(host: Host, _: Patience) -> Fetched:
            headers = {"Accept": documents.ACCEPT}
            async with self._send("GET", host, f"manifests/{selector}", headers) as response:
                data = await _read_limited(response, documents.MAX_MANIFEST)
                return self._checked(selector, expected, data, response, host)

        capability = "pull" if is_digest(selector) else "resolve"
        return await self._each_host(capability, _bounded(ask))

    def _checked(
        self,
        selector: str,
        expected: Descriptor | None,
        data: bytes,
        response: aiohttp.ClientResponse,
        host: Host,
    ) -> Fetched:
        what = f"registry {host.authority}"
        promised = response.headers.get("Docker-Content-Digest", "")
        digest = selector if is_digest(selector) else promised
        if expected is not None and len(data) != expected.size:
            raise bad_content(f"{what} sent {len(data)} bytes of {selector}, which has {expected.size}")
        if not is_digest(digest):
            digest = documents.sha256(data)
        verify_bytes(data, digest, what)
        if (
            is_digest(promised)
            and promised.partition(":")[0] == digest.partition(":")[0]
            and promised != digest
        ):
            raise bad_content(f"{what} calls {digest} {promised}")
        return Fetched(digest, data, response.headers.get("Content-Type", ""))

    async def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A config, verified. Raises NodeError."""

        async def ask(host: Host, _: Patience) -> bytes:
            async with self._send("GET", host, f"blobs/{descriptor.digest}", {}) as response:
                data = await _read_limited(response, min(limit, descriptor.size))
                if len(data) != descriptor.size:
                    raise Unreachable(
                        f"{len(data)} bytes of {descriptor.digest}, which has {descriptor.size}"
                    )
                verify_bytes(data, descriptor.digest, f"registry {host.authority}")
                return data

        return await self._each_host("pull", _bounded(ask))

    async def blob(self, ingest: Ingest, progress: Callable[[], None]) -> str:
        """Fetch what is missing of ``ingest``, resuming where a connection broke; returns the last host.

        The digest is the caller's to verify. ``progress`` is called after each piece. Raises NodeError.
        """

        async def ask(host: Host, patience: Patience) -> str:
            if ingest.offset < ingest.size:
                await self._receive(host, ingest, patience, progress)
            return f"registry {host.authority}"

        return await self._each_host("pull", ask)

    async def _receive(
        self, host: Host, ingest: Ingest, patience: Patience, progress: Callable[[], None]
    ) -> None:
        start = ingest.offset
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self._send("GET", host, f"blobs/{ingest.digest}", headers) as response:
            skip = _bytes_to_skip(response, start)
            sink = _Sink(ingest, progress)
            try:
                while chunk := await _some(response):
                    patience.progress(len(chunk))
                    if patience.left() <= 0:
                        raise Unreachable("content comes too slowly")
                    if skip:
                        chunk, skip = chunk[skip:], max(0, skip - len(chunk))
                    await sink.add(chunk)
            finally:
                await sink.flush()
        if ingest.offset < ingest.size:
            raise Unreachable("connection closed before the end of the content")

    async def _each_host(self, capability: str, ask: Ask[T]) -> T:
        hosts = [host for host in self._hosts if capability in host.capabilities]
        failures: list[tuple[Host, Unreachable | NodeError]] = []
        for number, host in enumerate(hosts, 1):
            # A host that others stand behind is given up sooner.
            patience = Patience() if number == len(hosts) else Patience(8.0, 3)
            try:
                return await _retried(ask, host, patience)
            except (Unreachable, NodeError) as exc:
                if isinstance(exc, NodeError) and exc.code is Code.INVALID_ARGUMENT:
                    raise
                failures.append((host, exc))
        raise self._failure(failures)

    def _failure(self, failures: list[tuple[Host, Unreachable | NodeError]]) -> NodeError:
        """One error for all hosts; its code is that of the last, which is the registry itself."""
        if not failures:
            return NodeError(
                Code.FAILED_PRECONDITION,
                f"pull {self._reference}: no host in hosts.toml may serve it",
                reason="ErrImagePull",
            )
        texts = [f"registry {host.authority}: {exc}" for host, exc in failures]
        last = failures[-1][1]
        code = last.code if isinstance(last, NodeError) else _code_of(last.status)
        return NodeError(code, f"pull {self._reference}: {'; '.join(texts)}", reason="ErrImagePull")

    @asynccontextmanager
    async def _send(
        self, method: str, host: Host, path: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response; answers a challenge once. Raises Unreachable."""
        url = f"{host.base}/{self._reference.path}/{path}"
        if host.namespace:
            url += f"?ns={quote(host.namespace, safe='')}"
        configured = {name: ", ".join(values) for name, values in host.headers.items()}
        for last in (False, True):
            used = self._authorization.get(host.authority, "")
            sent = {**configured, **headers, **({"Authorization": used} if used else {})}
            async with self._transport.request(method, url, sent, host.tls) as response:
                if response.status in (200, 206):
                    yield response
                    return
                if response.status == 401 and not last:
                    challenges = response.headers.getall("WWW-Authenticate", [])
                else:
                    raise await self._refusal(response, host)
            await self._authorize(host, ", ".join(challenges), used)

    async def _refusal(self, response: aiohttp.ClientResponse, host: Host) -> Unreachable:
        text = await error_text(response)
        status = f"{response.status} {response.reason or ''}".strip()
        if response.status in (401, 403) and self._credentials and not self._usable(host):
            text = f"{text} (the credentials are for another server)".strip()
        message = f"status {status}" + (f": {text}" if text else "")
        return Unreachable(message, status=response.status, after=retry_after(response.headers))

    def _usable(self, host: Host) -> Credentials | None:
        return credentials_for(self._credentials, self._reference, host)

    async def _authorize(self, host: Host, header: str, used: str) -> None:
        """Find an Authorization value for ``host``; requests in parallel wait for one answer."""
        async with self._lock:
            if self._authorization.get(host.authority, "") != used:
                return  # another request has just renewed it
            self._authorization.pop(host.authority, None)
            self._authorization[host.authority] = await self._answer(host, header)

    async def _answer(self, host: Host, header: str) -> str:
        credentials = self._usable(host)
        challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(header))}
        if "bearer" in challenges:
            if credentials and credentials.registry_token:
                return f"Bearer {credentials.registry_token}"
            return f"Bearer {await self._token(challenges['bearer'], host, credentials)}"
        if "basic" in challenges and credentials:
            user, password = credentials.user_password()
            if user:
                return basic(user, password)
        note = " (the credentials are for another server)" if self._credentials and not credentials else ""
        raise Unreachable(f"status 401: needs credentials{note}", status=401)

    async def _token(self, challenge: Challenge, host: Host, credentials: Credentials | None) -> str:
        request = token_request(challenge, host, self._reference, credentials)
        if request is None:
            raise Unreachable("status 401 with an unusable token realm", status=401)
        tls = host.tls if _is_on(request.url, host) else Tls()
        note = "; the credentials were not sent there" if request.withheld else ""
        where = f"token service {request.url.partition('?')[0][:200]}"
        try:
            async with self._transport.request(
                request.method, request.url, request.headers, tls, request.body
            ) as response:
                if response.status != 200:
                    text = await error_text(response)
                    status = 401 if response.status in (400, 401, 403) else response.status
                    after = retry_after(response.headers)
                    message = f"{where}: status {response.status} {text}".strip()
                    raise Unreachable(message + note, status=status, after=after)
                answer = msgspec.json.decode(await _read_limited(response, MAX_TOKEN), type=_TokenAnswer)
        except (msgspec.MsgspecError, RecursionError):
            raise Unreachable(f"{where}: malformed answer", status=401) from None
        token = answer.token or answer.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise Unreachable(f"{where}: no usable token", status=401)
        return token


async def _retried(ask: Ask[T], host: Host, patience: Patience) -> T:
    while True:
        try:
            return await ask(host, patience)
        except Unreachable as exc:
            if _is_final(exc.status) or not await patience.pause(exc):
                raise


def _bounded(ask: Ask[T]) -> Ask[T]:
    """``ask`` for something small, which must be complete within the patience there is."""

    async def attempt(host: Host, patience: Patience) -> T:
        try:
            async with asyncio.timeout(max(patience.left(), 1.0)):
                return await ask(host, patience)
        except TimeoutError:
            raise Unreachable("no complete answer in time") from None

    return attempt


class _Sink:
    """Collects chunks and hands them to a thread, one hand-over at a time."""

    def __init__(self, ingest: Ingest, progress: Callable[[], None]) -> None:
        self._ingest = ingest
        self._progress = progress
        self._chunks: list[bytes] = []
        self._size = 0
        self._total = ingest.offset
        self._writing: asyncio.Future[None] | None = None

    async def add(self, chunk: bytes) -> None:
        self._total += len(chunk)
        if self._total > self._ingest.size:
            raise bad_content(f"more than the {self._ingest.size} bytes of {self._ingest.digest}")
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size >= FLUSH:
            await self._hand_over()

    async def flush(self) -> None:
        await self._hand_over()
        await self._written()

    async def _hand_over(self) -> None:
        await self._written()
        chunks, self._chunks, self._size = self._chunks, [], 0
        if chunks:
            write = functools.partial(self._ingest.write, chunks)
            self._writing = asyncio.get_running_loop().run_in_executor(None, write)

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            # A thread can't be stopped: even a cancelled download waits for its last write.
            await _finish(writing)
            self._ingest.announce()
            self._progress()


async def _finish(future: asyncio.Future[None]) -> None:
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


async def _some(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise Unreachable(explain(exc)) from exc


async def _read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := await _some(response):
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise bad_content(f"content larger than {limit} bytes")
    return b"".join(parts)


def _bytes_to_skip(response: aiohttp.ClientResponse, start: int) -> int:
    """A server without ranges sends all again; one that sends another range is not understood."""
    if response.status == 200:
        return start
    content_range = response.headers.get("Content-Range", "")
    if not content_range.startswith(f"bytes {start}-"):
        raise Unreachable(f"answer with the range {content_range[:60]!r} to bytes={start}-", status=400)
    return 0


def _is_final(status: int) -> bool:
    """Whether no retry will help; 0 stands for a failure of the network."""
    return status != 0 and status not in RETRY_STATUS


def _code_of(status: int) -> Code:
    if status == 404:
        return Code.NOT_FOUND
    if status == 401:
        return Code.UNAUTHENTICATED
    if status == 403:
        return Code.PERMISSION_DENIED
    if status == 429:
        return Code.RESOURCE_EXHAUSTED
    return Code.UNAVAILABLE


def _is_on(url: str, host: Host) -> bool:
    return same_origin(url, f"{host.scheme}://{host.authority}")

"""Pulling from registries: OCI distribution specification 1.1, one client per pull.

Every object is asked of the hosts in their order; a failure goes on to the next, and what is raised in the
end names each registry that was asked and what it answered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import documents
from minikubelet.images.auth import (
    TokenRequest,
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
from minikubelet.images.patience import Patience, Trouble, Turns, Unreachable
from minikubelet.images.receive import Sink, bytes_to_skip, read_limited, some
from minikubelet.images.reference import Reference, is_digest
from minikubelet.images.transport import RETRY_STATUS, Request, Transport, error_text, retry_after

MAX_TOKEN = 1 << 20
T = TypeVar("T")
Ask = Callable[[Host, Patience], Awaitable[T]]
"""One attempt at one host; raises Unreachable."""
Stored = Callable[[Host, str], Awaitable[Credentials | None]]
"""Credentials that this machine has for a host's repository; raises NodeError."""


@dataclass(frozen=True)
class Rights:
    """What may be shown to registries that ask."""

    credentials: Credentials | None = None
    """The request's; where they are meant for the host, they win."""
    stored: Stored | None = None


@dataclass(frozen=True)
class Fetched:
    """A manifest or index as it came."""

    digest: str
    data: bytes
    media_type: str


@dataclass(frozen=True)
class Question:
    """A request below a repository's URL."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


class _TokenAnswer(msgspec.Struct):
    token: str = ""
    access_token: str = ""


class RegistryClient:
    """Fetches the objects of one reference with one set of credentials."""

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        hosts: list[Host],
        rights: Rights,
        trouble: Trouble,
    ) -> None:
        self._transport = transport
        self._reference = reference
        self._hosts = hosts
        self._credentials = rights.credentials
        self._stored = rights.stored
        self._authorization: dict[Host, str] = {}
        self._given_up: dict[Host, Unreachable] = {}
        self._trouble = trouble
        self._lock = asyncio.Lock()

    async def digest_of(self, tag: str) -> str:
        """What the registry says ``tag`` points to now (HEAD); "" if it doesn't say. Raises NodeError."""

        async def ask(host: Host, patience: Patience) -> str:
            accept = {"Accept": documents.ACCEPT}
            async with self._send(Question("HEAD", f"manifests/{tag}", accept), host, patience) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                return digest if is_digest(digest) else ""

        return await self._each_host("resolve", _bounded(ask))

    async def manifest(self, selector: str, expected: Descriptor | None = None) -> Fetched:
        """The manifest or index for a tag or digest, verified. Raises NodeError."""

        async def ask(host: Host, patience: Patience) -> Fetched:
            question = Question("GET", f"manifests/{selector}", {"Accept": documents.ACCEPT})
            async with self._send(question, host, patience) as response:
                data = await read_limited(response, documents.MAX_MANIFEST)
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

        async def ask(host: Host, patience: Patience) -> bytes:
            async with self._send(Question("GET", f"blobs/{descriptor.digest}"), host, patience) as response:
                data = await read_limited(response, min(limit, descriptor.size))
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
        question = Question("GET", f"blobs/{ingest.digest}", headers)
        async with self._send(question, host, patience) as response:
            skip = bytes_to_skip(response, start)
            sink = Sink(ingest, progress)
            try:
                while chunk := await some(response):
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
        fit = [host for host in self._hosts if capability in host.capabilities]
        # Whoever failed for another object of this pull would fail again, after the same wait.
        hosts = [host for host in fit if host not in self._given_up or host is fit[-1]]
        failures: list[tuple[Host, Unreachable | NodeError]]
        failures = [(host, self._given_up[host]) for host in fit if host not in hosts]
        with self._trouble.asking():
            turns = Turns(len(hosts), self._trouble)
            for host in hosts:
                patience = turns.next()
                try:
                    return await _retried(ask, host, patience)
                except (Unreachable, NodeError) as exc:
                    if isinstance(exc, NodeError) and exc.code is Code.INVALID_ARGUMENT:
                        raise
                    failures.append((host, exc))
                    if isinstance(exc, Unreachable) and not _is_final(exc.status):
                        self._given_up[host] = exc
                turns.gave_up(patience)
                if turns.exhausted():
                    break
        raise self._failure(failures)

    def _failure(self, failures: Sequence[tuple[Host, Unreachable | NodeError]]) -> NodeError:
        """One error for all hosts; its code is that of the last, which is the registry itself."""
        if not failures:
            return NodeError(
                Code.FAILED_PRECONDITION,
                f"pull {self._reference}: no host in hosts.toml or registries.conf may serve it",
                reason="ErrImagePull",
            )
        texts = [f"registry {host.authority}: {exc}" for host, exc in failures]
        last = failures[-1][1]
        code = last.code if isinstance(last, NodeError) else _code_of(last.status)
        return NodeError(code, f"pull {self._reference}: {'; '.join(texts)}", reason="ErrImagePull")

    @asynccontextmanager
    async def _send(
        self, question: Question, host: Host, patience: Patience
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response; answers a challenge once. Raises Unreachable."""
        url = f"{host.base}/{self._repository(host)}/{question.path}"
        if host.namespace:
            url += f"?ns={quote(host.namespace, safe='')}"
        configured = {name: ", ".join(values) for name, values in host.headers.items()}
        for last in (False, True):
            used = self._authorization.get(host, "")
            sent = {**configured, **question.headers, **({"Authorization": used} if used else {})}
            request = Request(question.method, url, sent, host.tls)
            async with self._transport.request(request, patience) as response:
                if response.status in (200, 206):
                    yield response
                    return
                if response.status == 401 and not last:
                    challenges = response.headers.getall("WWW-Authenticate", [])
                else:
                    raise await self._refusal(response, host)
            async with self._lock:
                if self._authorization.get(host, "") == used:  # else another request has just renewed it
                    self._authorization.pop(host, None)
                    self._authorization[host] = await self._answer(host, ", ".join(challenges), patience)

    def _repository(self, host: Host) -> str:
        return host.repository or self._reference.path

    async def _refusal(self, response: aiohttp.ClientResponse, host: Host) -> Unreachable:
        text = await error_text(response)
        status = f"{response.status} {response.reason or ''}".strip()
        if response.status in (401, 403) and self._credentials and not self._usable(host):
            text = f"{text} (the credentials are for another server)".strip()
        message = f"status {status}" + (f": {text}" if text else "")
        return Unreachable(message, status=response.status, after=retry_after(response.headers))

    def _usable(self, host: Host) -> Credentials | None:
        return credentials_for(self._credentials, self._reference, host)

    async def _answer(self, host: Host, header: str, patience: Patience) -> str:
        """An Authorization value as ``host`` asks for it, by the request's credentials, else stored ones."""
        credentials = self._usable(host)
        if credentials is None and self._stored is not None:
            credentials = await self._stored(host, self._repository(host))
        challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(header))}
        if "bearer" in challenges:
            if credentials and credentials.registry_token:
                return f"Bearer {credentials.registry_token}"
            token = token_request(challenges["bearer"], host, self._repository(host), credentials)
            if token is None:
                raise Unreachable("status 401 with an unusable token realm", status=401)
            return f"Bearer {await self._token(token, host, patience)}"
        if "basic" in challenges and credentials:
            user, password = credentials.user_password()
            if user:
                return basic(user, password)
        note = " (the credentials are for another server)" if self._credentials and not credentials else ""
        raise Unreachable(f"status 401: needs credentials{note}", status=401)

    async def _token(self, token: TokenRequest, host: Host, patience: Patience) -> str:
        tls = host.tls if _is_on(token.url, host) else Tls()
        note = "; the credentials were not sent there" if token.withheld else ""
        where = f"token service {token.url.partition('?')[0][:200]}"
        request = Request(token.method, token.url, token.headers, tls, token.body)
        try:
            async with self._transport.request(request, patience) as response:
                if response.status != 200:
                    text = await error_text(response)
                    status = 401 if response.status in (400, 401, 403) else response.status
                    after = retry_after(response.headers)
                    message = f"{where}: status {response.status} {text}".strip()
                    raise Unreachable(message + note, status=status, after=after)
                answer = msgspec.json.decode(await read_limited(response, MAX_TOKEN), type=_TokenAnswer)
        except (msgspec.MsgspecError, RecursionError):
            raise Unreachable(f"{where}: malformed answer", status=401) from None
        value = answer.token or answer.access_token
        if not value or not value.isascii() or not value.isprintable():
            raise Unreachable(f"{where}: no usable token", status=401)
        return value


async def _retried(ask: Ask[T], host: Host, patience: Patience) -> T:
    while True:
        began = time.monotonic()
        try:
            return await ask(host, patience)
        except Unreachable as exc:
            if _is_final(exc.status) or not await patience.pause(exc, began):
                raise


def _bounded(ask: Ask[T]) -> Ask[T]:
    """``ask`` for something small, which must be complete within the patience there is."""

    async def attempt(host: Host, patience: Patience) -> T:
        try:
            async with asyncio.timeout(patience.silence(math.inf)):
                return await ask(host, patience)
        except TimeoutError:
            raise Unreachable("no complete answer in time") from None

    return attempt


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

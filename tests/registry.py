"""An OCI distribution registry on loopback that can be told to misbehave.

    with Registry() as registry:
        reference = registry.add("library/busybox:latest", catalog.busybox())
        registry.fail(Fault("*/blobs/*", status=503, times=2))
        … pull reference …
        assert registry.count("GET", "*/blobs/*") == 4

Serves pulls only (OCI distribution specification 1.1, "Pull" and the tag list), with anonymous, basic and
bearer authentication (the Docker registry token specification), over HTTP or HTTPS.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import itertools
import json
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import parse_qs, urlsplit

from tests.images.build import Image, Manifest

CHUNK = 1 << 16


@dataclass
class Fault:
    """What happens to requests whose path matches; of several faults that match, the first is used."""

    path: str
    """fnmatch pattern for the path without its query, such as "*/blobs/sha256:*"."""
    times: int | None = 1
    """Requests it happens to; None: all."""
    method: str = "*"
    status: int = 0
    """Answer with this and no content."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to the answer, or in place of what it would say: Retry-After, a false Docker-Content-Digest …"""
    reset: bool = False
    """Answer with a TCP RST."""
    cut_after: int | None = None
    """Close the connection after that many bytes of content."""
    corrupt: bool = False
    """Flip a bit in the middle of the content."""
    ignore_range: bool = False
    """Answer a ranged request with all of it and 200."""
    delay: float = 0.0
    """Seconds to wait before the answer."""
    bytes_per_second: float = 0.0
    """0: as fast as it goes."""


@dataclass(frozen=True)
class Auth:
    """Who may pull."""

    scheme: str = "none"
    """"none", "basic" or "bearer"."""
    username: str = ""
    """Empty with "bearer": anybody gets a token."""
    password: str = ""
    identity_token: str = ""
    """A refresh token that the token endpoint takes too (POST, OAuth 2)."""
    token_seconds: int = 300


ANYBODY = Auth()


@dataclass(frozen=True)
class Request:
    """A request that was answered."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    status: int
    """0: reset."""


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Registry:
    """The registry and its server thread; a context manager, or `start` and `stop`."""

    def __init__(
        self,
        *,
        auth: Auth = ANYBODY,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        redirect_blobs_to: str = "",
    ) -> None:
        """`redirect_blobs_to`: the `url` of another Registry that blobs are fetched from, as from a CDN."""
        self.auth = auth
        self.redirect_blobs_to = redirect_blobs_to
        self.requests: list[Request] = []
        self._scheme = "https" if tls else "http"
        self._tags: dict[str, dict[str, str]] = {}
        self._manifests: dict[str, dict[str, Manifest]] = {}
        self._blobs: dict[str, bytes] = {}
        self._faults: list[Fault] = []
        self._tokens: dict[str, str] = {}
        self._serial = itertools.count(1)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close every connection."""
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    @property
    def address(self) -> str:
        """HOST:PORT, the registry part of references."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.address}"

    # What it holds.

    def add(self, name: str, image: Image) -> str:
        """Serve `image` as NAME:TAG (tag "latest" if there is none); returns the reference with the host."""
        repository, _, tag = name.partition(":")
        with self._lock:
            self._tags.setdefault(repository, {})[tag or "latest"] = image.digest
            self._manifests.setdefault(repository, {}).update(image.manifests)
            self._blobs.update(image.blobs)
        return f"{self.address}/{repository}:{tag or 'latest'}"

    def replace_blob(self, digest: str, data: bytes) -> None:
        """Serve other bytes under a digest."""
        self._blobs[digest] = data

    def replace_manifest(self, repository: str, digest: str, manifest: Manifest) -> None:
        """Serve another manifest under a digest."""
        self._manifests[repository][digest] = manifest

    # What it does to clients.

    def fail(self, *faults: Fault) -> None:
        with self._lock:
            self._faults.extend(faults)

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def revoke_tokens(self) -> None:
        """Every bearer token given out so far stops working."""
        with self._lock:
            self._tokens.clear()

    # What was asked of it.

    def matching(self, method: str = "*", path: str = "*") -> list[Request]:
        with self._lock:
            return [
                each
                for each in self.requests
                if fnmatch.fnmatchcase(each.method, method) and fnmatch.fnmatchcase(each.path, path)
            ]

    def count(self, method: str = "*", path: str = "*") -> int:
        return len(self.matching(method, path))

    # Serving.

    def record(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if not (fnmatch.fnmatchcase(path, fault.path) and fnmatch.fnmatchcase(method, fault.method)):
                    continue
                if fault.times is None:
                    return fault
                if fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def answer(
        self, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str], form: str
    ) -> Answer:
        if path == "/token":
            return self._token(query, headers, form)
        repository = _repository(path)
        refused = self._challenge(repository, headers)
        if refused is not None:
            return refused
        if path == "/v2/":
            return Answer(200, b"{}", {"Content-Type": "application/json"})
        for pattern, serve in _ROUTES:
            if found := re.fullmatch(pattern, path):
                return cast(Answer, getattr(self, serve)(*found.groups()))
        return _error(404, "UNSUPPORTED")

    def _manifest(self, repository: str, reference: str) -> Answer:
        digest = self._tags.get(repository, {}).get(reference, reference)
        manifest = self._manifests.get(repository, {}).get(digest)
        if manifest is None:
            return _error(404, "MANIFEST_UNKNOWN")
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": digest}
        return Answer(200, manifest.data, headers)

    def _blob(self, repository: str, digest: str) -> Answer:
        if repository not in self._tags or digest not in self._blobs:
            return _error(404, "BLOB_UNKNOWN")
        if self.redirect_blobs_to:
            return Answer(307, b"", {"Location": f"{self.redirect_blobs_to}/cdn/{digest}?signature=1"})
        return self._cdn(digest)

    def _cdn(self, digest: str) -> Answer:
        if digest not in self._blobs:
            return _error(404, "BLOB_UNKNOWN")
        headers = {
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            "Docker-Content-Digest": digest,
        }
        return Answer(200, self._blobs[digest], headers)

    def _tag_list(self, repository: str) -> Answer:
        if repository not in self._tags:
            return _error(404, "NAME_UNKNOWN")
        body = json.dumps({"name": repository, "tags": sorted(self._tags[repository])}).encode()
        return Answer(200, body, {"Content-Type": "application/json"})

    # Authentication.

    def _challenge(self, repository: str, headers: Mapping[str, str]) -> Answer | None:
        """The 401 for a request without the right credentials; None for one with them, and on CDN paths."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if self.auth.scheme == "none" or repository is _CDN:
            return None
        if self.auth.scheme == "basic":
            if scheme.lower() == "basic" and self._is_user(value):
                return None
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="test"'})
        with self._lock:
            granted = self._tokens.get(value) if scheme.lower() == "bearer" else None
        if granted is not None and repository in ("", granted):
            return None
        challenge = f'Bearer realm="{self.url}/token",service="test"'
        if repository:
            challenge += f',scope="repository:{repository}:pull"'
        return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})

    def _token(self, query: Mapping[str, list[str]], headers: Mapping[str, str], form: str) -> Answer:
        fields = {**query, **parse_qs(form)}
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if "refresh_token" in fields:
            welcome = bool(self.auth.identity_token) and fields["refresh_token"] == [self.auth.identity_token]
        else:
            welcome = not self.auth.username or (scheme.lower() == "basic" and self._is_user(value))
        if not welcome:
            return _error(401, "UNAUTHORIZED")
        scope = fields.get("scope", [""])[0].split(":")
        token = f"token-{next(self._serial)}"
        with self._lock:
            self._tokens[token] = scope[1] if len(scope) == 3 else ""
        key = "access_token" if form else "token"
        body = json.dumps({key: token, "expires_in": self.auth.token_seconds}).encode()
        return Answer(200, body, {"Content-Type": "application/json"})

    def _is_user(self, basic: str) -> bool:
        expected = f"{self.auth.username}:{self.auth.password}".encode()
        return basic == base64.b64encode(expected).decode()


_CDN = "\0cdn"
_ROUTES = (
    (r"/v2/(.+)/manifests/([^/]+)", "_manifest"),
    (r"/v2/(.+)/blobs/([^/]+)", "_blob"),
    (r"/v2/(.+)/tags/list", "_tag_list"),
    (r"/cdn/([^/]+)", "_cdn"),
)


def _repository(path: str) -> str:
    """The repository a path is about; empty for none."""
    if path.startswith("/cdn/"):
        return _CDN
    found = re.fullmatch(r"/v2/(.+)/(?:manifests|blobs|tags)/[^/]+", path)
    return found.group(1) if found else ""


def _error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], registry: Registry, tls: ssl.SSLContext | None) -> None:
        self.registry = registry
        self.tls = tls
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:  # the handshake happens at the first read, in the connection's own thread
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away (OSError, TLS alerts included) are part of the tests; the rest are bugs."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: `Registry.requests` is the log."""

    def _serve(self) -> None:
        registry, parts = self.server.registry, urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = parse_qs(parts.query)
        form = self.rfile.read(int(headers.get("content-length", "0"))).decode()
        fault = registry.take_fault(self.command, parts.path) or Fault("")
        time.sleep(fault.delay)
        if fault.reset:
            registry.record(Request(self.command, parts.path, query, headers, 0))
            self._reset()
            return
        if fault.status:
            answer = _error(fault.status, "TOOMANYREQUESTS" if fault.status == 429 else "UNKNOWN")
        else:
            answer = registry.answer(parts.path, query, headers, form)
            _apply_range(answer, "" if fault.ignore_range else headers.get("range", ""))
        answer.headers.update(fault.headers)
        if fault.corrupt and answer.body:
            middle = len(answer.body) // 2
            answer.body = answer.body[:middle] + bytes([answer.body[middle] ^ 1]) + answer.body[middle + 1 :]
        registry.record(Request(self.command, parts.path, query, headers, answer.status))
        self._send(answer, fault)

    def _send(self, answer: Answer, fault: Fault) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = memoryview(answer.body)
        if fault.cut_after is not None:
            body = body[: fault.cut_after]
            self.close_connection = True
        for piece in _pieces(body):
            self.wfile.write(piece)
            if fault.bytes_per_second:
                time.sleep(len(piece) / fault.bytes_per_second)

    def _reset(self) -> None:
        """Close with RST: SO_LINGER on with no time to linger (socket(7))."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _pieces(body: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


def _apply_range(answer: Answer, wanted: str) -> None:
    """Turn a blob's answer into the 206 or 416 that "Range: bytes=A-[B]" asks for (RFC 9110, 14)."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if found is None or answer.status != 200 or "Accept-Ranges" not in answer.headers:
        return
    size = len(answer.body)
    first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
    if first > last:
        answer.status, answer.body = 416, b""
        answer.headers["Content-Range"] = f"bytes */{size}"
        return
    answer.status, answer.body = 206, answer.body[first : last + 1]
    answer.headers["Content-Range"] = f"bytes {first}-{last}/{size}"

"""Sends a request as it is written, and gives the whole answer, or how the connection failed."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.certificates import ClientAuthority
from tests.differential.api.battery import Request

_PATIENCE = 60.0
"""Seconds for an answer."""


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    failure: str = ""
    """How the connection failed; then there is nothing else."""

    def header(self, name: str) -> str:
        """A header's value; empty if it isn't there."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class Credentials:
    """A CA that kubelets trust, and client certificates of several qualities, in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        ours, others = ClientAuthority(folder), ClientAuthority(folder, "strangers")
        self.ca = ours.path
        self._files = {
            "admin": ours.client("admin", ["system:masters"]),
            "expired": ours.client("expired", [], hours=-1),
            "nameless": ours.client("", ["system:masters"]),
            "stranger": others.client("stranger", []),
        }

    def files(self, who: str) -> tuple[Path, Path] | None:
        """Certificate and key; None: that one has none."""
        return self._files.get(who)

    def context(self, who: str) -> ssl.SSLContext:
        """For connections of somebody; any server will do."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if files := self.files(who):
            context.load_cert_chain(*files)
        return context


def send(request: Request, port: int, credentials: Credentials | None) -> Answer:
    """Over TLS if there are credentials. The connection is used once."""
    try:
        with _connected(port, credentials.context(request.who) if credentials else None) as connection:
            connection.putrequest(request.method, request.target, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            if request.body:
                connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            body = b"" if answer.status == 101 else answer.read()
            return Answer(answer.status, answer.getheaders(), body)
    except ssl.SSLError as exc:
        return Answer(failure=f"TLS: {exc.reason}")
    except (http.client.HTTPException, ConnectionError, TimeoutError) as exc:
        return Answer(failure=type(exc).__name__)


@contextlib.contextmanager
def _connected(port: int, context: ssl.SSLContext | None) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    plain = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
    try:
        connection.sock = context.wrap_socket(plain) if context else plain
        yield connection
    finally:
        connection.close()
        plain.close()

"""Who asks: x509 client certificates, bearer tokens, or nobody in particular."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import secrets
import ssl
from dataclasses import dataclass

from aiohttp import web

from minikubelet.base.errors import invalid
from minikubelet.base.files import write_atomic

log = logging.getLogger(__name__)

ANONYMOUS = "system:anonymous"
ADMIN = "minikubelet:admin"
_MAX_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class User:
    """Somebody, as Kubernetes names people: client certificates have CN as name and O as groups."""

    name: str
    groups: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether they have proven who they are."""
        return self.name != ANONYMOUS


def certificate_user(certificate: dict[str, object] | None) -> User | None:
    """The subject of a verified certificate, as :meth:`ssl.SSLSocket.getpeercert` gives it."""
    name, groups = "", []
    subject = certificate.get("subject", ()) if certificate else ()
    assert isinstance(subject, tuple)
    for key, value in (pair for relative in subject for pair in relative):
        if key == "commonName":
            name = value
        elif key == "organizationName":
            groups.append(value)
    return User(name, (*groups, "system:authenticated")) if name and name != ANONYMOUS else None


class Tokens:
    """Bearer tokens: the administrator's own, and those of a file that may change while we run.

    The file has upstream's form (static token file): ``TOKEN,USER,UID,"GROUP,…"``.
    """

    def __init__(self, admin_file: str, file: str = "") -> None:
        self._file = file
        self._admin = {
            _digest(admin_token(admin_file)): User(ADMIN, ("system:masters", "system:authenticated"))
        }
        self._users: dict[bytes, User] = {}
        self._signature: tuple[int, int, int] | None = None
        if file:
            self._refresh(first=True)

    def user(self, token: str) -> User | None:
        """Whose token this is. Only digests are compared, so that time tells nothing of a token."""
        if self._file:
            self._refresh()
        digest = _digest(token)
        return self._admin.get(digest) or self._users.get(digest)

    def _refresh(self, *, first: bool = False) -> None:
        """Read the file if it has changed; a broken one leaves what was known (at start: raises)."""
        try:
            status = os.stat(self._file)
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            if signature == self._signature:
                return
            self._signature = signature
            self._users = read_tokens(self._file)
        except (OSError, ValueError) as exc:
            if first:
                raise invalid("--token-auth-file", f"{self._file}: {exc}") from None
            log.error("%s: %s; the tokens known before are still good", self._file, exc)


def read_tokens(path: str) -> dict[bytes, User]:
    """Users by the digest of their token. Raises OSError, ValueError."""
    found: dict[bytes, User] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not row or not "".join(row).strip():
                continue
            if len(row) < 3 or not row[0].strip() or not row[1].strip():
                raise ValueError(f'line {number}: expected TOKEN,USER,UID,"GROUP,..."')
            digest = _digest(row[0].strip())
            if digest in found:
                raise ValueError(f"line {number}: this token is another user's already")
            if len(found) >= _MAX_TOKENS:
                raise ValueError(f"more than {_MAX_TOKENS} tokens")
            groups = [group.strip() for group in row[3].split(",")] if len(row) > 3 else []
            found[digest] = User(row[1].strip(), (*filter(None, groups), "system:authenticated"))
    return found


def admin_token(path: str) -> str:
    """The token of whoever may read ``path`` (0600), made when there is none. Raises OSError."""
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except FileNotFoundError:
        token = ""
    if len(token) < 32:
        token = secrets.token_hex(32)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, f"{token}\n".encode())
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class Authenticator:
    """All ways together."""

    tokens: Tokens
    anonymous: bool = False

    def user(self, request: web.Request) -> User | None:
        """Who sent a request; None: nobody that is let in. A wrong token is never anonymous."""
        transport = request.transport
        secured = transport.get_extra_info("ssl_object") if transport is not None else None
        if isinstance(secured, ssl.SSLObject | ssl.SSLSocket):
            user = certificate_user(secured.getpeercert())  # type: ignore[arg-type]
            if user is not None:
                return user
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                return None
            return self.tokens.user(token.strip())
        return User(ANONYMOUS, ("system:unauthenticated",)) if self.anonymous else None

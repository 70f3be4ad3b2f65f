"""Image references as people write them, in docker's normal form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from minikubelet.base.errors import NodeError, invalid

DEFAULT_DOMAIN = "docker.io"
MAX_NAME = 255
"""Longest repository name, domain included (distribution's reference grammar)."""

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?\Z")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}\Z"), "sha512": re.compile(r"[0-9a-f]{128}\Z")}
_BARE_ID = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Reference:
    """A repository with a tag or a digest (exactly one of them is set)."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """``docker.io/library/busybox``: what tag and digest are appended to."""
        return f"{self.domain}/{self.path}"

    @property
    def selector(self) -> str:
        """What stands in the manifest URL: the digest, else the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> str:
        """The repository digest ``NAME@DIGEST``."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        return self.with_digest(self.digest) if self.digest else f"{self.name}:{self.tag}"


def parse_reference(text: str) -> Reference:
    """Parse ``text`` as ``docker pull`` would; with a tag *and* a digest the digest alone counts.

    Raises NodeError(INVALID_ARGUMENT) that says which part is wrong. Grammar:
    https://github.com/distribution/reference (reference.go, normalize.go).
    """
    if not text:
        raise _wrong(text, "it is empty")
    if len(text) > 1024:
        raise _wrong(text[:40] + "…", "it is longer than 1024 characters")
    rest, at, digest = text.partition("@")
    if at:
        check_digest(digest, text)
    if _BARE_ID.match(rest):
        raise _wrong(text, "64 hex digits are an image ID, not a repository name")
    domain, path = _split_domain(rest)
    path, colon, tag = path.partition(":")
    if colon and not _TAG.match(tag):
        raise _wrong(text, f"tag {tag!r} must be 1-128 letters, digits, '_', '.', '-', not led by '.' or '-'")
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    _check_name(text, domain, path)
    if digest:
        return Reference(domain, path, digest=digest)
    return Reference(domain, path, tag=tag or "latest")


def check_digest(digest: str, text: str = "") -> None:
    """Raise NodeError(INVALID_ARGUMENT) unless ``digest`` is a whole sha256 or sha512 digest."""
    algorithm, colon, value = digest.partition(":")
    pattern = _DIGESTS.get(algorithm)
    if not colon or pattern is None:
        raise _wrong(text or digest, f"digest {digest[:80]!r} must start with sha256: or sha512:")
    if not pattern.match(value):
        raise _wrong(
            text or digest, f"digest {digest[:140]!r} has not the lower-case hex digits of {algorithm}"
        )


def is_digest(text: str) -> bool:
    """Whether ``text`` is a whole digest of a kind this program can verify."""
    try:
        check_digest(text)
    except NodeError:
        return False
    return True


def has_domain(text: str) -> bool:
    """Whether the first component is a registry: no user of Docker Hub can have such a name."""
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost" or first != first.lower())


def _split_domain(text: str) -> tuple[str, str]:
    if has_domain(text):
        first, _, rest = text.partition("/")
        return (DEFAULT_DOMAIN if first == "index.docker.io" else first), rest
    return DEFAULT_DOMAIN, text


def _check_name(text: str, domain: str, path: str) -> None:
    if not _DOMAIN.match(domain):
        raise _wrong(text, f"registry {domain!r} is not HOST or HOST:PORT")
    port = domain.rpartition(":")[2] if not domain.endswith("]") and ":" in domain else ""
    if port and not 0 < int(port) < 65536:
        raise _wrong(text, f"port {port} of the registry is not between 1 and 65535")
    for component in path.split("/"):
        if not component:
            raise _wrong(text, "a component of the repository name is empty")
        if component != component.lower():
            raise _wrong(text, f"repository name {path!r} must be lower case")
        if not _COMPONENT.match(component):
            raise _wrong(
                text, f"{component!r} in the repository name is not lower-case letters, digits and . _ -"
            )
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _wrong(text, f"the repository name is longer than {MAX_NAME} characters")


def _wrong(text: str, why: str) -> NodeError:
    return invalid("image", f"invalid reference {text!r}: {why}")

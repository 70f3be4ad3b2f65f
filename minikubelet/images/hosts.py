"""Where a registry's content comes from: ``certs.d/HOST/hosts.toml`` in containerd's format, or the registry.

Source: containerd docs/hosts.md. Files are small regular files or they are refused.
"""

from __future__ import annotations

import errno
import os
import ssl
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.reference import DEFAULT_DOMAIN

DOCKER_HUB = "registry-1.docker.io"
MAX_FILE = 1 << 20
ALL = frozenset({"pull", "resolve"})


@dataclass(frozen=True)
class Tls:
    """How the server's certificate is checked and what the client shows."""

    skip_verify: bool = False
    ca: tuple[str, ...] = ()
    """PEM files beside the system's."""
    client: tuple[tuple[str, str], ...] = ()
    """Certificate file and key file; the key's is empty where the certificate's file has it too."""

    def context(self) -> ssl.SSLContext:
        """A context for these settings; reads files. Raises OSError, ssl.SSLError."""
        context = ssl.create_default_context()
        for path in self.ca:
            context.load_verify_locations(cadata=read_small(path).decode("ascii", "replace"))
        for certificate, key in self.client:
            context.load_cert_chain(certificate, key or None)
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True)
class Host:
    """One server to ask."""

    scheme: str
    authority: str
    """HOST or HOST:PORT."""
    path: str = "/v2"
    capabilities: frozenset[str] = ALL
    tls: Tls = Tls()
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    own: bool = True
    """The registry itself (``server`` included), not a mirror: it may get the registry's credentials."""
    namespace: str = ""
    """Sent as ``?ns=``: which registry a mirror shall answer for."""
    repository: str = ""
    """Under which name this host has the reference's repository; empty: its own."""

    @property
    def base(self) -> str:
        """URL before ``/REPOSITORY/manifests/…``."""
        return f"{self.scheme}://{self.authority}{self.path}"


def is_loopback(authority: str) -> bool:
    """Whether a registry is on this machine, so that plain HTTP is its default (as containerd has it)."""
    host = (urlsplit(f"//{authority}").hostname or "").lower()
    return host == "localhost" or host == "::1" or (host.startswith("127.") and host.count(".") == 3)


def registry_host(domain: str) -> Host:
    """The registry of a reference's domain without any configuration."""
    if domain == DEFAULT_DOMAIN:
        return Host("https", DOCKER_HUB)
    return Host("http" if is_loopback(domain) else "https", domain)


def load_hosts(domain: str, certs_dirs: Sequence[str], *, defaults: bool = True) -> list[Host]:
    """The servers for ``domain`` in the order they are to be tried; the registry itself comes last.

    A folder of the domain's own wins over ``_default`` (not looked at without ``defaults``), an earlier
    ``certs_dirs`` entry over a later one. Blocks on files. Raises NodeError(FAILED_PRECONDITION) that names
    the file.
    """
    for folder in folders(domain, certs_dirs, own=not defaults):
        path = f"{folder}/hosts.toml"
        try:
            text = read_small(path).decode()
        except FileNotFoundError:
            tls = _docker_style(folder)
            if tls is None:
                continue
            plain = registry_host(domain)
            return [Host("https", plain.authority, tls=tls)]
        except (OSError, UnicodeDecodeError) as exc:
            raise _wrong(path, str(exc)) from None
        return parse_hosts(text, domain, path)
    return [registry_host(domain)]


def parse_hosts(text: str, domain: str, path: str) -> list[Host]:
    """The servers a hosts.toml names; ``path`` is for messages and for file names relative to it."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise _wrong(path, str(exc)) from None
    tables = document.get("host", {})
    if not isinstance(tables, dict):
        raise _wrong(path, "host must be a table")
    hosts = []
    for url, table in tables.items():
        if not isinstance(table, dict):
            raise _wrong(path, f"host.{url!r} must be a table")
        hosts.append(_host(url, table, domain, path, own=False))
    server = _typed(document, "server", str, "", path)
    if server:
        hosts.append(_host(server, document, domain, path, own=True))
    elif not tables or registry_host(domain).authority not in [host.authority for host in hosts]:
        hosts.append(registry_host(domain))
    return hosts


def folders(domain: str, certs_dirs: Sequence[str], *, own: bool = False) -> Iterator[str]:
    """The folders that are there for ``domain``, the most important first; ``_default`` unless ``own``."""
    host, colon, port = domain.rpartition(":")
    names = [domain]
    if colon and port.isdigit():
        names = [f"{host}_{port}_", domain]
    for group in (names, [] if own else ["_default"]):
        for folder in certs_dirs:
            for name in group:
                if os.path.isdir(f"{folder}/{name}"):
                    yield f"{folder}/{name}"


def _host(url: str, table: Mapping[str, Any], domain: str, path: str, *, own: bool) -> Host:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
        raise _wrong(path, f"{url!r} is not http(s)://HOST[:PORT][/PATH]")
    authority = DOCKER_HUB if parts.netloc == DEFAULT_DOMAIN else parts.netloc
    api = parts.path.rstrip("/")
    if not _typed(table, "override_path", bool, False, path) and not api.endswith("/v2"):
        api += "/v2"
    known = registry_host(domain)
    own = own or (authority == known.authority and parts.scheme == known.scheme)
    capabilities = frozenset(_strings(table.get("capabilities", sorted(ALL)), "capabilities", path)) & ALL
    tls = Tls(
        _typed(table, "skip_verify", bool, False, path),
        tuple(_file(name, path) for name in _strings(table.get("ca", []), "ca", path)),
        _client_pairs(table.get("client", []), path),
    )
    headers = _headers(_typed(table, "header", dict, {}, path), path)
    return Host(parts.scheme, authority, api, capabilities, tls, headers, own, "" if own else domain)


def _headers(table: Mapping[str, Any], path: str) -> dict[str, tuple[str, ...]]:
    headers = {}
    for name, value in table.items():
        values = _strings(value, f"header.{name}", path)
        if any(bad in text for text in (name, *values) for bad in "\r\n\0"):
            raise _wrong(path, f"header {name!r} has a line break")
        headers[name] = tuple(values)
    return headers


def _client_pairs(value: Any, path: str) -> tuple[tuple[str, str], ...]:
    """``"both.pem"``, ``["both.pem", …]`` or ``[["cert.pem", "key.pem"], …]``."""
    items = [value] if isinstance(value, str) else value
    pairs = []
    for item in items if isinstance(items, list) else [None]:
        pair = [item] if isinstance(item, str) else item
        if not isinstance(pair, list) or not 1 <= len(pair) <= 2 or not all(isinstance(p, str) for p in pair):
            raise _wrong(
                path, "client must be a file, a list of files, or a list of [certificate, key] pairs"
            )
        pairs.append((_file(pair[0], path), _file(pair[1], path) if len(pair) == 2 and pair[1] else ""))
    return tuple(pairs)


def _strings(value: Any, key: str, path: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise _wrong(path, f"{key} must be a string or a list of strings")
    return values


def _typed(table: Mapping[str, Any], key: str, kind: type, default: Any, path: str) -> Any:
    value = table.get(key, default)
    if not isinstance(value, kind):
        raise _wrong(path, f"{key} must be a {kind.__name__}")
    return value


def _file(name: str, path: str) -> str:
    return os.path.join(os.path.dirname(path), name)


def _docker_style(folder: str) -> Tls | None:
    """Without hosts.toml: ``*.crt`` are CAs, ``*.cert`` with ``*.key`` client pairs (docker's certs.d)."""
    names = sorted(os.listdir(folder))
    ca = tuple(f"{folder}/{name}" for name in names if name.endswith(".crt"))
    client = tuple(
        (f"{folder}/{name}", f"{folder}/{name[:-5]}.key")
        for name in names
        if name.endswith(".cert") and f"{name[:-5]}.key" in names
    )
    return Tls(ca=ca, client=client) if ca or client else None


def read_small(path: str) -> bytes:
    """Content of a regular file of at most 1 MiB; never hangs on a FIFO or device. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        data = b""
        while part := os.read(fd, MAX_FILE + 1 - len(data)):
            data += part
            if len(data) > MAX_FILE:
                raise OSError(errno.EFBIG, f"is larger than {MAX_FILE} bytes", path)
        return data
    finally:
        os.close(fd)


def _wrong(path: str, why: str) -> NodeError:
    return NodeError(Code.FAILED_PRECONDITION, f"{path}: {why}", reason="RegistryConfiguration")

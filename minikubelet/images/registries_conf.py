"""containers' ``registries.conf``: where registries' content is to be had, what is blocked, short names.

Source: containers-registries.conf(5), version 2, with ``registries.conf.d`` beside it. A file of the old
version or with a key that means nothing is an error: what it was to forbid or redirect would happen.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.hosts import read_small
from minikubelet.images.reference import Reference, has_domain

_TOP = {"unqualified-search-registries", "registry", "aliases", "short-name-mode", "credential-helpers"}
_TOP_IGNORED = {"additional-layer-store-auth-helper"}
_REGISTRY = {"prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only"}
_MIRROR = {"location", "insecure", "pull-from-mirror"}
_WHICH = ("all", "digest-only", "tag-only")


@dataclass(frozen=True)
class Endpoint:
    """Where a repository may be had."""

    location: str
    """Takes the prefix's place in the reference's name."""
    insecure: bool = False
    """Certificates are not checked, and plain HTTP will do."""
    pulls: str = "all"
    """``digest-only`` and ``tag-only``: for references of that kind alone."""

    def serves(self, reference: Reference) -> bool:
        """Whether it may be asked for ``reference``."""
        return self.pulls == "all" or (self.pulls == "digest-only") == bool(reference.digest)


@dataclass(frozen=True)
class RegistryEntry:
    """One ``[[registry]]``."""

    prefix: str
    origin: Endpoint
    mirrors: tuple[Endpoint, ...] = ()
    blocked: bool = False
    where: str = ""
    """File and key, for messages."""

    def matched(self, reference: Reference) -> str:
        """The part of the reference's name that the prefix stands for; "" if it doesn't match."""
        if self.prefix.startswith("*."):
            return reference.domain if reference.domain.endswith(self.prefix[1:]) else ""
        rest = reference.name.removeprefix(self.prefix)
        return self.prefix if rest != reference.name and (not rest or rest[0] == "/") else ""

    def rewritten(self, endpoint: Endpoint, reference: Reference) -> tuple[str, str]:
        """Registry and repository of ``reference`` at ``endpoint``. Raises NodeError(FAILED_PRECONDITION)."""
        name = endpoint.location + reference.name[len(self.matched(reference)) :]
        domain, _, path = name.partition("/")
        if not path:
            raise _wrong(self.where, f"location {endpoint.location!r} has no repository for {reference.name}")
        return domain, path


@dataclass(frozen=True)
class RegistriesConf:
    """The files, put together."""

    search: tuple[str, ...] = ()
    """Registries to look for short names in; empty: Docker Hub."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    registries: tuple[RegistryEntry, ...] = ()

    def entry(self, reference: Reference) -> RegistryEntry | None:
        """The entry with the longest prefix that matches."""
        fitting = [entry for entry in self.registries if entry.matched(reference)]
        return (
            max(fitting, key=lambda entry: (len(entry.prefix), not entry.prefix.startswith("*")))
            if fitting
            else None
        )

    def candidates(self, text: str) -> list[str]:
        """The references that ``text`` may stand for, in the order to try them."""
        if has_domain(text):
            return [text]
        name, suffix = _split(text)
        if alias := self.aliases.get(name):
            return [alias + suffix]
        return [f"{registry}/{text}" for registry in self.search] or [text]


def load(path: str) -> RegistriesConf:
    """``path`` and ``path.d/*.conf`` in their order; what is not there says nothing. Blocks on files.

    Raises NodeError(FAILED_PRECONDITION) that names file and key.
    """
    conf = RegistriesConf()
    folder = f"{path}.d"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for file in (path, *(f"{folder}/{name}" for name in names if name.endswith(".conf"))):
        try:
            text = read_small(file).decode()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as exc:
            raise _wrong(file, str(exc)) from None
        conf = merged(conf, parse(text, file))
    return conf


def merged(lower: RegistriesConf, upper: RegistriesConf) -> RegistriesConf:
    """A later file over an earlier one: its search list, its aliases ("" takes one away), its prefixes."""
    entries = {entry.prefix: entry for entry in (*lower.registries, *upper.registries)}
    aliases = {**lower.aliases, **upper.aliases}
    return RegistriesConf(upper.search or lower.search, aliases, tuple(entries.values()))


def parse(text: str, path: str) -> RegistriesConf:
    """One file; ``path`` is for messages. Raises NodeError(FAILED_PRECONDITION)."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise _wrong(path, str(exc)) from None
    if "registries" in document:
        raise _wrong(path, "registries: this is version 1 of the format; version 2 has [[registry]]")
    _known(document, _TOP | _TOP_IGNORED, path)
    helpers = _strings(document, "credential-helpers", path)
    if any(helper != "containers-auth.json" for helper in helpers):
        raise _wrong(
            path, "credential-helpers: not supported; name them in the registryAuthFile (credHelpers)"
        )
    key = "unqualified-search-registries"
    search = tuple(_location(each, f"{path}: {key}", host=True) for each in _strings(document, key, path))
    aliases = _typed(document, "aliases", dict, {}, path)
    for name, value in aliases.items():
        if not isinstance(value, str) or (value and not has_domain(value)):
            raise _wrong(path, f"aliases.{name!r}: must be a name with its registry, not {value!r}")
    tables = _typed(document, "registry", list, [], path)
    entries = tuple(_entry(table, f"{path}: registry[{number}]") for number, table in enumerate(tables))
    return RegistriesConf(search, aliases, entries)


def _entry(table: Any, where: str) -> RegistryEntry:
    if not isinstance(table, dict):
        raise _wrong(where, "must be a table")
    _known(table, _REGISTRY, where)
    location = _typed(table, "location", str, "", where)
    prefix = _typed(table, "prefix", str, "", where) or location
    if not prefix:
        raise _wrong(where, "has neither prefix nor location")
    prefix = _prefix(prefix, f"{where}.prefix")
    by_digest = _typed(table, "mirror-by-digest-only", bool, False, where)
    tables = _typed(table, "mirror", list, [], where)
    mirrors = [_mirror(each, f"{where}.mirror[{n}]", by_digest) for n, each in enumerate(tables)]
    insecure = _typed(table, "insecure", bool, False, where)
    # Without a location the name stays as it is; for a wildcard there is nothing else it could become.
    origin = Endpoint(_location(location, f"{where}.location") if location else "", insecure)
    return RegistryEntry(prefix, origin, tuple(mirrors), _typed(table, "blocked", bool, False, where), where)


def _mirror(table: Any, where: str, by_digest: bool) -> Endpoint:
    if not isinstance(table, dict):
        raise _wrong(where, "must be a table")
    _known(table, _MIRROR, where)
    location = _location(_typed(table, "location", str, "", where), f"{where}.location")
    pulls = _typed(table, "pull-from-mirror", str, "", where)
    if pulls and pulls not in _WHICH:
        raise _wrong(where, f"pull-from-mirror: {pulls!r} is not one of {', '.join(_WHICH)}")
    if pulls and by_digest:
        raise _wrong(where, "pull-from-mirror: and the registry's mirror-by-digest-only exclude each other")
    return Endpoint(
        location,
        _typed(table, "insecure", bool, False, where),
        pulls or ("digest-only" if by_digest else "all"),
    )


def _prefix(text: str, where: str) -> str:
    host, _, path = text.rstrip("/").partition("/")
    if "*" in text and (not text.startswith("*.") or path or "*" in text[1:] or ":" in host):
        raise _wrong(where, f"{text!r}: a wildcard can only be the beginning of a host, as in *.example.com")
    if "@" in text or ":" in path or "://" in text or not host:
        raise _wrong(
            where, f"{text!r} is not HOST[:PORT][/PATH]; tags, digests and schemes have no meaning here"
        )
    return text.rstrip("/")


def _location(text: str, where: str, *, host: bool = False) -> str:
    if not text or "://" in text or any(bad in text for bad in "*@? \t\r\n") or (host and "/" in text):
        raise _wrong(where, f"{text!r} is not HOST[:PORT]{'' if host else '[/PATH]'}")
    return text.rstrip("/")


def _split(text: str) -> tuple[str, str]:
    """A short name, and its tag or digest."""
    ends = [position for mark in ":@" if (position := text.find(mark)) >= 0]
    cut = min(ends, default=len(text))
    return text[:cut], text[cut:]


def _known(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise _wrong(where, f"{key}: unknown key")


def _strings(table: Mapping[str, Any], key: str, where: str) -> list[str]:
    values = _typed(table, key, list, [], where)
    if not all(isinstance(value, str) for value in values):
        raise _wrong(where, f"{key}: must be a list of strings")
    return list(values)


def _typed(table: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
    value = table.get(key, default)
    if not isinstance(value, kind):
        raise _wrong(where, f"{key}: must be a {kind.__name__}, not {type(value).__name__}")
    return value


def _wrong(where: str, why: str) -> NodeError:
    return NodeError(Code.FAILED_PRECONDITION, f"{where}: {why}", reason="RegistryConfiguration")

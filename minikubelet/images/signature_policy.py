"""containers' ``policy.json``: which images must be signed, by whose key, and under which name.

Source: containers-policy.json(5), the ``docker`` transport. What it can ask for and this program can't check
(simple signing with GPG, Fulcio, a PKI, entries in Rekor) is kept as such: images that it applies to are
refused. As there, an unknown or doubled key is an error of the whole file: what it was to forbid would
happen.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.hosts import read_small
from minikubelet.images.reference import Reference, parse_reference

_KEY_SOURCES = ("keyPath", "keyPaths", "keyData", "keyDatas")
_CERTIFICATES = ("fulcio", "pki")
_REKOR = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
_FIELDS = {
    "insecureAcceptAnything": {"type"},
    "reject": {"type"},
    "signedBy": {"type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"},
    "sigstoreSigned": {"type", *_KEY_SOURCES, *_CERTIFICATES, *_REKOR, "signedIdentity"},
}
_IDENTITY_FIELDS = {
    "matchExact": (),
    "matchRepoDigestOrExact": (),
    "matchRepository": (),
    "exactReference": ("dockerReference",),
    "exactRepository": ("dockerRepository",),
    "remapIdentity": ("prefix", "signedPrefix"),
}


@dataclass(frozen=True)
class Identity:
    """What a signature may say that the image is called."""

    kind: str = "matchRepoDigestOrExact"
    values: tuple[str, ...] = ()

    def accepts(self, reference: Reference, signed: str) -> bool:
        """Whether a signature under the name ``signed`` is one for ``reference``."""
        try:
            claimed = parse_reference(signed)
        except NodeError:
            return False
        bare = is_bare(signed)
        if self.kind == "matchRepository":
            return claimed.name == reference.name
        if self.kind == "exactRepository":
            return claimed.name == parse_reference(self.values[0]).name
        if bare:  # the others want a tag or digest, and no default one
            return False
        if self.kind == "exactReference":
            return str(claimed) == str(parse_reference(self.values[0]))
        if self.kind == "remapIdentity":
            reference = self._remapped(reference)
        if reference.digest and self.kind != "matchExact":
            return claimed.name == reference.name
        return str(claimed) == str(reference)

    def _remapped(self, reference: Reference) -> Reference:
        prefix, signed = self.values
        rest = reference.name.removeprefix(prefix)
        if rest == reference.name or (rest and rest[0] != "/"):
            return reference
        return parse_reference(signed + rest + str(reference).removeprefix(reference.name))


@dataclass(frozen=True)
class Requirement:
    """One object of a policy's list."""

    kind: str
    where: str
    """File and key, for messages."""
    key_paths: tuple[str, ...] = ()
    key_data: tuple[bytes, ...] = ()
    identity: Identity = Identity()
    unsupported: str = ""
    """What of it can't be checked here."""


@dataclass(frozen=True)
class SignaturePolicy:
    """The file's requirements by scope."""

    default: tuple[Requirement, ...] = ()
    """Empty where there is no file: everything is accepted."""
    scopes: Mapping[str, tuple[Requirement, ...]] = field(default_factory=dict)

    def requirements(self, reference: Reference) -> tuple[Requirement, ...]:
        """Those of the most specific scope; all of them must be met."""
        for scope in scopes_of(reference):
            if scope in self.scopes:
                return self.scopes[scope]
        return self.default


def scopes_of(reference: Reference) -> Iterator[str]:
    """The scopes that hold a reference, the most specific first; "" is the transport's own."""
    yield str(reference)
    name = reference.name
    while True:
        yield name
        name, slash, _ = name.rpartition("/")
        if not slash:
            break
    domain = reference.domain.partition(":")[0]
    while "." in domain:
        domain = domain.partition(".")[2]
        yield f"*.{domain}"
    yield ""


def is_bare(text: str) -> bool:
    """Whether a reference has neither tag nor digest."""
    return "@" not in text and ":" not in text.rpartition("/")[2]


def load(path: str, *, required: bool) -> SignaturePolicy:
    """Read the file; without one, all is accepted unless it is ``required``. Blocks on files.

    Raises NodeError(FAILED_PRECONDITION) that names file and key.
    """
    try:
        text = read_small(path).decode()
    except FileNotFoundError:
        if not required:
            return SignaturePolicy()
        raise _wrong(path, "the signature policy does not exist") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise _wrong(path, str(exc)) from None
    return parse(text, path)


def parse(text: str, path: str) -> SignaturePolicy:
    """One file; ``path`` is for messages. Raises NodeError(FAILED_PRECONDITION)."""
    try:
        document = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as exc:
        raise _wrong(path, str(exc)) from None
    table = _object(document, {"default", "transports"}, path)
    if "default" not in table:
        raise _wrong(path, "default: is missing")
    default = _requirements(table["default"], f"{path}: default")
    transports = _object(table.get("transports", {}), None, f"{path}: transports")
    scopes: dict[str, tuple[Requirement, ...]] = {}
    for name, value in transports.items():
        where = f"{path}: transports.{name}"
        for scope, listed in _object(value, None, where).items():
            requirements = _requirements(listed, f"{where}.{scope!r}")
            if name == "docker":
                scopes[scope] = requirements
    return SignaturePolicy(default, scopes)


def _without_doubles(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands there twice")
        found[key] = value
    return found


def _requirements(listed: Any, where: str) -> tuple[Requirement, ...]:
    if not isinstance(listed, list) or not listed:
        raise _wrong(where, "must be a list of at least one requirement")
    return tuple(_requirement(each, f"{where}[{number}]") for number, each in enumerate(listed))


def _requirement(value: Any, where: str) -> Requirement:
    table = _object(value, None, where)
    kind = table.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise _wrong(where, f"type: {kind!r} is not one of {', '.join(_FIELDS)}")
    _object(table, _FIELDS[kind], where)
    if kind in ("insecureAcceptAnything", "reject"):
        return Requirement(kind, where)
    identity = (
        _identity(table["signedIdentity"], f"{where}.signedIdentity")
        if "signedIdentity" in table
        else Identity()
    )
    if kind == "signedBy":
        return Requirement(
            kind, where, identity=identity, unsupported="simple signing with GPG keys (signedBy)"
        )
    given = [key for key in (*_KEY_SOURCES, *_CERTIFICATES) if key in table]
    if len(given) != 1:
        raise _wrong(where, f"exactly one of {', '.join((*_KEY_SOURCES, *_CERTIFICATES))} must be there")
    beyond = [key for key in (*_CERTIFICATES, *_REKOR) if key in table]
    if beyond:
        return Requirement(kind, where, identity=identity, unsupported=" and ".join(beyond))
    paths, data = _keys(table[given[0]], given[0], f"{where}.{given[0]}")
    return Requirement(kind, where, paths, data, identity)


def _keys(value: Any, key: str, where: str) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """Files of keys, or keys."""
    several = key.endswith("s")
    listed = value if several else [value]
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(each, str) and each for each in listed)
    ):
        raise _wrong(where, f"must be {'a list of strings, at least one' if several else 'a string'}")
    if key.startswith("keyPath"):
        return tuple(listed), ()
    try:
        return (), tuple(base64.b64decode(each, validate=True) for each in listed)
    except binascii.Error as exc:
        raise _wrong(where, f"is no base64: {exc}") from None


def _identity(value: Any, where: str) -> Identity:
    table = _object(value, None, where)
    kind = table.get("type")
    if not isinstance(kind, str) or kind not in _IDENTITY_FIELDS:
        raise _wrong(where, f"type: {kind!r} is not one of {', '.join(_IDENTITY_FIELDS)}")
    names = _IDENTITY_FIELDS[kind]
    _object(table, {"type", *names}, where)
    for name in names:
        text = table.get(name)
        if not isinstance(text, str) or not text:
            raise _wrong(where, f"{name}: must be a string")
        _check_name(kind, text, f"{where}.{name}")
    return Identity(kind, tuple(table[name] for name in names))


def _check_name(kind: str, text: str, where: str) -> None:
    if kind == "remapIdentity":
        host, _, path = text.partition("/")
        if not host or "@" in text or ":" in path or text.endswith("/"):
            raise _wrong(where, f"{text!r} is not HOST[:PORT][/PATH]")
        return
    try:
        parse_reference(text)
    except NodeError as exc:
        raise _wrong(where, exc.message) from None
    if is_bare(text) != (kind == "exactRepository"):
        wanted = "a repository, without tag or digest" if kind == "exactRepository" else "a tag or a digest"
        raise _wrong(where, f"{text!r}: {wanted} is needed")


def _object(value: Any, keys: set[str] | None, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "must be an object")
    for key in value:
        if keys is not None and key not in keys:
            raise _wrong(where, f"{key}: unknown key")
    return value


def _wrong(where: str, why: str) -> NodeError:
    return NodeError(Code.FAILED_PRECONDITION, f"{where}: {why}", reason="SignaturePolicy")

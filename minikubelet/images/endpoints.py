"""Which servers are asked for a reference: ``hosts.toml`` and ``registries.conf`` put together.

1. What ``registries.conf`` blocks is blocked.
2. A ``hosts.toml`` for this very registry says where its content comes from: it was written for this kind of
   program.
3. Else the ``[[registry]]`` with the longest prefix: its mirrors in their order, then its location.
4. Else ``_default/hosts.toml``, else the registry itself.

Certificates for a server of ``registries.conf`` are those that the folders of ``hosts.toml`` have for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import registries_conf, signature_policy
from minikubelet.images.hosts import Host, Tls, folders, is_loopback, load_hosts, registry_host
from minikubelet.images.reference import Reference
from minikubelet.images.registries_conf import Endpoint, RegistriesConf, RegistryEntry
from minikubelet.images.signature_policy import SignaturePolicy


@dataclass(frozen=True)
class Sources:
    """The files that say where content comes from, and by whose rights."""

    certs_dirs: Sequence[str] = ()
    """Folders of ``HOST/hosts.toml``; the first that has the host wins."""
    registries_conf: str = ""
    """containers' registries.conf; it need not exist."""
    auth_file: str = ""
    """Credentials for registries; "" for none."""
    signature_policy: str = ""
    """containers' policy.json; "" for none."""
    signature_policy_required: bool = False
    """Whether nothing may be pulled without that file."""

    def read_registries_conf(self) -> RegistriesConf:
        """As :func:`registries_conf.load`."""
        return registries_conf.load(self.registries_conf) if self.registries_conf else RegistriesConf()

    def read_signature_policy(self) -> SignaturePolicy:
        """As :func:`signature_policy.load`."""
        if not self.signature_policy:
            return SignaturePolicy()
        return signature_policy.load(self.signature_policy, required=self.signature_policy_required)


def hosts_for(reference: Reference, certs_dirs: Sequence[str], conf: RegistriesConf) -> list[Host]:
    """The servers for ``reference`` in the order they are to be tried. Blocks on files.

    Raises NodeError: PERMISSION_DENIED for what is blocked, FAILED_PRECONDITION that names file and key.
    """
    entry = conf.entry(reference)
    if entry is not None and entry.blocked:
        raise NodeError(
            Code.PERMISSION_DENIED,
            f"pull {reference}: registry {entry.prefix} is blocked by {entry.where}.blocked",
            reason="RegistryBlocked",
        )
    if entry is None or _has_hosts_toml(reference.domain, certs_dirs):
        return load_hosts(reference.domain, certs_dirs)
    mirrors = [mirror for mirror in entry.mirrors if mirror.serves(reference)]
    if not mirrors and entry.origin == Endpoint(""):
        return load_hosts(reference.domain, certs_dirs)
    return [
        host
        for endpoint in (*mirrors, entry.origin)
        for host in _servers(entry, endpoint, reference, certs_dirs)
    ]


def _has_hosts_toml(domain: str, certs_dirs: Sequence[str]) -> bool:
    return any(os.path.lexists(f"{folder}/hosts.toml") for folder in folders(domain, certs_dirs, own=True))


def _servers(
    entry: RegistryEntry, endpoint: Endpoint, reference: Reference, certs_dirs: Sequence[str]
) -> Iterator[Host]:
    if endpoint.location:
        domain, path = entry.rewritten(endpoint, reference)
    else:
        domain, path = reference.domain, reference.path
    plain = registry_host(domain)
    host = replace(
        plain,
        tls=_tls(domain, certs_dirs),
        own=domain == reference.domain,
        repository=path if path != reference.path else "",
    )
    if not endpoint.insecure:
        yield host
        return
    secure = replace(host, scheme="https", tls=replace(host.tls, skip_verify=True))
    bare = replace(host, scheme="http", tls=Tls())
    yield from (bare, secure) if is_loopback(domain) else (secure, bare)


def _tls(domain: str, certs_dirs: Sequence[str]) -> Tls:
    authority = registry_host(domain).authority
    known = [host for host in load_hosts(domain, certs_dirs, defaults=False) if host.authority == authority]
    return known[-1].tls if known else Tls()

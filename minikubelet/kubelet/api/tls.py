"""The TLS side of the API: certificates given or made, reloaded when their files change."""

from __future__ import annotations

import logging
import os
import ssl

from minikubelet.base import clock
from minikubelet.base.errors import NodeError, invalid
from minikubelet.kubelet.api import selfsigned
from minikubelet.kubelet.server_config import ServerConfig

log = logging.getLogger(__name__)

_LOOK_AGAIN = 10.0
"""Seconds between two looks at the files."""


class Certificates:
    """The context of new connections."""

    def __init__(self, config: ServerConfig, folder: str, name: str, addresses: list[str]) -> None:
        """``folder`` is where a certificate of one's own is kept. Blocks; raises NodeError."""
        self._config = config
        self.certificate, self.key = config.tls_cert_file, config.tls_private_key_file
        if not self.certificate:
            folder = config.cert_dir or folder
            self.certificate, self.key = (os.path.join(folder, f"kubelet.{end}") for end in ("crt", "key"))
            if not (os.path.exists(self.certificate) and os.path.exists(self.key)):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                selfsigned.make(self.certificate, self.key, name, [*addresses, "127.0.0.1", "::1"])
        self._signature = self._look()
        self._looked = clock.monotonic()
        self._context = self._make()

    def context(self) -> ssl.SSLContext:
        """The current one; files that have changed are read again, broken ones reported once."""
        now = clock.monotonic()
        if now - self._looked >= _LOOK_AGAIN:
            self._looked = now
            signature = self._look()
            if signature != self._signature:
                self._signature = signature
                try:
                    self._context = self._make()
                    log.info("the serving certificate and client CAs were read again")
                except NodeError as exc:
                    log.error("%s; what was read before is still used", exc)
        return self._context

    def _look(self) -> list[tuple[int, int]]:
        found = []
        for path in (self.certificate, self.key, self._config.client_ca_file):
            try:
                status = os.stat(path)
                found.append((status.st_mtime_ns, status.st_ino))
            except OSError:
                found.append((0, 0))
        return found

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        newest = self._config.tls_min_version == "VersionTLS13"
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest else ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as exc:
            raise invalid("tlsCertFile", f"{self.certificate}, {self.key}: {exc}") from None
        if self._config.tls_cipher_suites:
            context.set_ciphers(":".join(_ciphers(self._config.tls_cipher_suites)))
        if self._config.client_ca_file:
            try:
                context.load_verify_locations(self._config.client_ca_file)
            except (OSError, ssl.SSLError) as exc:
                path = self._config.client_ca_file
                raise invalid("authentication.x509.clientCAFile", f"{path}: {exc}") from None
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def _ciphers(names: list[str]) -> list[str]:
    """Suites of TLS 1.2 as OpenSSL names them; those of 1.3 can't be chosen. Raises NodeError."""
    found = []
    for name in names:
        if name.startswith(("TLS_AES_", "TLS_CHACHA20_")):
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(_openssl_name(name))
        except ssl.SSLError:
            raise invalid("tlsCipherSuites", f"{name!r} is not a cipher suite that can be had here") from None
        found.append(_openssl_name(name))
    if not found:
        raise invalid("tlsCipherSuites", "holds no cipher suite of TLS 1.2")
    return found


def _openssl_name(name: str) -> str:
    """``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`` as OpenSSL says it: ``ECDHE-RSA-AES128-GCM-SHA256``."""
    if not name.startswith("TLS_"):
        return name
    rest = name.removeprefix("TLS_").replace("_WITH_", "_").replace("AES_", "AES").replace("_CBC_", "_")
    rest = rest.removeprefix("RSA_").replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305")
    return rest.replace("_", "-")

"""Certificate authorities for tests, server certificates for loopback, and client certificates."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Authority:
    """A CA whose certificate is at `path`, with one server certificate for 127.0.0.1, ::1 and localhost."""

    path: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class ClientAuthority:
    """A CA that makes client certificates, valid for hours."""

    def __init__(self, folder: Path, name: str = "clients") -> None:
        self.folder = folder
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / f"{name}-ca.pem"
        self.path.write_bytes(self._make(name, [], self._key, authority=True, hours=1))

    def client(self, name: str, groups: list[str], hours: int = 1) -> tuple[Path, Path]:
        """Certificate and key; with negative ``hours`` expired, without ``name`` only groups are in it."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = name or "nameless"
        certificate, private = self.folder / f"{file}.pem", self.folder / f"{file}-key.pem"
        certificate.write_bytes(self._make(name, groups, key, authority=False, hours=hours))
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return certificate, private

    def _make(
        self, name: str, groups: list[str], key: ec.EllipticCurvePrivateKey, *, authority: bool, hours: int
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
        names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(names))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=5))
            .not_valid_after(now + datetime.timedelta(hours=hours))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(usage, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_authority(directory: Path) -> Authority:
    """Write ca.pem, server.pem and server-key.pem into `directory`; valid for a day."""
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _certificate("test CA", ca_key, "test CA", ca_key, authority=True)
    server = _certificate("127.0.0.1", server_key, "test CA", ca_key, authority=False)
    made = Authority(directory / "ca.pem", directory / "server.pem", directory / "server-key.pem")
    made.path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1")]
        builder = builder.add_extension(
            x509.SubjectAlternativeName([*addresses, x509.DNSName("localhost")]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())

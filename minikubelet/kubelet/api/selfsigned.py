"""A self-signed serving certificate, made by a process of its own: ``CERT KEY NAME ADDRESS…``.

`cryptography` weighs more than the rest of the kubelet, and this is needed once in a node's life.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from minikubelet.base.errors import Code, NodeError
from minikubelet.base.files import write_atomic

_VALID_DAYS = 3650
_PATIENCE = 600.0
"""Seconds. A machine that is just booting may be short of processors, or entropy; no pod waits for this."""
_PACKAGE_PARENT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from minikubelet.kubelet.api import selfsigned; selfsigned.write(*sys.argv[2:])"
)


def make(certificate: str, key: str, name: str, addresses: Sequence[str]) -> None:
    """Write both files, the key (0600) first. Blocks; raises NodeError."""
    command = [sys.executable, "-I", "-c", _BOOT, _PACKAGE_PARENT, certificate, key, name, *addresses]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NodeError(Code.INTERNAL, f"the serving certificate can't be made: {exc}") from exc
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise NodeError(Code.INTERNAL, f"the serving certificate can't be made: {reason}")


def write(certificate: str, key: str, name: str, *addresses: str) -> None:
    """What the process does. A P-256 key; the node's name and addresses as subjectAltNames."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name}@minikubelet"[:64])])
    names: list[x509.GeneralName] = [
        x509.DNSName(each) for each in dict.fromkeys([name, "localhost"]) if each
    ]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in dict.fromkeys(addresses)]
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(private, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_atomic(key, private.private_bytes(pem, pkcs8, plain))
    write_atomic(certificate, made.public_bytes(pem), mode=0o644)

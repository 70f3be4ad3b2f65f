"""Host ports: who has which, in SQLite, and the nftables maps that follow the table."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from minikubelet.base.database import Database
from minikubelet.base.errors import invalid, precondition, unimplemented
from minikubelet.base.ids import short
from minikubelet.network.rules import PROTOCOLS, HostPort

_ANY = ("", "::")
ANY_IPV4 = "0.0.0.0"


@dataclass(frozen=True)
class PortMapping:
    """A host port that a pod asks for. ``host_port`` 0 asks for none (CRI PortMapping)."""

    protocol: str
    """``tcp``, ``udp`` or ``sctp``, in any case."""
    container_port: int
    host_port: int
    host_ip: str = ""
    """Address of the host; empty or :: for all, 0.0.0.0 for all of IPv4."""


def _normal(mapping: PortMapping, field: str) -> PortMapping:
    protocol = mapping.protocol.lower()
    if protocol not in PROTOCOLS:
        raise invalid(f"{field}.protocol", f"{mapping.protocol!r} is none of {', '.join(PROTOCOLS)}")
    for name, port in (("host_port", mapping.host_port), ("container_port", mapping.container_port)):
        if not 0 < port < 65536:
            raise invalid(f"{field}.{name}", f"{port} is no port (1-65535)")
    host_ip = "" if mapping.host_ip in _ANY else mapping.host_ip
    if host_ip:
        try:
            address = ipaddress.ip_address(host_ip)
        except ValueError as exc:
            raise invalid(f"{field}.host_ip", str(exc)) from exc
        if address.version == 6 and "%" in host_ip:
            raise invalid(f"{field}.host_ip", f"{host_ip} has a scope: a link-local address can't be used")
        host_ip = str(address)
    return PortMapping(protocol, mapping.container_port, mapping.host_port, host_ip)


def normalise(mappings: Sequence[PortMapping]) -> list[PortMapping]:
    """Check and unify what a request gave; mappings without a host port are left out.

    Raises NodeError INVALID_ARGUMENT (with the field), also for one host port asked for twice.
    """
    result: list[PortMapping] = []
    for number, mapping in enumerate(mappings):
        if mapping.host_port == 0:
            continue
        field = f"config.port_mappings[{number}]"
        normal = _normal(mapping, field)
        for other in result:
            if _clash(other.protocol, other.host_ip, other.host_port, normal):
                raise invalid(field, f"host port {_name(normal)} is asked for twice")
        result.append(normal)
    return result


def _clash(protocol: str, host_ip: str, host_port: int, other: PortMapping) -> bool:
    if protocol != other.protocol or host_port != other.host_port:
        return False
    mine, theirs = host_ip, other.host_ip
    if not mine or not theirs or mine == theirs:
        return True
    return ANY_IPV4 in (mine, theirs) and ":" not in mine + theirs


def check_families(mappings: Sequence[PortMapping], dual: bool) -> None:
    """Refuse the host addresses that lead to no pod. Raises NodeError UNIMPLEMENTED, naming the address."""
    for mapping in mappings:
        if ":" not in mapping.host_ip:
            continue
        if not dual:
            raise unimplemented(f"a host port on IPv6 address {mapping.host_ip} while network.ipv6 is off")
        if ipaddress.IPv6Address(mapping.host_ip).is_loopback:
            raise unimplemented("a host port on ::1, which the kernel can't translate to another link,")


def _name(mapping: PortMapping) -> str:
    return f"{mapping.protocol} {mapping.host_ip or '*'}:{mapping.host_port}"


class PortTable:
    """The host ports in use, mirrored in memory. Used from the event loop's thread only."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ports: dict[str, list[HostPort]] = {}
        for row in db.execute("SELECT * FROM network_ports"):
            port = HostPort(**{name: row[name] for name in HostPort.__dataclass_fields__})
            self._ports.setdefault(row["sandbox_id"], []).append(port)

    def claim(
        self, sandbox_id: str, address: str, mappings: Sequence[PortMapping], address6: str = ""
    ) -> None:
        """Take the (normalised) host ports for a sandbox; all or none.

        Raises NodeError FAILED_PRECONDITION naming the port and its holder.
        """
        for mapping in mappings:
            self._check_free(sandbox_id, mapping)
        ports = [
            HostPort(m.protocol, m.host_ip, m.host_port, address, m.container_port, address6)
            for m in mappings
        ]
        with self._db.transaction():
            self._db.execute("DELETE FROM network_ports WHERE sandbox_id=?", (sandbox_id,))
            for port in ports:
                self._db.execute(
                    "INSERT INTO network_ports VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        port.protocol,
                        port.host_ip,
                        port.host_port,
                        sandbox_id,
                        port.address,
                        port.container_port,
                        port.address6,
                    ),
                )
        self._ports[sandbox_id] = ports

    def _check_free(self, sandbox_id: str, mapping: PortMapping) -> None:
        for holder, ports in self._ports.items():
            if holder == sandbox_id:
                continue
            for port in ports:
                if _clash(port.protocol, port.host_ip, port.host_port, mapping):
                    raise precondition(
                        f"host port {_name(mapping)} is in use by pod sandbox {short(holder)} "
                        f"({port.address}:{port.container_port})"
                    )

    def release(self, sandbox_id: str) -> list[HostPort]:
        """Give the sandbox's host ports back; returns them (empty when it had none)."""
        if not self._ports.get(sandbox_id):
            self._ports.pop(sandbox_id, None)
            return []
        self._db.execute("DELETE FROM network_ports WHERE sandbox_id=?", (sandbox_id,))
        return self._ports.pop(sandbox_id)

    def of(self, sandbox_id: str) -> list[HostPort]:
        """The sandbox's host ports."""
        return list(self._ports.get(sandbox_id, ()))

    def all(self) -> list[HostPort]:
        """Every host port in use."""
        return [port for ports in self._ports.values() for port in ports]

    def holders(self) -> list[str]:
        """The sandboxes that have host ports."""
        return list(self._ports)

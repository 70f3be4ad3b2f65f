"""Leases of pod addresses, kept in SQLite: never given twice, never lost, reused as late as possible."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from minikubelet.base.database import Database
from minikubelet.base.errors import Code, NodeError, invalid

OFF, AUTO = "off", "auto"
"""Values of ``network.ipv6`` that are no network."""

MIGRATIONS = (
    """
    CREATE TABLE network_settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE network_leases (
        family INTEGER NOT NULL,
        address TEXT NOT NULL,
        sandbox_id TEXT NOT NULL,
        PRIMARY KEY (family, address)
    );
    CREATE UNIQUE INDEX network_lease_of ON network_leases (family, sandbox_id);
    CREATE TABLE network_ports (
        protocol TEXT NOT NULL,
        host_ip TEXT NOT NULL,
        host_port INTEGER NOT NULL,
        sandbox_id TEXT NOT NULL,
        address TEXT NOT NULL,
        container_port INTEGER NOT NULL,
        PRIMARY KEY (protocol, host_ip, host_port)
    )
    """,
    "ALTER TABLE network_ports ADD COLUMN address6 TEXT NOT NULL DEFAULT ''",
)


def parse_subnet(text: str, field: str = "network.subnet") -> ipaddress.IPv4Network:
    """``text`` as an IPv4 network with room for at least one pod. Raises NodeError (INVALID_ARGUMENT)."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as exc:
        raise invalid(field, str(exc)) from exc
    if network.prefixlen > 30:
        raise invalid(field, f"{text} is too small: /30 holds one pod beside the bridge")
    return network


def parse_prefix(text: str) -> ipaddress.IPv6Network:
    """``text`` as an IPv6 network that pods can have. Raises NodeError (INVALID_ARGUMENT)."""
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError as exc:
        raise invalid("network.ipv6", f"{text!r} is neither off, auto nor an IPv6 network: {exc}") from exc
    if network.prefixlen > 112:
        raise invalid("network.ipv6", f"{text} is too small: pods need a /112 or more (a /64 is usual)")
    if network.prefixlen < 16 or network.is_multicast or network.is_link_local:
        raise invalid("network.ipv6", f"{text} is no network of unicast addresses")
    return network


def check_ipv6(text: str) -> None:
    """Whether ``text`` is a value of ``network.ipv6``. Raises NodeError (INVALID_ARGUMENT)."""
    if text not in (OFF, AUTO):
        parse_prefix(text)


class Settings:
    """What the network chose once and must choose again after a restart."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, key: str) -> str:
        """The remembered value, empty when there is none."""
        row = self._db.execute("SELECT value FROM network_settings WHERE key=?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def set(self, key: str, value: str) -> None:
        """Remember ``value``."""
        self._db.execute("INSERT OR REPLACE INTO network_settings VALUES (?, ?)", (key, value))


class Leases:
    """The pods' addresses in one subnet; the first host address is the gateway's.

    With ``prefix`` a pod also gets the IPv6 address that has the same number in it. Memory mirrors the table
    so that finding a free address reads nothing; the table's primary key has the last word. Used from the
    event loop's thread only.
    """

    FAMILY, FAMILY6 = 4, 6

    def __init__(
        self, db: Database, subnet: ipaddress.IPv4Network, prefix: ipaddress.IPv6Network | None = None
    ) -> None:
        self._db = db
        self.subnet = subnet
        self._prefix = prefix
        first = int(subnet.network_address)
        self.gateway = str(ipaddress.IPv4Address(first + 1))
        self._low = first + 2
        self._high = int(subnet.broadcast_address) - 1
        rows = db.execute("SELECT address, sandbox_id FROM network_leases WHERE family=?", (self.FAMILY,))
        self._taken = {int(ipaddress.IPv4Address(row[0])): str(row[1]) for row in rows}
        self._owned = {sandbox: address for address, sandbox in self._taken.items()}
        rows = db.execute("SELECT sandbox_id, address FROM network_leases WHERE family=?", (self.FAMILY6,))
        self._sixes = {str(row[0]): str(row[1]) for row in rows}
        self._settings = Settings(db)
        self._cursor = self._load_cursor()

    def _load_cursor(self) -> int:
        last = self._settings.get("last_address")
        value = int(ipaddress.IPv4Address(last)) if last else 0
        return value if self._low <= value <= self._high else self._low - 1

    @property
    def capacity(self) -> int:
        """How many pods the subnet holds."""
        return self._high - self._low + 1

    def take(self, sandbox_id: str) -> str:
        """Lease the next free address after the one given last; the same again for the same sandbox.

        Raises NodeError RESOURCE_EXHAUSTED, naming the subnet, when none is free.
        """
        owned = self._owned.get(sandbox_id)
        if owned is not None:
            return str(ipaddress.IPv4Address(owned))
        candidate = self._next()
        address = str(ipaddress.IPv4Address(candidate))
        six = "" if self._prefix is None else str(self._prefix[candidate - int(self.subnet.network_address)])
        insert = "INSERT INTO network_leases VALUES (?, ?, ?)"
        with self._db.transaction():
            self._db.execute(insert, (self.FAMILY, address, sandbox_id))
            if six:
                self._db.execute(insert, (self.FAMILY6, six, sandbox_id))
            self._settings.set("last_address", address)
        self._cursor = candidate
        self._taken[candidate] = sandbox_id
        self._owned[sandbox_id] = candidate
        if six:
            self._sixes[sandbox_id] = six
        return address

    def _next(self) -> int:
        for step in range(1, self.capacity + 1):
            candidate = self._low + (self._cursor - self._low + step) % self.capacity
            if candidate not in self._taken:
                return candidate
        raise NodeError(
            Code.RESOURCE_EXHAUSTED,
            f"no free address in pod subnet {self.subnet}: all {self.capacity} are leased",
        )

    def free(self, sandbox_id: str) -> bool:
        """Give the sandbox's addresses back; False when it has none."""
        if sandbox_id not in self._owned:
            return False
        self._db.execute("DELETE FROM network_leases WHERE family IN (4, 6) AND sandbox_id=?", (sandbox_id,))
        self._sixes.pop(sandbox_id, None)
        del self._taken[self._owned.pop(sandbox_id)]
        return True

    def of(self, sandbox_id: str) -> str | None:
        """The sandbox's address, None when it has none."""
        address = self._owned.get(sandbox_id)
        return None if address is None else str(ipaddress.IPv4Address(address))

    def six_of(self, sandbox_id: str) -> str:
        """The sandbox's IPv6 address, empty when it has none (attached while ``network.ipv6`` was off)."""
        return self._sixes.get(sandbox_id, "")

    def holders(self) -> Collection[str]:
        """The sandboxes that have an address."""
        return tuple(self._owned)

"""Leases of pod addresses, kept in SQLite: never given twice, never lost, reused as late as possible."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from minikubelet.base.database import Database
from minikubelet.base.errors import Code, NodeError, invalid

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
    """The addresses of one family in one subnet; the first host address is the gateway's.

    Memory mirrors the table so that finding a free address reads nothing; the table's primary key has the
    last word. Used from the event loop's thread only.
    """

    FAMILY = 4

    def __init__(self, db: Database, subnet: ipaddress.IPv4Network) -> None:
        self._db = db
        self.subnet = subnet
        first = int(subnet.network_address)
        self.gateway = str(ipaddress.IPv4Address(first + 1))
        self._low = first + 2
        self._high = int(subnet.broadcast_address) - 1
        rows = db.execute("SELECT address, sandbox_id FROM network_leases WHERE family=?", (self.FAMILY,))
        self._taken = {int(ipaddress.IPv4Address(row[0])): str(row[1]) for row in rows}
        self._owned = {sandbox: address for address, sandbox in self._taken.items()}
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
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO network_leases VALUES (?, ?, ?)", (self.FAMILY, address, sandbox_id)
            )
            self._settings.set("last_address", address)
        self._cursor = candidate
        self._taken[candidate] = sandbox_id
        self._owned[sandbox_id] = candidate
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
        """Give the sandbox's address back; False when it has none."""
        if sandbox_id not in self._owned:
            return False
        self._db.execute(
            "DELETE FROM network_leases WHERE family=? AND sandbox_id=?", (self.FAMILY, sandbox_id)
        )
        del self._taken[self._owned.pop(sandbox_id)]
        return True

    def of(self, sandbox_id: str) -> str | None:
        """The sandbox's address, None when it has none."""
        address = self._owned.get(sandbox_id)
        return None if address is None else str(ipaddress.IPv4Address(address))

    def holders(self) -> Collection[str]:
        """The sandboxes that have an address."""
        return tuple(self._owned)

"""The addresses under which pods reach the node."""

from __future__ import annotations

import socket


def node_addresses(configured: str) -> list[str]:
    """``configured`` if given: one address, or two with a comma between.

    Else the source addresses of the default routes; loopback at worst.
    """
    if configured:
        return [address.strip() for address in configured.split(",")]
    found = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        # Connecting a datagram socket sends nothing; the kernel picks the source address by its routes.
        try:
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
                probe.connect((target, 9))
                found.append(probe.getsockname()[0])
        except OSError:
            continue
    return found or ["127.0.0.1"]

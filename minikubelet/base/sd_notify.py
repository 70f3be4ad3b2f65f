"""sd_notify(3): tell the service manager how the daemon is, where there is one."""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> bool:
    """Send ``NAME=value`` lines, e.g. ``READY=1``; False where no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.send("\n".join(assignments).encode())
    except OSError:
        return False
    return True


def watchdog_seconds() -> float:
    """How often ``WATCHDOG=1`` is due (sd_watchdog_enabled(3)); 0: never. Half of it is a good period."""
    try:
        micros = int(os.environ.get("WATCHDOG_USEC", "0"))
        pid = int(os.environ.get("WATCHDOG_PID", "0") or 0)
    except ValueError:
        return 0.0
    return micros / 1_000_000 if pid in (0, os.getpid()) else 0.0

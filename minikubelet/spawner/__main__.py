"""``python -I -m minikubelet.spawner --fd N``: serve on the socket the daemon left open as descriptor N."""

from __future__ import annotations

import socket
import sys

from minikubelet.base.errors import NodeError
from minikubelet.linux import prctl
from minikubelet.spawner.loop import settle_signals
from minikubelet.spawner.server import Server, freeze


def main(arguments: list[str]) -> int:
    """Run the fork server; returns the exit code."""
    if len(arguments) != 2 or arguments[0] != "--fd" or not arguments[1].isdigit():
        print("usage: python -I -m minikubelet.spawner --fd N", file=sys.stderr)
        return 2
    prctl.set_dumpable(False)
    prctl.set_name(b"mk-spawner")
    settle_signals()
    sock = socket.socket(fileno=int(arguments[1]))
    sock.set_inheritable(False)
    try:
        server = Server(sock)
        freeze()
        server.run()
    except (OSError, NodeError) as exc:
        print(f"spawner: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

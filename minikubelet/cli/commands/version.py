"""``version``."""

from __future__ import annotations

import argparse
import platform

import minikubelet
from minikubelet.cli import options


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    text = "Show the versions of minikubelet and of the runtime that answers on the CRI socket."
    made = options.Parser("version", text, "[--client]")
    made.add_argument("--client", action="store_true", help="only this program's version")
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    print(f"minikubelet {minikubelet.__version__} (Python {platform.python_version()}, {platform.machine()})")
    if args.client:
        return 0
    from minikubelet.cli.cri import CriClient

    with CriClient(options.cri_endpoint(args)) as client:
        reply = client.version()
    print(f"{reply.runtime_name} {reply.runtime_version} (CRI {reply.runtime_api_version})")
    return 0

"""``completion``."""

from __future__ import annotations

import argparse

from minikubelet.cli import options
from minikubelet.cli.completion import SHELLS

_EXAMPLES = """
# In this shell
source <(minikubelet completion bash)

# In every one from now on
minikubelet completion bash > /etc/bash_completion.d/minikubelet
minikubelet completion zsh > "${fpath[1]}/_minikubelet"
minikubelet completion fish > ~/.config/fish/completions/minikubelet.fish
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser("completion", "Print the completion script of a shell.", "bash|zsh|fish", _EXAMPLES)
    made.add_argument("shell", choices=tuple(SHELLS), metavar="SHELL", help=", ".join(SHELLS))
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    print(SHELLS[args.shell], end="")
    return 0

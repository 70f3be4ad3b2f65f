"""``minikubelet``: finds the command, runs it, turns errors into one line and an exit code.

Importing this costs nothing; a command's module is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

GROUPS: dict[str, dict[str, str]] = {
    "Run a Node": {
        "daemon": "Run the runtime and the kubelet",
        "kubelet": "Run the kubelet alone, over any CRI runtime",
        "run": "Run pods from manifests in the foreground until Ctrl-C",
    },
    "Change What Runs": {
        "apply": "Put objects from manifests onto the running node",
        "create": "Put new objects onto the node, also ConfigMaps and Secrets from values",
        "diff": "Show what apply would change",
        "delete": "Stop pods and take them off the node",
        "lint": "Check manifests for mistakes and for what this node lacks",
    },
    "Look at Pods": {
        "get": "List pods, the node, events, and what pods refer to",
        "describe": "Show the details of pods, the node, and what pods refer to",
        "explain": "Say why a pod is not Ready, and what to do",
        "wait": "Wait until pods are ready, gone, or as one wants them",
        "events": "List events of pods and of the node",
        "logs": "Print the logs of a container in a pod",
        "exec": "Execute a command in a container",
        "attach": "Attach to the streams of a container",
        "debug": "Start one more container in a running pod, to look into it",
        "cp": "Copy files to and from a container",
        "port-forward": "Forward local ports to a pod",
        "top": "Show what pods and the node use",
    },
    "Images": {
        "image": "List, pull, load, save and remove images",
    },
    "This Machine": {
        "check": "Check what this machine has and lacks",
        "version": "Show the versions of minikubelet and of the running runtime",
        "completion": "Print the completion script for bash, zsh or fish",
    },
}
_ALIASES = {"images": ["image", "ls"]}
_CHANGE = "change the manifest, then apply -f it again"
_PODS_ALONE = "a lone node runs pods; it has no Deployments and Services"
_INSTEAD = {
    **dict.fromkeys(("annotate", "edit", "label", "patch", "set"), _CHANGE),
    **dict.fromkeys(("autoscale", "expose", "rollout", "scale"), _PODS_ALONE),
    "api-resources": "see get --help",
    "cluster-info": "see get nodes",
    "config": "--run DIR names the folder of the node's sockets",
    "replace": "put objects onto the node with apply -f FILE",
    "ps": "see get pods",
    "validate": "see lint",
}
"""What to type for words of kubectl and others."""

HELP = """\
minikubelet is a whole Kubernetes node: a CRI v1 runtime, and a kubelet that runs pods from manifests.

{groups}
Global Options:
  --run DIR       Folder of the daemon's sockets (MINIKUBELET_RUN; default /run/minikubelet)
  --listen URL    The CRI socket (CONTAINER_RUNTIME_ENDPOINT; default unix://RUN/minikubelet.sock)
  -h, --help      Show this help
  --version       Show the version

Usage:
  minikubelet [global options] COMMAND [options]

Use "minikubelet COMMAND --help" for more information about a command.
"""

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 for a failure, 2 for wrong usage, or the command's own."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        globals_, rest = _split(words)
        if rest[:1] == ["__complete"]:
            return _complete([*globals_, *rest[1:]])
        if not rest or rest[0] in ("-h", "--help", "help"):
            return _help(globals_, rest)
        if rest[0] == "--version":
            rest = ["version", "--client"]
        rest = _ALIASES.get(rest[0], rest[:1]) + rest[1:]
        known = {name for commands in GROUPS.values() for name in commands}
        if rest[0] not in known:
            return _unknown(rest[0], known)
        return _run(rest[0], globals_ + rest[1:])
    except SystemExit as exc:  # argparse
        return exc.code if isinstance(exc.code, int) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (``| head``); nothing is to be said to anyone, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _run(command: str, arguments: list[str]) -> int:
    from minikubelet.base.errors import NodeError

    module = importlib.import_module(f"minikubelet.cli.commands.{command.replace('-', '_')}")
    try:
        options = module.parser().parse_args(arguments)
        code: int = module.run(options)
        sys.stdout.flush()
        return code
    except (NodeError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):
            raise
        from minikubelet.cli.text import escape

        plain = isinstance(exc, OSError) and exc.filename is not None and exc.strerror
        said = f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) and plain else str(exc)
        text = escape(" ".join(said.split("\n")))
        print(f"error: {text}", file=sys.stderr)
        return EXIT_USAGE if getattr(exc, "usage", False) else getattr(module, "FAILURE", 1)


def _complete(words: list[str]) -> int:
    """What a shell asks for at Tab; see :mod:`minikubelet.cli.completion`."""
    from minikubelet.cli.completion import complete

    found, files = complete(words)
    for word, text in found:
        print(f"{word}\t{text}" if text else word)
    print(":files" if files else ":words")
    return 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The global options before the command (``-n`` among them, as with kubectl), and the rest."""
    taken = 0
    while taken < len(words):
        name, equals, _ = words[taken].partition("=")
        if name not in ("--run", "--listen", "-n", "--namespace"):
            break
        taken += 1 if equals else 2
    return words[:taken], words[taken:]


def _help(globals_: list[str], rest: list[str]) -> int:
    if rest[:1] == ["help"] and len(rest) > 1:
        return main([*globals_, rest[1], "--help"])
    blocks = []
    for title, commands in GROUPS.items():
        lines = [f"  {name:<12}  {text}" for name, text in commands.items()]
        blocks.append(f"{title}:\n" + "\n".join(lines) + "\n")
    print(HELP.format(groups="\n".join(blocks)), end="")
    return 0


def _unknown(command: str, known: set[str]) -> int:
    import difflib

    near = difflib.get_close_matches(command, sorted(known), 1)
    hint = _INSTEAD.get(command) or (f'did you mean "{near[0]}"?' if near else "")
    hint = f"; {hint}" if hint else ""
    print(f'error: unknown command "{command}" for "minikubelet"{hint}', file=sys.stderr)
    print("Run 'minikubelet --help' for usage.", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())

"""Parsers that print help as kubectl does, and the options that commands share."""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from minikubelet.base.errors import Code, NodeError

DEFAULT_RUN = "/run/minikubelet"


class CommandError(NodeError):
    """What a person is told in one line; ``usage`` when the command was typed wrongly."""

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(Code.INVALID_ARGUMENT if usage else Code.FAILED_PRECONDITION, message)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """Help in kubectl's order: what it does, examples, options, usage."""

    def __init__(self, command: str, description: str, usage: str, examples: str = "") -> None:
        super().__init__(
            prog=f"minikubelet {command}",
            description=description,
            usage=usage,
            add_help=False,
            allow_abbrev=False,
        )
        self.examples = textwrap.dedent(examples).strip("\n")
        self.add_argument("-h", "--help", action="help", help="show this help")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """As kubectl reads words: options stand anywhere between names, and a flag may say ``=false``."""
        words = self._flags(list(args or []))
        for action in self._actions:
            if action.nargs == argparse.ZERO_OR_MORE:
                action.required = False  # else it is named among what is missing
        verbs = any(action.nargs == argparse.PARSER for action in self._actions)
        parse = super().parse_args if verbs else self.parse_intermixed_args
        parsed: argparse.Namespace = parse(words, namespace)
        return parsed

    def _flags(self, words: list[str]) -> list[str]:
        """The words with ``--flag=true`` as ``--flag`` and without ``--flag=false``.

        A flag that isn't simply off if it isn't given becomes ``--no-flag``.
        """
        end = words.index("--") if "--" in words else len(words)
        flags = {name for action in self._actions if action.const is True for name in action.option_strings}
        both = {
            name
            for action in self._actions
            if isinstance(action, argparse.BooleanOptionalAction)
            for name in action.option_strings
        }
        flags |= both
        kept = []
        for word in words[:end]:
            name, equals, value = word.partition("=")
            if not equals or name not in flags or value.lower() not in ("true", "false"):
                kept.append(word)
            elif value.lower() == "true":
                kept.append(name)
            elif name in both:
                kept.append(f"--no-{name.removeprefix('--')}")
        return kept + words[end:]

    def format_help(self) -> str:
        """See :class:`argparse.ArgumentParser`."""
        parts = [textwrap.dedent(self.description or "").strip() + "\n"]
        if self.examples:
            parts.append("Examples:\n" + textwrap.indent(self.examples, "  ") + "\n")
        formatter = argparse.HelpFormatter(self.prog, max_help_position=34, width=110)
        for group in self._action_groups:
            formatter.start_section(group.title and group.title[0].upper() + group.title[1:])
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        parts.append(formatter.format_help())
        parts.append(f"Usage:\n  {self.prog} {self.usage}\n")
        return "\n".join(parts)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Formats of the output are refused in kubectl's words."""
        if "--output" in action.option_strings and action.choices is not None and value not in action.choices:
            forms = [str(each) for each in action.choices]
            if f"{str(value).removesuffix('=')}=" in forms:
                raise argparse.ArgumentError(
                    None, f"{value}: template format specified but no template given"
                )
            listed = ",".join(each.removesuffix("=") for each in forms)
            message = f'unable to match a printer suitable for the output format "{value}"'
            raise argparse.ArgumentError(None, f"{message}, allowed formats are: {listed}")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        """One line, and where help is."""
        print(f"error: {message}", file=sys.stderr)
        print(f"See '{self.prog} --help' for usage.", file=sys.stderr)
        sys.exit(2)


def add_sockets(parser: argparse.ArgumentParser, *, inherit: bool = False) -> None:
    """``--run`` and ``--listen``: where the daemon is. A verb inherits what stood before it."""
    group = parser.add_argument_group("global options")
    group.add_argument(
        "--run",
        metavar="DIR",
        default=argparse.SUPPRESS if inherit else os.environ.get("MINIKUBELET_RUN") or DEFAULT_RUN,
        help=f"folder of the daemon's sockets (MINIKUBELET_RUN; default {DEFAULT_RUN})",
    )
    group.add_argument(
        "--listen",
        metavar="URL",
        default=argparse.SUPPRESS if inherit else os.environ.get("CONTAINER_RUNTIME_ENDPOINT") or None,
        help="the CRI socket (CONTAINER_RUNTIME_ENDPOINT; default unix://RUN/minikubelet.sock)",
    )


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """``-n``."""
    parser.add_argument("-n", "--namespace", metavar="NAME", default="default", help="default: default")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """``--dry-run``, alone or with kubectl's words for where it is done."""
    parser.add_argument(
        "--dry-run",
        nargs="?",
        choices=("none", "client", "server"),
        const="client",
        default="none",
        help="only say what would be done",
    )


def add_files(parser: argparse.ArgumentParser) -> None:
    """``-f``."""
    parser.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        default=[],
        help="a manifest, a folder of them, or -",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="folders inside folders too")


def kubelet_socket(options: argparse.Namespace) -> str:
    """The kubelet's local API."""
    return os.path.join(os.path.abspath(options.run), "kubelet.sock")


def cri_endpoint(options: argparse.Namespace) -> str:
    """The CRI socket as a URL. Raises CommandError for what isn't one."""
    listen = options.listen or f"unix://{os.path.abspath(options.run)}/minikubelet.sock"
    return unix_url(listen, "--listen")


def unix_url(text: str, option: str) -> str:
    """``unix:///PATH``, also from a bare path. Raises CommandError."""
    path = text.removeprefix("unix://") if text.startswith("unix://") else text.removeprefix("unix:")
    if "://" in path or not path.startswith("/"):
        raise CommandError(f"{option}: {text!r} is not a unix socket (unix:///PATH)", usage=True)
    if len(os.fsencode(path)) > 107:
        raise CommandError(
            f"{option}: {path!r} is longer than a unix socket's path may be (107 bytes)", usage=True
        )
    return f"unix://{path}"


def absolute(path: str) -> str:
    """The path from the root on."""
    return os.path.abspath(path)


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?\Z")


def seconds(text: str) -> float:
    """A duration as Go writes it: ``90s``, ``1h30m``; for argparse's ``type``."""
    match = _DURATION.match(text)
    if not text or match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 30s, 5m or 1h30m")
    hours, minutes, whole, millis = (float(part) if part else 0.0 for part in match.groups())
    return hours * 3600 + minutes * 60 + whole + millis / 1000


def signed_seconds(text: str) -> float:
    """As :func:`seconds`, also ``0`` and negative ones."""
    sign, bare = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * (0.0 if bare == "0" else seconds(bare))


def need_root(why: str) -> None:
    """Raises CommandError unless the process is root's."""
    if os.geteuid() != 0:
        raise CommandError(f"needs root: {why}; try sudo")

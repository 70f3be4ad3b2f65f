"""docs/cli.md is whole: it names every option, and its example of a configuration has every key."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from minikubelet.base.config import DaemonConfig, NetworkConfig
from minikubelet.cli import config_file
from minikubelet.cli.main import GROUPS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/cli.md").read_text()
SETTINGS = (ROOT / "docs/kubelet-configuration.md").read_text()
COMMANDS = [name for commands in GROUPS.values() for name in commands]


def options_of(command: str) -> Iterator[list[str]]:
    """The spellings of each option that help shows, those of verbs too."""
    module = importlib.import_module(f"minikubelet.cli.commands.{command.replace('-', '_')}")
    parsers = [module.parser()]
    for action in parsers[0]._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += action.choices.values()
    for parser in parsers:
        for action in parser._actions:
            if action.option_strings and action.help is not argparse.SUPPRESS:
                yield list(action.option_strings)


def is_named(spelling: str, page: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(spelling)}(?![\w-])", page) is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_names_every_option(command: str) -> None:
    page = PAGE + SETTINGS if command == "kubelet" else PAGE
    rows = [line for line in PAGE.splitlines() if line.startswith("| `" + command)]
    assert rows or command in ("describe",), f"no row for {command}"
    lacking = [each for each in options_of(command) if not any(is_named(word, page) for word in each)]
    assert not lacking


def test_the_example_of_a_configuration_is_the_default(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(root: .*?)```", PAGE, re.S)
    file = tmp_path / "config.yaml"
    file.write_text(example)
    shown, default = asdict(config_file.read(str(file))), asdict(DaemonConfig())
    assert shown == default
    for kind in (DaemonConfig, NetworkConfig):
        for field in fields(kind):
            assert f"{config_file.camel(field.name)}:" in example

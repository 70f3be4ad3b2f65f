"""Objects as YAML for people: keys sorted, text of several lines as a block, no line folded."""

from __future__ import annotations

from typing import Any

import yaml

from minikubelet.kubelet.manifests.yaml_reader import is_plain_text

_WIDTH = 1 << 30
"""Columns: more than any line has."""
_STR = "tag:yaml.org,2002:str"
_BASE: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


_Dumper: type[Any] = type("_Dumper", (_BASE,), {})
"""PyYAML's, which would write such texts in quotes."""


def _text(dumper: Any, value: str) -> Any:
    """In double quotes, as kubectl has it, if it would be read as something else: by us, or as YAML 1.1."""
    style = "|" if "\n" in value else None
    if not is_plain_text(value) or dumper.resolve(yaml.ScalarNode, value, (True, False)) != _STR:
        style = '"'
    return dumper.represent_scalar(_STR, value, style=style)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    """The YAML text, ending in a newline."""
    return str(
        yaml.dump(
            value,
            Dumper=_Dumper,
            sort_keys=True,
            default_flow_style=False,
            allow_unicode=True,
            width=_WIDTH,
        )
    )

"""Objects as YAML for people: keys sorted, text of several lines as a block, no line folded."""

from __future__ import annotations

from typing import Any

import yaml

_WIDTH = 1 << 30
"""Columns: more than any line has."""
_BASE: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


_Dumper: type[Any] = type("_Dumper", (_BASE,), {})
"""PyYAML's, which would write such texts in quotes."""


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


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

"""``$(NAME)`` in commands, variables and subPathExpr (upstream's third_party/forked/golang/expansion)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
"""A name reaches to the first bracket that closes, whatever is before it."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by known variables; ``$$`` is a literal ``$``, unknown names stay."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)


def names(text: str) -> set[str]:
    """The names that a text refers to."""
    return {match[1] for match in _REFERENCE.finditer(text) if match[0] != "$$"}

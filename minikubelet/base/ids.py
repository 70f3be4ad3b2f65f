"""Identifiers of sandboxes, containers and requests."""

from __future__ import annotations

import re
import secrets

_ID = re.compile(r"[0-9a-f]{64}\Z")


def new_id() -> str:
    """A new 256-bit identifier, 64 lower-case hex digits, as crictl and kubelet expect them."""
    return secrets.token_hex(32)


def is_id(text: str) -> bool:
    """Whether ``text`` has the form that :func:`new_id` makes."""
    return _ID.match(text) is not None


def short(identifier: str) -> str:
    """The 13 digits that people see (crictl's length)."""
    return identifier[:13]

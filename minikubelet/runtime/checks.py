"""Small checks of request fields; each raises INVALID_ARGUMENT naming the field."""

from __future__ import annotations

import re
from collections.abc import Iterable

from minikubelet.base.errors import invalid
from minikubelet.linux.users import MAX_ID

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_SPACE = re.compile(r"[\s\x00-\x20\x7f]")


def plain(field: str, text: str, *, limit: int = 4096) -> None:
    """No control characters (they inject lines into files and logs), at most ``limit`` bytes."""
    if _CONTROL.search(text):
        raise invalid(field, f"{text[:200]!r} has a control character")
    if len(text.encode("utf-8", "surrogatepass")) > limit:
        raise invalid(field, f"is longer than {limit} bytes")


def one_word(field: str, text: str) -> None:
    """Not empty, no white space, no control characters."""
    plain(field, text)
    if not text or _SPACE.search(text):
        raise invalid(field, f"{text!r} must be one word")


def no_nul(field: str, texts: Iterable[str]) -> None:
    """execve(2) takes strings that end at the first NUL."""
    for number, text in enumerate(texts):
        if "\0" in text:
            raise invalid(f"{field}[{number}]", "has a NUL character")


def absolute(field: str, path: str) -> None:
    """An absolute path without ``..`` and control characters."""
    plain(field, path)
    if not path.startswith("/"):
        raise invalid(field, f"{path!r} is not an absolute path")
    inside(field, path)


def relative(field: str, path: str) -> None:
    """A relative path that stays below where it starts."""
    plain(field, path)
    if path.startswith("/"):
        raise invalid(field, f"{path!r} is not a relative path")
    inside(field, path)


def inside(field: str, path: str) -> None:
    """No ``..`` element."""
    if ".." in path.split("/"):
        raise invalid(field, f"{path!r} has a '..' element")


def one_of(field: str, value: str, allowed: Iterable[str]) -> None:
    """One of a few words."""
    words = tuple(allowed)
    if value not in words:
        raise invalid(field, f"{value!r} is none of {', '.join(words)}")


def user_or_group(field: str, number: int) -> None:
    """An ID that neither wraps nor means "leave alone" in some interface (CVE-2024-40635)."""
    if not 0 <= number <= MAX_ID:
        raise invalid(field, f"{number} is not in 0-{MAX_ID}")

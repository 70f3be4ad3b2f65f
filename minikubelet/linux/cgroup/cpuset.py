"""The cpuset controller: which processors and memory nodes may be used."""

from __future__ import annotations

import re

from minikubelet.base.errors import invalid
from minikubelet.linux.cgroup.files import read

_LIST = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*\Z")


def files(cpus: str, mems: str) -> dict[str, str]:
    """``cpuset.cpus`` and ``cpuset.mems`` from lists such as ``0-3,7``. Raises NodeError INVALID_ARGUMENT."""
    result: dict[str, str] = {}
    for name, value in (("cpus", cpus), ("mems", mems)):
        if value:
            parse(value, f"resources.cpuset_{name}")
            result[f"cpuset.{name}"] = value
    return result


def parse(text: str, field: str = "cpuset") -> set[int]:
    """The numbers of a list such as ``0-3,7``. Raises NodeError INVALID_ARGUMENT naming ``field``."""
    if not _LIST.match(text):
        raise invalid(field, f"{text!r} is no list such as 0-3,7")
    numbers: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        first, last = int(low), int(high or low)
        if last < first or last > 65535:
            raise invalid(field, f"{part!r} is no range")
        numbers.update(range(first, last + 1))
    return numbers


def effective(folder: str) -> tuple[str, str] | None:
    """(cpus, mems) in force; None without the controller. Raises OSError."""
    cpus = read(folder, "cpuset.cpus.effective")
    mems = read(folder, "cpuset.mems.effective")
    return None if cpus is None else (cpus.strip(), (mems or "").strip())

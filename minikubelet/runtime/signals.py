"""Signals by name: ``SIGTERM``, ``TERM``, ``15``, ``SIGRTMIN+3``."""

from __future__ import annotations

import re
import signal

_REALTIME = re.compile(r"(RTMIN|RTMAX)(?:([+-])(\d+))?\Z")
# glibc keeps two real-time signals for itself, so its SIGRTMIN is 34; images and CRI count from there.
_LIMITS = {"RTMIN": 34, "RTMAX": 64}
_ALIASES = {"CLD": "CHLD", "POLL": "IO", "IOT": "ABRT"}


def number(name: str) -> int:
    """The signal's number on this machine. Raises ValueError."""
    if name.isascii() and name.isdigit():
        value = int(name)
    else:
        bare = name.upper().removeprefix("SIG")
        match = _REALTIME.match(bare)
        if match:
            offset = int(match[3] or 0)
            value = _LIMITS[match[1]] + (-offset if match[2] == "-" else offset)
        else:
            try:
                value = int(signal.Signals[f"SIG{_ALIASES.get(bare, bare)}"])
            except KeyError:
                raise ValueError(f"unknown signal {name!r}") from None
    if not 1 <= value <= 64:
        raise ValueError(f"{name!r} is no signal of Linux")
    return value


def canonical(name: str) -> str:
    """The name as CRI's Signal enumeration has it: ``3`` and ``quit`` are ``SIGQUIT``. Raises ValueError."""
    value = number(name)
    if value > 49:
        return "SIGRTMAX" if value == 64 else f"SIGRTMAX-{64 - value}"
    if value >= 34:
        return "SIGRTMIN" if value == 34 else f"SIGRTMIN+{value - 34}"
    if value in (32, 33):
        raise ValueError(f"{name!r} belongs to the C library")
    return signal.Signals(value).name

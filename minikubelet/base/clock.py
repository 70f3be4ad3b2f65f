"""Wall clock for what people read, monotonic clock for durations."""

from __future__ import annotations

import datetime
import time


def now_ns() -> int:
    """Wall-clock time, nanoseconds since the epoch; only for time stamps."""
    return time.time_ns()


def monotonic() -> float:
    """Seconds on CLOCK_MONOTONIC; for time-outs and periods (clock jumps don't touch it)."""
    return time.monotonic()


def rfc3339(ns: int) -> str:
    """``ns`` since the epoch as RFC 3339 UTC with nanoseconds; empty for 0."""
    if not ns:
        return ""
    seconds, rest = divmod(ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def parse_rfc3339(text: str) -> int:
    """The inverse of :func:`rfc3339`: nanoseconds since the epoch; 0 for an empty text. Raises ValueError."""
    if not text:
        return 0
    whole, _, rest = text.removesuffix("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return int(seconds) * 1_000_000_000 + int((rest or "0").ljust(9, "0")[:9])

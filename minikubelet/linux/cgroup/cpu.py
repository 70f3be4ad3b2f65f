"""The cpu controller: weight, bandwidth, burst; statistics (cpu.stat works without the controller too)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from minikubelet.base.errors import invalid
from minikubelet.linux.cgroup.files import keyed, parse_number, read

DEFAULT_PERIOD = 100_000
_MIN_QUOTA = 1_000  # the kernel's min_cfs_quota_period
_PERIODS = (1_000, 1_000_000)


@dataclass(frozen=True)
class CpuStats:
    """Microseconds unless said otherwise."""

    usage: int
    user: int
    system: int
    periods: int = 0
    """Number of bandwidth periods that have passed."""
    throttled_periods: int = 0
    throttled: int = 0


@dataclass(frozen=True)
class CpuLimits:
    """Limits in force: ``quota`` -1 is none; ``weight`` 0: unknown."""

    quota: int
    period: int
    weight: int


def shares_to_weight(shares: int) -> int:
    """cpu.weight for v1 ``shares``; 0 stays 0 (unset).

    2, 1024 and 262144 shares become 1, 100 and 10000: base 10 to the power of the quadratic in log2(shares)
    that goes through these three points, rounded up, as runc 1.4 has it (the linear map of KEP-2254 made
    1024 shares, which is one CPU's request, a weight of 39 where 100 is the default).
    """
    if shares <= 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def files(shares: int, quota: int, period: int, burst: int = 0) -> dict[str, str]:
    """``cpu.weight``, ``cpu.max`` and ``cpu.max.burst``. Raises NodeError INVALID_ARGUMENT."""
    result: dict[str, str] = {}
    if shares < 0:
        raise invalid("resources.cpu_shares", f"{shares} is negative")
    if shares:
        result["cpu.weight"] = str(shares_to_weight(shares))
    if period and not _PERIODS[0] <= period <= _PERIODS[1]:
        raise invalid("resources.cpu_period", f"{period} µs is not in {_PERIODS[0]}-{_PERIODS[1]}")
    if quota > 0:
        if quota < _MIN_QUOTA:
            raise invalid("resources.cpu_quota", f"{quota} µs is less than {_MIN_QUOTA}")
        result["cpu.max"] = f"{quota} {period or DEFAULT_PERIOD}"
    elif quota < 0 or period:
        result["cpu.max"] = f"max {period or DEFAULT_PERIOD}"
    if burst < 0:
        raise invalid("resources.cpu_burst", f"{burst} is negative")
    if burst:
        result["cpu.max.burst"] = str(burst)
    return result


def stats(folder: str) -> CpuStats | None:
    """Statistics of one cgroup; None when it is gone. Raises OSError."""
    text = read(folder, "cpu.stat")
    if text is None:
        return None
    values = keyed(text)
    return CpuStats(
        usage=values.get("usage_usec", 0),
        user=values.get("user_usec", 0),
        system=values.get("system_usec", 0),
        periods=values.get("nr_periods", 0),
        throttled_periods=values.get("nr_throttled", 0),
        throttled=values.get("throttled_usec", 0),
    )


def limits(folder: str) -> CpuLimits | None:
    """What is in force; None without the controller. Raises OSError."""
    text = read(folder, "cpu.max")
    if text is None:
        return None
    quota, _, period = text.strip().partition(" ")
    weight = read(folder, "cpu.weight")
    return CpuLimits(parse_number(quota), int(period or DEFAULT_PERIOD), int(weight or 0))

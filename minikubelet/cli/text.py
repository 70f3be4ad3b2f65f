"""Text for people: ages, tables, and columns that line up as in kubectl's descriptions."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence


def timestamp(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for none."""
    if not text:
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def age(since: str | None, now: float) -> str:
    """How long ago, as kubectl words it."""
    then = timestamp(since)
    return "<unknown>" if then is None else human_duration(now - then)


def human_duration(seconds: float) -> str:
    """Two or three significant figures (apimachinery's duration.HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, first_unit: str, second: int, second_unit: str) -> str:
    return f"{first}{first_unit}{second}{second_unit}" if second else f"{first}{first_unit}"


def rfc1123(text: str | None) -> str:
    """A time as kubectl describes it, in local time: ``Mon, 02 Jan 2006 15:04:05 +0000``."""
    then = timestamp(text)
    if then is None:
        return "<unknown>"
    return datetime.datetime.fromtimestamp(then).astimezone().strftime("%a, %d %b %Y %H:%M:%S %z")


def size(count: int) -> str:
    """Bytes in powers of ten, three figures: ``12.3MB``, as crictl shows them."""
    value = float(count)
    units = ["TB", "GB", "MB", "kB", "B"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop()
    return f"{value:.3g}{units[-1]}"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def escape(shown: str) -> str:
    """``shown`` without what steers a terminal (CVE-2021-25743); tab and newline stay."""
    return _CONTROL.sub(_visible, shown)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"^{chr(code ^ 0x40)}" if code < 0x80 else f"\\x{code:02x}"


class Table:
    """Columns padded by three spaces; widths stay, so that rows of a watch line up with the first ones."""

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers = list(headers)
        self._widths = [len(header) for header in headers]

    def render(self, rows: Sequence[Sequence[str]], *, header: bool = True) -> str:
        """The lines of ``rows``, each ending in a newline."""
        clean = [[" ".join(escape(cell).split()) for cell in row] for row in rows]
        lines = [self._headers, *clean] if header else clean
        for row in lines:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        return "".join(self._line(row) for row in lines)

    def _line(self, row: Sequence[str]) -> str:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, self._widths, strict=True)]
        return "   ".join(cells).rstrip() + "\n"


_PADDING = 2


def tabulate(text: str) -> str:
    """Tabs become columns: a cell is as wide as the widest of its column in the lines around it.

    The elastic tab stops of Go's text/tabwriter with kubectl's settings (padding 2, filled with spaces).
    """
    rows = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in rows]
    _measure(rows, widths, 0, len(rows), 0)
    lines = []
    for row, row_widths in zip(rows, widths, strict=True):
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:-1], row_widths, strict=True)]
        lines.append("".join(cells) + row[-1])
    return "\n".join(lines)


def _measure(rows: list[list[str]], widths: list[list[int]], start: int, end: int, column: int) -> None:
    index = start
    while index < end:
        if len(rows[index]) - 1 <= column:
            index += 1
            continue
        block = index
        while block < end and len(rows[block]) - 1 > column:
            block += 1
        width = max(len(row[column]) for row in rows[index:block]) + _PADDING
        for each in range(index, block):
            widths[each].append(width)
        _measure(rows, widths, index, block, column + 1)
        index = block

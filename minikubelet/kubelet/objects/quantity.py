"""Resource quantities: exact parsing of ``500m``, ``1.5Gi``, ``1e3`` (k8s.io/apimachinery api/resource)."""

from __future__ import annotations

import functools
import math
import re
from fractions import Fraction

from minikubelet.kubelet.objects.base import Quantity

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE])|)\Z")
_BINARY = {f"{prefix}i": Fraction(1024**power) for power, prefix in enumerate("KMGTPE", 1)}
_DECIMAL = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)} | {
    prefix: Fraction(1000**power) for power, prefix in enumerate("kMGTPE", 1)
}
_MULTIPLIERS = _BINARY | _DECIMAL
_EXPONENT = re.compile(r"[eE][+-]?\d+\Z")
_POWERS = ["n", "u", "m", "", *"kMGTPE"]
_BILLION = 10**9
_LONGEST = 64


@functools.lru_cache(maxsize=1024, typed=True)
def parse(quantity: Quantity) -> Fraction:
    """The exact value. Raises ValueError for anything that is not a quantity.

    Space around it is let pass, as by upstream's decoder.
    """
    text = str(quantity).strip()
    match = _FORM.match(text) if len(text) <= _LONGEST else None
    if match is None or isinstance(quantity, bool):
        raise ValueError(
            f"{text[:_LONGEST]!r} is not a quantity (a number, maybe with a suffix like m, k, Mi)"
        )
    number, exponent, suffix = match.groups()
    value = Fraction(number)
    if exponent:
        return value * Fraction(10) ** int(exponent[1:])
    return value * _MULTIPLIERS[suffix] if suffix else value


def whole(quantity: Quantity) -> int:
    """The value in units (bytes, cores), rounded up as upstream's Quantity.Value() does."""
    return math.ceil(parse(quantity))


def milli(quantity: Quantity) -> int:
    """The value in thousandths (millicores), rounded up."""
    return math.ceil(parse(quantity) * 1000)


def canonical(quantity: Quantity) -> str:
    """The one way to write a quantity, as the API shows it: ``0.05`` as ``50m``, ``1.5Mi`` as ``1536Ki``.

    The notation (binary, decimal, exponent) stays, but for binary ones below 1Ki or with a fraction of a
    byte; what is finer than a billionth is rounded up (api/resource, CanonicalizeBytes). Raises ValueError
    for anything that is not a quantity.
    """
    value, text = parse(quantity), str(quantity).strip()
    sign, size = ("-", -value) if value < 0 else ("", value)
    size = Fraction(math.ceil(size * _BILLION), _BILLION)
    if text.endswith("i") and size >= 1024 and size.denominator == 1:
        return sign + binary(int(size))
    power, number = -3, math.ceil(size * _BILLION)
    while number and number % 1000 == 0 and power < len(_POWERS) - 4:
        power, number = power + 1, number // 1000
    if not number:
        return "0"
    if _EXPONENT.search(text):
        return f"{sign}{number}e{power * 3}" if power else f"{sign}{number}"
    return f"{sign}{number}{_POWERS[power + 3]}"


def binary(value: int) -> str:
    """Bytes as upstream prints them: the largest binary suffix that needs no fraction (``1536Ki``)."""
    for power, prefix in reversed(list(enumerate("KMGTPE", 1))):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{prefix}i"
    return str(value)


def decimal(value: int) -> str:
    """A count as upstream prints it: the largest decimal suffix that needs no fraction (``12k``)."""
    for power, prefix in reversed(list(enumerate("kMGTPE", 1))):
        if value and value % 1000**power == 0:
            return f"{value // 1000**power}{prefix}"
    return str(value)

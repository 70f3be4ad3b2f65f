"""Choosing the manifest of an index that runs here."""

from __future__ import annotations

from collections.abc import Sequence

from minikubelet.images.documents import Descriptor
from minikubelet.images.models import Platform

_VARIANTS = {"arm": ("v8", "v7", "v6", "v5"), "amd64": ("v4", "v3", "v2", "v1")}
"""Newest first: a machine runs its own and what follows."""
_DEFAULT_VARIANT = {"arm": "v7", "amd64": "v1"}
_ALIASES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}


def choose(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The best entry for ``wanted``; the first among equals; None where nothing fits.

    A variant that the machine has too (arm v7 runs v6) counts, less than its own. Entries without a platform
    fit only if there is just one entry: build attestations and the like are marked ``unknown/unknown``.
    """
    best: tuple[int, Descriptor] | None = None
    for entry in entries:
        rank = _rank(entry, wanted, alone=len(entries) == 1)
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, entry)
    return best[1] if best else None


def _rank(entry: Descriptor, wanted: Platform, alone: bool) -> int | None:
    platform = entry.platform
    if platform is None or not platform.architecture:
        return 100 if alone else None
    architecture = _ALIASES.get(platform.architecture, platform.architecture)
    if platform.os != wanted.os or architecture != wanted.architecture:
        return None
    return variant_rank(architecture, platform.variant, wanted.variant)


def variant_rank(architecture: str, variant: str, wanted: str) -> int | None:
    """0 for the wanted variant, larger for one that also runs, None for one that doesn't."""
    if architecture == "arm64":
        return 0 if variant in ("", "v8", wanted) else None
    order = _VARIANTS.get(architecture)
    if order is None:
        return 0 if variant == wanted else 1
    default = _DEFAULT_VARIANT[architecture]
    variant, wanted = variant or default, wanted or default
    if variant not in order or wanted not in order:
        return 0 if variant == wanted else None
    distance = order.index(variant) - order.index(wanted)
    return distance if distance >= 0 else None

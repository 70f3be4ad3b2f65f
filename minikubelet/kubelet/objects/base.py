"""What every API object shares: strict decoding, camelCase names, empty fields left out."""

from __future__ import annotations

from typing import Annotated

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Quantity = str | int | float
"""A resource quantity as it was written (``"500m"``, ``1``, ``"1Gi"``); see :mod:`quantity`."""
IntOrString = int | str


class Object(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of all API structs. Zero values stand for absent ones, as in the Go types."""

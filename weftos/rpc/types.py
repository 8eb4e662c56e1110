"""What methods of the control socket take where several take the same.

The rules of all parameters and results, whichever ``…_types`` has them: parameters refuse unknown fields, results are
flat, their keys are those of ``weaver --json`` and are never renamed. Times named ``timestamp`` or ``*_at`` are seconds
since 1970, spans are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

__all__ = [
    "Count",
    "CountParams",
    "NoParams",
]

#: How many rows a list may ask for; 0 means all that exist.
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class NoParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The method takes nothing."""


class CountParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest ``count`` rows; 0 means all."""

    count: Count = 20

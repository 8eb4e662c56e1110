"""One part of a sandbox, as it was found from inside."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["Measure", "MeasureState"]

#: ``enforced``: it was tried, and refused; ``partial``: part of it is; ``absent``: this machine does not have it, or it
#: failed; ``open``: the profile leaves it open.
MeasureState: TypeAlias = Literal["enforced", "partial", "absent", "open"]


class Measure(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one part of the confinement is worth.

    Attributes:
        name: of the part, for example ``files``.
        state: how much of it is in force.
        detail: what was seen, or why it is not in force.
    """

    name: str
    state: MeasureState
    detail: str = ""

"""What an action may do to the world, in five figures.

Why it is as it is: rules compare figures, so a figure that is missing, malformed, not a number or out of range must
never look harmless. It counts as the worst there is. A caller may say that his action is worse than the registry
thinks, never that it is better.

Guaranteed: every ``EffectVector`` has five finite figures from 0 to 1. Not guaranteed: that they are true.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, sqrt
from typing import Any, Final

import msgspec

from weftos.errors import InvalidRequest

__all__ = ["DIMENSIONS", "HARMLESS", "WORST", "EffectVector", "effect_of"]


class EffectVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Five figures from 0, nothing, to 1, the worst.

    Attributes:
        risk: of damage to what exists.
        fairness: of unequal treatment of people.
        privacy: of revealing what is somebody's own.
        novelty: how little is known of such actions.
        security: of weakening what protects.

    Raises:
        InvalidRequest: a figure is no finite number from 0 to 1.
    """

    risk: float = 0.0
    fairness: float = 0.0
    privacy: float = 0.0
    novelty: float = 0.0
    security: float = 0.0

    def __post_init__(self) -> None:
        for name in DIMENSIONS:
            value = getattr(self, name)
            if type(value) not in (int, float) or not isfinite(value) or not 0 <= value <= 1:
                raise InvalidRequest(f"the effect {name} is a number from 0 to 1, not {value!r:.40}")

    @property
    def magnitude(self) -> float:
        """Euclidean norm, from 0 to the square root of 5."""
        return sqrt(sum(getattr(self, name) ** 2 for name in DIMENSIONS))

    @property
    def worst_dimension(self) -> str:
        """Name of the largest figure, the first of equal ones."""
        return max(DIMENSIONS, key=lambda name: getattr(self, name))

    def any_exceeds(self, limit: float) -> bool:
        """Whether a figure is more than a limit."""
        return any(getattr(self, name) > limit for name in DIMENSIONS)

    def raised_by(self, other: EffectVector) -> EffectVector:
        """Return the larger figure of both in each dimension."""
        return EffectVector(*(max(getattr(self, name), getattr(other, name)) for name in DIMENSIONS))


DIMENSIONS: Final = ("risk", "fairness", "privacy", "novelty", "security")
WORST: Final = EffectVector(1.0, 1.0, 1.0, 1.0, 1.0)
HARMLESS: Final = EffectVector()


def effect_of(registered: EffectVector | None, claimed: object) -> tuple[EffectVector, str]:
    """Return the effect that counts, and why it is what it is.

    Args:
        registered: of the action, as the registry has it; ``None`` if it has none.
        claimed: what the caller says, a map of figures by dimension, or ``None`` for nothing.
    """
    if registered is None:
        return WORST, "nothing is registered for this action"
    if claimed is None:
        return registered, "as registered"
    if not isinstance(claimed, Mapping):
        return WORST, "the claimed effect is no map of figures"
    known: dict[str, Any] = dict(claimed)
    try:
        raised = registered.raised_by(msgspec.convert(known, EffectVector))
    except (msgspec.ValidationError, InvalidRequest, TypeError, RecursionError) as error:
        return WORST, f"the claimed effect is malformed: {error}"
    return raised, "as registered" if raised == registered else "raised by the caller"

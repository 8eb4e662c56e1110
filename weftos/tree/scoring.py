"""Six figures about a node, from 0 to 1, and the arithmetic over them.

Why it is as it is: the figures are part of a node's hash, so the same scores must give the same bits wherever and in
whatever order they are added up. Sums are rounded once (``math.fsum``, after Shewchuk 1997), so they do not depend on
the order; the result of a mean is brought back into the range, because rounding may leave it by one unit in the last
place. A figure outside the range is refused and not clipped: it is a mistake in the program that measured.

Guaranteed: no figure is NaN, infinite, outside [0, 1] or a negative zero.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from weftos.errors import NodeInvalid

__all__ = ["DEFAULT_SCORING", "DIMENSIONS", "Scoring", "aggregate"]

#: The figures, in the order that vectors, weights and hashes use.
DIMENSIONS: Final = ("trust", "performance", "difficulty", "reward", "reliability", "velocity")
_BYTES: Final = struct.Struct("<6d")
#: Below this a vector counts as zero and has no direction, and weights count as none.
_NOTHING: Final = 1e-12
_LARGEST: Final = sys.float_info.max


class Scoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The figures of one node, each from 0 to 1; one half says that nothing is known.

    Raises:
        NodeInvalid: one is no number or outside [0, 1].
    """

    trust: float = 0.5
    performance: float = 0.5
    difficulty: float = 0.5
    reward: float = 0.5
    reliability: float = 0.5
    velocity: float = 0.5

    def __post_init__(self) -> None:
        for name in DIMENSIONS:
            value = getattr(self, name)
            if not _is_number(value) or not 0.0 <= value <= 1.0:
                raise NodeInvalid(f"the score {name} lies in [0, 1], not {value!r}")
            # The sum with zero turns an int into a float and a negative zero into a positive one.
            msgspec.structs.force_setattr(self, name, value + 0.0)

    @property
    def values(self) -> tuple[float, float, float, float, float, float]:
        """The six figures in the order of ``DIMENSIONS``."""
        return (self.trust, self.performance, self.difficulty, self.reward, self.reliability, self.velocity)

    @property
    def magnitude(self) -> float:
        """The Euclidean length of the vector, from 0 to the square root of 6."""
        return math.hypot(*self.values)

    def to_bytes(self) -> bytes:
        """Return 48 bytes: six IEEE 754 binary64 numbers, little-endian."""
        return _BYTES.pack(*self.values)

    def blend(self, observation: Scoring, alpha: float) -> Scoring:
        """Return the exponentially weighted mean ``x (1 - alpha) + observation alpha`` of each figure.

        Args:
            observation: what was seen now.
            alpha: weight of the observation, from 0 to 1.

        Raises:
            NodeInvalid: ``alpha`` is no number or outside [0, 1].
        """
        if not _is_number(alpha) or not 0.0 <= alpha <= 1.0:
            raise NodeInvalid(f"the weight of an observation lies in [0, 1], not {alpha!r}")
        pairs = zip(self.values, observation.values, strict=True)
        return Scoring(*(_into_range(old * (1.0 - alpha) + new * alpha) for old, new in pairs))

    def cosine_similarity(self, other: Scoring) -> float:
        """Return the cosine of the angle between the two vectors, from 0 to 1; 0 if one of them is zero."""
        lengths = self.magnitude * other.magnitude
        if lengths < _NOTHING:
            return 0.0
        return _into_range(_dot(self.values, other.values) / lengths)

    def l2_distance(self, other: Scoring) -> float:
        """Return the Euclidean distance of the two vectors, from 0 to the square root of 6."""
        return math.dist(self.values, other.values)

    def weighted_score(self, weights: Sequence[float]) -> float:
        """Return the sum of the figures, each times its weight.

        Args:
            weights: six finite numbers, in the order of ``DIMENSIONS``; negative ones count against.

        Raises:
            NodeInvalid: there are not six, one is not finite, or the sum is not.
        """
        if len(weights) != len(DIMENSIONS) or not all(_is_number(weight) for weight in weights):
            raise NodeInvalid(f"the weights are six finite numbers, not {weights!r}")
        try:
            score = _dot(self.values, weights)
        except OverflowError as error:
            raise NodeInvalid(f"the weights {weights!r} are too large") from error
        if not math.isfinite(score):
            raise NodeInvalid(f"the weights {weights!r} are too large")
        return score

    def dominates(self, other: Scoring) -> bool:
        """Tell whether no figure is less than the other's and at least one is more (Pareto)."""
        pairs = list(zip(self.values, other.values, strict=True))
        return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


def aggregate(children: Iterable[Scoring]) -> Scoring:
    """Return the mean of scores, weighted by their rewards; it does not depend on their order.

    Returns:
        The default if there are none; the plain mean if no one has a reward.
    """
    vectors = [child.values for child in children]
    if not vectors:
        return DEFAULT_SCORING
    weights = [vector[DIMENSIONS.index("reward")] for vector in vectors]
    total = math.fsum(weights)
    if total <= _NOTHING:
        weights, total = [1.0] * len(vectors), float(len(vectors))
    columns = zip(*vectors, strict=True)
    return Scoring(*(_into_range(_dot(column, weights) / total) for column in columns))


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def _into_range(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _is_number(value: object) -> bool:
    # A comparison, because isfinite fails on an int that no float can hold.
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]


#: What a new node has.
DEFAULT_SCORING: Final = Scoring()

"""What an edge would do to the connectivity of a graph, and whether a course of values gets anywhere."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from weftos.errors import GraphRefused

__all__ = ["Course", "Impact", "Trend", "course_of", "impact", "rank"]


class Trend(enum.Enum):
    """Where a course of values goes."""

    TOO_EARLY = "TooEarly"
    CONVERGING = "Converging"
    DIVERGING = "Diverging"
    STUCK = "Stuck"
    OSCILLATING = "Oscillating"


class Course(msgspec.Struct, frozen=True):
    """A trend, its change per value, its change in all, and the largest step."""

    trend: Trend
    rate: float = 0.0
    net_change: float = 0.0
    max_swing: float = 0.0


class Impact(msgspec.Struct, frozen=True):
    """A candidate edge and the change of λ₂ that it would bring, to first order."""

    source: int
    target: int
    delta: float
    bridges: bool


def impact(fiedler: Mapping[int, float], source: int, target: int, weight: float) -> Impact:
    """Estimate what an edge would add to λ₂: weight · (φ_source - φ_target)²; a node not in the vector counts as 0.

    Raises:
        GraphRefused: the weight is not a number from 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise GraphRefused("a weight is a number from 0 to 1")
    a, b = fiedler.get(source, 0.0), fiedler.get(target, 0.0)
    return Impact(source, target, weight * (a - b) ** 2, a * b < 0 and min(abs(a), abs(b)) > 1e-12)


def rank(fiedler: Mapping[int, float], candidates: Iterable[tuple[int, int, float]]) -> list[Impact]:
    """Candidates (source, target, weight) by their impact, the largest first, equal ones by their nodes."""
    found = [impact(fiedler, *candidate) for candidate in candidates]
    return sorted(found, key=lambda one: (-one.delta, one.source, one.target))


def course_of(values: Sequence[float], window: int, threshold: float) -> Course:
    """Judge the last ``window`` values; steps smaller than ``threshold`` do not count."""
    if window < 2 or len(values) < window:
        return Course(Trend.TOO_EARLY)
    last = values[len(values) - window :]
    if not all(map(math.isfinite, last)):
        raise GraphRefused("a course is judged by finite numbers alone")
    steps = [b - a for a, b in itertools.pairwise(last) if abs(b - a) >= threshold]
    net = last[-1] - last[0]
    swing = max(map(abs, steps), default=0.0)
    if not any(steps):
        return Course(Trend.STUCK, 0.0, net, swing)
    both = min(steps) < 0 < max(steps)
    if both and abs(net) < threshold:
        return Course(Trend.OSCILLATING, 0.0, net, swing)
    return Course(Trend.CONVERGING if net > 0 else Trend.DIVERGING, abs(net) / window, net, swing)
